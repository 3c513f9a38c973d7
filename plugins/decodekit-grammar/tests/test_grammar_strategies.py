import json
import re

import numpy as np
import pytest
from decodekit_grammar import Choice, JsonSchema, Lark, Regex, ToolCall
from jsonschema import Draft202012Validator

from decodekit.errors import ParameterError
from decodekit.history import Sequence
from decodekit.processors import Step
from decodekit.strategies.temperature import Temperature
from decodekit.testing import check_logits_processor

PATTERNS = [
    r"[a-c]{2,5}",
    r"(yes|no)( maybe)*\.",
    r"\d{1,3}(,\d{3})*",
    r"[a-zé]{1,20} 猫{2}🐈?",
    r"(?i)the cat|ç[aà]",
    r"a?",
    r"\{[^}]*\}",
    r"(.|\n){0,12}x",
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "of a town",
            "parameters": {
                "$defs": {"town": {"type": "string", "maxLength": 6}},
                "type": "object",
                "properties": {"town": {"$ref": "#/$defs/town"}, "days": {"type": "integer", "minimum": 1}},
                "required": ["town"],
                "additionalProperties": False,
            },
            "strict": True,
        },
    },
    {"name": "now"},
]


@pytest.mark.parametrize(
    "grammar",
    [
        Regex("(?s:.*)"),
        JsonSchema({}),
        Lark("start: /(?s:.*)/"),
        Choice(["!", "yes", "no", "#"]),
        ToolCall(TOOLS),
    ],
    ids=lambda grammar: grammar.name,
)
def test_every_strategy_keeps_the_contract(grammar, tokenizer):
    bound = grammar.bind(tokenizer)
    if grammar.name == "regex":  # the law's histories hold ids 2, 3 and 4: any text begins so
        check_logits_processor(bound, vocab=tokenizer.size)
    logits = np.random.default_rng(0).standard_normal((2, tokenizer.size)).astype(np.float32)
    rows = (Sequence([1]).history(), Sequence([2, 3]).history())
    out = bound.process(logits, Step.dense(rows, tokenizer.size), bound.init(2))
    assert np.array_equal(out[0] > -np.inf, out[1] > -np.inf), "the prompt does not count"
    assert np.array_equal(out[out > -np.inf], logits[out > -np.inf])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_answer_matches_the_expression_as_a_whole(pattern, answers):
    for text in answers(Regex(pattern), 24):
        assert re.fullmatch(pattern, text), text


@pytest.mark.parametrize(
    "texts", [["yes", "no", "maybe"], ["a", "ab", "abc"], ["*.[x]?", "1+1", 'a "b"\n', "猫"]]
)
def test_an_answer_is_one_of_the_choices(texts, answers):
    given = answers(Choice(texts), 90, after=(Temperature(20),))
    assert set(given) == set(texts), "each of them can be chosen, and nothing else"


def test_an_answer_is_a_sentence_of_the_grammar(answers):
    sums = Lark('start: sum\nsum: item ("+" item)*\nitem: NUMBER | "(" sum ")"\nNUMBER: /[1-9][0-9]?/')
    for text in answers(sums, 30):
        assert re.fullmatch(r"[\d+()]+", text)
        assert text.count("(") == text.count(")") and "()" not in text and "++" not in text


def test_a_schema_in_a_grammar_is_checked_as_any(fits):
    called = Lark('start: "call " %json {"properties": {"n": {"type": "integer"}}, "type": "object"} "!"')
    assert fits(called, 'call {"n": 1}!') and not fits(called, 'call {"n": "x"}!')
    assert not fits(called, r'call {"\u006e": "x"}!')
    with pytest.raises(ParameterError, match=r"lark: %json at character 7: not cannot be enforced"):
        Lark('start: %json {"not": {}}')
    with pytest.raises(ParameterError, match=r"lark: %json at character 7 has no JSON behind it"):
        Lark("start: %json nothing")


def test_a_special_token_stands_in_a_grammar_by_its_name(tokenizer, allowed):
    bound = Lark('start: <think> "a"').bind(tokenizer)
    think, row, state = tokenizer.id("<think>"), Sequence([1]), bound.init(1)
    assert allowed(bound, row, state) == [think]
    row.append(think)
    assert allowed(bound, row, state) == tokenizer.encode("a")
    assert tokenizer.id("<think>") not in allowed(Regex("(?s:.*)").bind(tokenizer), row, state)


def test_a_call_is_one_of_a_tool_with_its_arguments(answers):
    arguments = TOOLS[0]["function"]["parameters"]
    names = set()
    for text in answers(ToolCall(TOOLS), 24):
        call = json.loads(text)
        names.add(call["name"])
        assert list(call) == ["name", "arguments"]
        if call["name"] == "weather":
            Draft202012Validator(arguments).validate(call["arguments"])
        else:
            assert call["arguments"] == {}
    assert names == {"weather", "now"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Regex(3), r"regex: pattern must be a text, got 3; .*double quotes"),
        (lambda: Regex("\ud800"), "regex: .*lone surrogate"),
        (lambda: Choice("yes"), r"choice: texts must be a list of non-empty texts.*got 'yes'"),
        (lambda: Choice([]), r"choice: texts must be a list"),
        (lambda: Choice(["a", ""]), r"choice: texts must be a list of non-empty"),
        (lambda: Choice(["a", "b", "a"]), r"choice: texts must differ, got 'a' twice"),
        (lambda: Lark(""), "lark: grammar_text must be the text of a Lark grammar"),
        (lambda: Lark('{"grammars": []}'), "lark: grammar_text must be the text of a Lark grammar"),
        (
            lambda: JsonSchema({}, -1),
            r"json_schema: whitespace must be one of 'none', 'blank', 'lines', got -1",
        ),
        (lambda: ToolCall([]), "tool_call: tools must be a list of functions"),
        (lambda: ToolCall([{"type": "web"}]), r"tool_call: tools\[0\] must be .*function"),
        (lambda: ToolCall([{"name": ""}]), r"tool_call: tools\[0\] must name its function"),
        (lambda: ToolCall([{"name": "a", "x": 1}]), r"tool_call: tools\[0\] has 'x', which no function has"),
        (lambda: ToolCall([{"name": "a"}] * 2), "tool_call: tools must have different names, got a, a"),
        (
            lambda: ToolCall([{"name": "a", "parameters": {"items": {"not": {}}}}]),
            r"tool_call: tools\[0\].parameters/items: not cannot be enforced",
        ),
        (
            lambda: ToolCall([{"name": "a", "parameters": {"$id": "x"}}]),
            r"\$id and \$anchor mean nothing here",
        ),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ParameterError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        (Regex("a("), "regex: pattern: unclosed group"),
        (Regex(r"(a)\1"), "regex: pattern: backreferences are not supported"),
        (Regex(r"\bfoo"), "regex: pattern: .*lookarounds not supported"),
        (Regex(r"[^\s\S]"), "regex: pattern: it matches no text at all"),
        (Lark("start: foo"), 'lark: grammar_text: .*unknown name: "foo"'),
        (Lark('start: start "a"'), "lark: grammar_text: it matches no text at all"),
        (Lark('begin: "a"'), "lark: grammar_text: .*start"),
    ],
    ids=str,
)
def test_a_grammar_that_does_not_compile_says_why(grammar, message, tokenizer):
    with pytest.raises(ParameterError, match=message) as error:
        grammar.bind(tokenizer)
    assert "\n" not in str(error.value)
