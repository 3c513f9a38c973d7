import pytest
from decodekit_grammar import JsonSchema

from decodekit.errors import ParameterError

REFUSED = {
    '{"not": {}}': "json_schema: schema: not cannot be enforced",
    '{"items": {"uniqueItems": true}}': "json_schema: schema/items: uniqueItems cannot be enforced",
    '{"properties": {"a": {"if": {}}}}': "schema/properties/a: if cannot be enforced",
    '{"anyOf": [{}, {"patern": "x"}]}': r"schema/anyOf/1: there is no keyword 'patern' .*mean 'pattern'",
    '{"x-guidance": {"lenient": true}}': "x-guidance cannot be enforced",
    '{"nullable": true}': "nullable cannot be enforced",
    '{"additionalItems": false}': "additionalItems cannot be enforced",
    '{"dependencies": {}}': "dependencies cannot be enforced",
    '{"$defs": {"a": {"contains": {}}}}': r"schema/\$defs/a: contains cannot be enforced",
    '{"type": "string", "format": "regex"}': "format 'regex' cannot be enforced, only date",
    '{"type": "object", "minProperties": 2}': "minProperties 2 cannot be enforced, since",
    '{"const": 9007199254740994}': "const beyond 2.53 cannot be enforced exactly",
    '{"maximum": -1e20}': "maximum beyond 2.53 cannot be enforced exactly",
    '{"items": {"$id": "x"}}': r"schema/items: \$id is understood at the top only",
    '{"items": [{}]}': r"schema/items must be a schema, .*got \[",
    '{"a": 1, "a": 2}': "must be JSON .*twice",
    '{"maximum": NaN}': "must be JSON .*NaN",
    r'{"const": "a\u0001b"}': "const has a control character",
    r'{"enum": [["\u007f"]]}': "enum has a control character",
    r'{"properties": {"a\u0001": {}}}': "properties has a control character",
    r'{"pattern": "a\\x01b"}': "a pattern names a control character",
    r'{"pattern": "a\\x0141"}': "a pattern names a control character",
    r'{"pattern": "a\\u{7F}b"}': "a pattern names a control character",
    r'{"pattern": "\\\\\\vb"}': "a pattern names a control character",
    r'{"patternProperties": {"\u001f": {}}}': "patternProperties has a control character",
    "[1]": "schema must be a JSON object or the text of one",
    "{": "schema must be JSON",
    "[" * 100_000: "schema must be JSON",
    '{"items": ' * 200 + "{}" + "}" * 200: "nested more than 100 deep",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
def test_a_schema_that_cannot_be_enforced_whole_is_refused(text):
    with pytest.raises(ParameterError, match=REFUSED[text]) as error:
        JsonSchema(text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("schema", [True, None, 3, ["a"], {"const": float("nan")}, {"const": {1}}], ids=repr)
def test_a_schema_is_an_object(schema):
    with pytest.raises(ParameterError, match="json_schema: schema must be"):
        JsonSchema(schema)


UNSATISFIABLE = [
    ({"type": "string", "minLength": 3, "maxLength": 2}, "minLength"),
    (
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        "required property 'a' is unsatisfiable",
    ),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf can be enforced only where .* write anyOf"),
    ({"$ref": "http://example.com/schema"}, "example.com"),
    ({"$ref": "#/$defs/none"}, "does not exist"),
    ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "matches no text at all"),
    ({"type": "strin"}, "Invalid type: strin"),
    ({"minLength": -1, "type": "string"}, "minLength"),
    ({"type": "string", "pattern": "(?=a)"}, "look-around"),
]


@pytest.mark.parametrize(("schema", "message"), UNSATISFIABLE, ids=str)
def test_what_the_compiler_cannot_do_is_an_error_that_says_so(schema, message, tokenizer):
    with pytest.raises(ParameterError, match=rf"^json_schema: schema: .*{message}") as error:
        JsonSchema(schema).bind(tokenizer)
    assert "\n" not in str(error.value)
