"""Schemas: what a strategy takes, as JSON Schema, read off its signature."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from decodekit import LogitsProcessor
from decodekit.parameters import Real, Whole
from decodekit.plugins import summary
from decodekit.schema import labels, schema
from decodekit.strategies.top_p import TopP


@dataclass(frozen=True)
class Loose(LogitsProcessor):
    """Takes every p, and at the one it calls neutral it changes something."""

    p: Annotated[float, Real("[0, 1]", "a share", neutral=0)] = 0.5


def test_a_schema_has_domains_and_defaults():
    found = schema(Loose)
    assert found["properties"]["p"] == {
        "type": "number",
        "minimum": 0.0,
        "maximum": 1.0,
        "description": "a share",
        "x-neutral": 0,
        "default": 0.5,
    }
    assert found["required"] == [] and found["additionalProperties"] is False


def test_schemas_are_what_json_schema_knows(run):
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema, of decodekit[test]")
    for kind in json.loads(run("plugins", "schema")[1]).values():
        for found in kind.values():
            jsonschema.Draft202012Validator.check_schema(found)
    top_p = json.loads(run("plugins", "schema", "top_p")[1])
    validator = jsonschema.Draft202012Validator(top_p)
    assert validator.is_valid({"p": 0.9})
    assert not any(map(validator.is_valid, [{}, {"p": 1.1}, {"p": "0.9"}, {"p": 0.9, "q": 1}]))


def test_labelled_lines_are_read():
    assert labels(TopP)["neutral"] == "p = 1"
    assert labels(Loose) == {} and summary(Loose).startswith("Takes every p")


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Sequence[str], {"type": "array", "items": {"type": "string"}}),
        (Collection[int], {"type": "array", "items": {"type": "integer"}}),
        (tuple[float, ...], {"type": "array", "items": {"type": "number"}}),
        (Mapping[int, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (Annotated[int, Whole("(2, inf)")], {"type": "integer", "exclusiveMinimum": 2}),
        (
            Annotated[int | None, Whole("[0, 9)", "tokens")],
            {
                "anyOf": [{"type": "integer"}, {"type": "null"}],
                "minimum": 0,
                "exclusiveMaximum": 9,
                "description": "tokens",
            },
        ),
        (object, {}),
    ],
)
def test_types_are_spelt_as_json_schema_does(annotation, expected):
    def factory(option): ...

    factory.__annotations__["option"] = annotation
    assert schema(factory)["properties"]["option"] == expected
    assert schema(factory)["required"] == ["option"]


def test_labelled_lines_go_on_where_they_are_indented():
    def factory():
        """Summary.

        formula   a
                  and b
        ties      none

        State: mu.
        """

    assert labels(factory) == {"formula": "a and b", "ties": "none"}
    assert summary(factory) == "Summary."


def test_show_tells_options_and_definition(run):
    shown = " ".join(run("plugins", "show", "top_p")[1].split())
    assert "built in" in shown and '"x-neutral": 1' in shown and "ICLR 2020" in shown
    status, _, err = run("plugins", "show", "decodekit")  # a distribution has no schema
    assert status == 2 and "no strategy or distribution is called 'decodekit'" in err
    status, _, err = run("plugins", "schema", "stop_string")
    assert status == 2 and "did you mean 'stop_strings'?" in err
