import json

import pytest
from decodekit_grammar import JsonSchema
from jsonschema import Draft202012Validator

from decodekit.errors import ParameterError

SCHEMAS = {
    "nested": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 8},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "home": {
                "type": "object",
                "properties": {
                    "street": {"type": "string"},
                    "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
                },
                "required": ["zip"],
                "additionalProperties": False,
            },
        },
        "required": ["name", "home"],
        "additionalProperties": False,
    },
    "enum": {"enum": ["red", "green", 3, None, {"a": [1, 2]}, "naïve"]},
    "array": {"type": "array", "items": {"type": "integer", "minimum": -5}, "minItems": 2, "maxItems": 4},
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "string"}, {"type": "boolean"}],
        "items": {"type": "null"},
        "minItems": 2,
    },
    "numbers": {
        "type": "object",
        "properties": {
            "half": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "seven": {"type": "integer", "multipleOf": 7},
            "any": {"type": "number", "maximum": 1000},
        },
        "required": ["half", "seven", "any"],
        "additionalProperties": False,
    },
    "pattern": {"type": "string", "pattern": "^(ab|c)+[^a]$"},
    "open": {"type": "object", "properties": {"name": {"type": "integer"}}, "required": ["age"]},
    "map": {
        "type": "object",
        "patternProperties": {"^n": {"type": "integer"}},
        "additionalProperties": {"type": "boolean"},
        "minProperties": 1,
    },
    "any of": {
        "anyOf": [
            {
                "type": "object",
                "properties": {"k": {"const": "a"}, "v": {"type": "integer"}},
                "required": ["k", "v"],
            },
            {"type": "array", "items": {"type": "string"}},
        ]
    },
    "one of": {
        "oneOf": [
            {"type": "object", "properties": {"k": {"const": c}, c: {"type": t}}, "required": ["k", c]}
            for c, t in (("a", "integer"), ("b", "string"))
        ]
    },
    "union": {  # as libraries write a tagged union
        "$defs": {
            "cat": {
                "type": "object",
                "properties": {"kind": {"const": "cat", "type": "string"}, "lives": {"type": "integer"}},
                "required": ["kind"],
            },
            "dog": {
                "type": "object",
                "properties": {"kind": {"enum": ["dog", "pup"]}, "name": {"type": "string"}},
                "required": ["kind", "name"],
            },
        },
        "oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}, {"type": ["null", "integer"]}],
        "discriminator": {"propertyName": "kind"},
    },
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"minimum": 3}}, "required": ["a"]},
            {"properties": {"a": {"type": "integer", "maximum": 9}}},
        ]
    },
    "recursive": {
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {
                    "v": {"type": "integer"},
                    "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
                },
                "required": ["v"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/tree",
    },
    "formats": {
        "type": "array",
        "prefixItems": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "uuid"}],
        "items": False,
        "minItems": 2,
    },
    "anything": {},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_answer_is_valid(name, answers):
    schema = SCHEMAS[name]
    check = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    for text in answers(JsonSchema(schema), 16):
        check.validate(json.loads(text))


@pytest.mark.parametrize("name", ["nested", "recursive"])
def test_a_schema_is_the_same_as_its_text(name, walk):
    schema = SCHEMAS[name]
    assert walk(JsonSchema(schema), 3) == walk(JsonSchema(json.dumps(schema)), 3)


def test_properties_come_in_the_order_of_the_schema(answers):
    schema = {"type": "object", "properties": {"b": {"const": 1}, "a": {"const": 2}}, "required": ["a", "b"]}
    for text in answers(JsonSchema(schema | {"additionalProperties": False}), 4):
        assert list(json.loads(text)) == ["b", "a"]


@pytest.mark.parametrize(
    ("schema", "text", "fit"),
    [
        ({}, '{"a": [1, {}]}', True),
        ({}, ' {"a": 1}', False),
        ({}, "{} ", False),
        ({}, "{} {}", False),
        ({"type": "string"}, '"\U0001f408 \u00e9 \\n \\""', True),
        ({"type": "string"}, '"\n"', False),
        ({"type": "string"}, '"\\u0041"', False),
        ({"type": "string", "maxLength": 1}, '"\U0001f408"', True),
        ({"type": "string", "maxLength": 1}, '"\U0001f408\U0001f408"', False),
        ({"const": "a\tb\u0080"}, '"a\\tb\u0080"', True),
        ({"type": "string", "pattern": r"^a\\x01b$"}, r'"a\\x01b"', True),
        ({"type": "integer"}, "-0", True),
        ({"type": "integer"}, "01", False),
        ({"type": "number"}, "-1.5e-7", True),
        ({"type": "number"}, "NaN", False),
        ({"type": "number", "maximum": 5}, "5", True),
        ({"type": "number", "exclusiveMaximum": 5}, "5", False),
        ({"type": "object", "minProperties": 1}, "{}", False),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "const": 3}, "4", False),
        ({"type": "array", "uniqueItems": False}, "[1, 1]", True),
    ],
)
def test_what_is_an_answer(schema, text, fit, fits):
    assert fits(JsonSchema(schema), text) is fit


def test_one_of_is_not_weakened(tokenizer):
    cat = {"type": "object", "properties": {"kind": {"const": "cat"}}, "required": ["kind"]}
    for other in (
        cat | {"properties": {}},  # kind may be cat
        cat | {"required": []},  # kind may be missing
        cat | {"properties": {"kind": {"enum": ["dog", "cat"]}}},
        {"properties": {"kind": {"const": "dog"}}, "required": ["kind"]},  # may be no object at all
        {},
    ):
        union = {"$defs": {"a": cat, "b": other}, "oneOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}]}
        with pytest.raises(ParameterError, match="oneOf can be enforced only where"):
            JsonSchema(union).bind(tokenizer)


@pytest.mark.parametrize("key", [r"\u006eame", r"n\u0061me", r"nam\u0065"])
def test_no_spelling_of_a_key_escapes_its_schema(key, fits):
    open_to_others = JsonSchema({"type": "object", "properties": {"name": {"type": "integer"}}})
    assert fits(open_to_others, '{"nam": "x"}') and not fits(open_to_others, '{"name": "x"}')
    assert not fits(open_to_others, f'{{"{key}": "x"}}')
    by_pattern = JsonSchema({"type": "object", "patternProperties": {"^name$": {"type": "integer"}}})
    assert not fits(by_pattern, f'{{"{key}": "x"}}')


@pytest.mark.parametrize(
    ("whitespace", "text", "fit"),
    [
        ("none", '{"a":1}', True),
        ("none", '{"a": 1}', False),
        ("blank", '{"a":1}', True),
        ("blank", '{ "a" : 1 }', True),
        ("blank", '{"a":  1}', False),
        ("blank", '{\n"a": 1}', False),
        ("lines", '{\n    "a": 1\n}', True),
        ("lines", '{\n\n"a": 1}', False),
        ("lines", "{\n" + " " * 41 + '"a": 1}', False),
    ],
)
def test_blanks_between_parts_are_bounded(whitespace, text, fit, fits):
    assert fits(JsonSchema({"type": "object"}, whitespace), text) is fit
