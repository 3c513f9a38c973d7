"""Every field of every API, enumerated from the parameters: bounded, refused by name, never a failure."""

import typing

import pytest
from decodekit_server.endpoint import Endpoint
from decodekit_server.params.fields import Extras
from starlette.routing import Route

MESSAGES = [{"role": "user", "content": "x"}]
LEAST = {  # that each route answers
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 1},
    "/v1/completions": {"prompt": "x", "max_tokens": 1},
    "/v1/responses": {"input": "x", "max_output_tokens": 1},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 1},
    "/v1/messages/count_tokens": {"messages": MESSAGES},
    "/v1/score": {"text": "x"},
    "/tokenize": {"prompt": "x"},
    "/detokenize": {"tokens": [300]},
}
ELSEWHERE = {"E_TEMPLATE", "E_PROMPT", "E_CONTEXT"}  # what the model knows nothing of has words of its own
ODD = [True, -1, 1.5, 1e300, 2**70, "", "x", "\0\U0001f600", [], {}, [[]], [None], {"": 0}, {"type": "x"}]


@pytest.fixture(scope="module")
def params(server):
    """The parameters of each route."""
    found = [r for r in server.app.routes if isinstance(r, Route) and isinstance(r.endpoint, Endpoint)]
    assert {route.path for route in found} == LEAST.keys()
    return {route.path: route.endpoint.params for route in found}


def post(http, path, fields):
    return http.post(path, json={"model": "tagline"} | LEAST[path] | fields)


def optional(model):
    return [name for name, field in model.model_fields.items() if not field.is_required()]


def only_none(annotation):
    return annotation is type(None) or annotation is None


@pytest.mark.parametrize("path", [path for path in LEAST if path.startswith("/v1/") and "score" not in path])
def test_nothing_asked_for_is_what_null_says(http, params, path):
    fields = {name: None for name in optional(params[path]) if name not in LEAST[path]}
    assert post(http, path, fields).status_code == 200


def test_what_an_api_has_and_this_server_does_not_is_refused_by_name(http, params):
    seen = 0
    for path, model in params.items():
        for name in [name for name, field in model.model_fields.items() if only_none(field.annotation)]:
            answer = post(http, path, {name: "x"})
            error = answer.json()["error"]
            assert answer.status_code == 400 and error["message"].startswith(f"{name}: is not supported here")
            seen += 1
    assert seen > 30


def test_a_neutral_value_is_taken_and_its_opposite_refused(http, params):
    """Of fields that have one value alone."""
    seen = 0
    for path, model in params.items():
        for name, field in model.model_fields.items():
            for part in typing.get_args(field.annotation) if not only_none(field.annotation) else ():
                if typing.get_origin(part) is not typing.Literal:
                    continue
                (value, *others) = typing.get_args(part)
                opposite = not value if isinstance(value, bool) else f"{value} not"
                assert post(http, path, {name: value}).status_code == 200, (path, name, value)
                if not others:
                    answer = post(http, path, {name: opposite})
                    assert answer.status_code == 400 and answer.json()["error"]["message"].startswith(name)
                seen += 1
    assert seen > 12


@pytest.mark.parametrize("path", LEAST)
def test_a_field_that_there_is_not_is_named(http, path):
    for name in ("nonsense", "x y", "__class__", "decodekit.seed"):
        answer = post(http, path, {name: 1})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "E_UNKNOWN_FIELD" and error["message"].startswith(f"{name}: no such field")


def test_an_odd_value_in_any_field_is_no_failure_of_the_server(http, params):
    """Some are right somewhere. The others are told by the name of the field."""
    seen = 0
    for path, model in params.items():
        places = [(name, lambda value, name=name: {name: value}) for name in model.model_fields]
        if "decodekit" in model.model_fields:
            places += [
                (name, lambda value, name=name: {"decodekit": {name: value}}) for name in Extras.model_fields
            ]
        for name, fields in places:
            for value in ODD:
                answer = post(http, path, fields(value))
                assert answer.status_code in (200, 400, 404), (path, name, value, answer.text)
                if answer.status_code == 400:
                    error = answer.json()["error"]
                    assert name in error["message"] or error["code"] in ELSEWHERE, (path, name, value, error)
                    assert len(answer.text) < 1000
                seen += 1
    assert seen > 2000


def test_every_list_text_and_number_has_a_bound(http):
    """What is an object of any kind is bounded by the body's size and number of values."""
    unbounded = []
    found = http.get("/openapi.json").json()["components"]["schemas"]
    for name, schema in found.items():
        if name != "Error":
            unbounded += [f"{name}{place}" for place in open_ends(schema, "")]
    assert unbounded == []


def open_ends(schema, place):
    """Places in a schema where as much may stand as somebody likes."""
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    fixed = schema.keys() & {"enum", "const"}
    if kind == "array" and "maxItems" not in schema:
        yield place
    if kind == "string" and not fixed and not schema.keys() & {"maxLength", "pattern"}:
        yield place
    if kind in ("integer", "number") and not fixed:
        if not schema.keys() & {"minimum", "exclusiveMinimum"}:
            yield f"{place} from below"
        if not schema.keys() & {"maximum", "exclusiveMaximum"}:
            yield f"{place} from above"
    for key in ("items", "additionalProperties"):
        yield from open_ends(schema.get(key), f"{place}.{key}")
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from open_ends(part, place)
    for name, part in schema.get("properties", {}).items():
        yield from open_ends(part, f"{place}.{name}")
