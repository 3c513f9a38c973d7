"""A grammar may be hostile: time, memory and size are bounded, and nothing is paid twice."""

import gc
import random
import subprocess
import time
import weakref

import pytest
from decodekit_grammar import Choice, JsonSchema, Lark, Regex, compiler, vocabulary

from decodekit.bundle import EMBEDDED
from decodekit.errors import ParameterError, StrategyError
from decodekit.history import Sequence
from decodekit.tokenizer import Tokenizer

BOMBS = {
    "(a{1,1000}){1,1000}": Regex("(a{1,1000}){1,1000}"),
    "a{1,1000000}": Regex("a{1,1000000}"),
    "x{1,1000000} in Lark": Lark('start: "x"{1,1000000}'),
    "exponential states": Regex("(a|b)*a(a|b){60}"),
    "all pairs": JsonSchema(
        {"allOf": [{"anyOf": [{"properties": {f"{j}": {"const": i}}} for i in range(10)]} for j in range(6)]}
    ),
    "nested parentheses": Regex("(" * 20_000 + "a" + ")" * 20_000),
    "nested groups in Lark": Lark("start: " + "(" * 20_000 + '"a"' + ")" * 20_000),
    "a long list": JsonSchema({"enum": [str(i) for i in range(30_000)]}),
    "arrays of arrays": JsonSchema(
        {
            "type": "array",
            "minItems": 900,
            "items": {"type": "array", "minItems": 900, "items": {"type": "null"}},
        }
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_compiles_or_is_refused_in_bounds(name, tokenizer, allowed):
    began = time.monotonic()
    try:
        bound = BOMBS[name].bind(tokenizer)
    except ParameterError as exc:
        assert "\n" not in str(exc) and len(str(exc)) < 400
        return
    row, state = Sequence([1]), bound.init(1)
    for _ in range(20):  # and its steps are bounded too
        try:
            ways = allowed(bound, row, state)
        except StrategyError as exc:
            assert "too complex" in str(exc)
            break
        if set(ways) <= tokenizer.stop_ids:
            break
        row.append(min(ways))
    assert time.monotonic() - began < 5


def test_time_runs_out(tokenizer, monkeypatch):
    monkeypatch.setattr(compiler, "SECONDS", 1)
    many = JsonSchema({"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(9_000)}})
    began = time.monotonic()
    with pytest.raises(ParameterError, match=r"json_schema: schema: it takes .*1 s.*; make it smaller"):
        many.bind(tokenizer)
    assert time.monotonic() - began < 4


def test_memory_runs_out(tokenizer, monkeypatch):
    monkeypatch.setattr(compiler, "MEMORY", 48 << 20)
    Regex("little").bind(tokenizer)
    many = JsonSchema({"type": "object", "properties": {f"p{i}": {} for i in range(3_000)}})
    with pytest.raises(ParameterError, match=r"json_schema: schema: it takes too much to compile .*MiB"):
        many.bind(tokenizer)


@pytest.mark.parametrize("make", [Regex, Lark, lambda text: Choice([text])], ids=["regex", "lark", "choice"])
def test_a_text_may_be_so_long(make):
    with pytest.raises(ParameterError, match=r"at most 262,144 bytes, got 3\d\d,\d\d\d"):
        make("a" * 300_000)


def test_the_second_time_nothing_is_compiled(tokenizer, monkeypatch):
    Regex("second|time").bind(tokenizer)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("compiled again"))
    Regex("second|time").bind(tokenizer)


def test_a_refusal_is_remembered_but_not_what_the_clock_decided(tokenizer, monkeypatch):
    with pytest.raises(ParameterError, match="unclosed group"):
        Regex("never(").bind(tokenizer)

    def too_late(*_, **__):
        raise subprocess.TimeoutExpired("compile", 10)

    monkeypatch.setattr(subprocess, "run", too_late)
    with pytest.raises(ParameterError, match="unclosed group"):
        Regex("never(").bind(tokenizer)
    with pytest.raises(ParameterError, match="takes longer than 10 s to compile"):
        Regex("later").bind(tokenizer)
    monkeypatch.undo()
    Regex("later").bind(tokenizer)


def test_an_expression_that_learnt_too_much_starts_anew(tokenizer, allowed, monkeypatch):
    monkeypatch.setitem(compiler.LIMITS, "max_lexer_states", 400)
    grammar, rng, failed = Regex("(a|b)*a(a|b){50}"), random.Random(0), 0
    for _ in range(12):
        bound, row = grammar.bind(tokenizer), Sequence([1])
        state = bound.init(1)
        try:
            for _ in range(60):
                row.append(
                    rng.choice([id for id in allowed(bound, row, state) if id not in tokenizer.stop_ids])
                )
        except StrategyError as exc:
            assert "too many states" in str(exc) and "\n" not in str(exc)
            failed += 1
    assert 0 < failed < 12, "an answer that comes to the bound fails, the next may not"


def test_a_tokenizer_is_read_once_and_let_go():
    mine = Tokenizer(EMBEDDED / "tagline" / "tokenizer.json", [0])
    assert vocabulary.vocabulary(mine, "regex") is vocabulary.vocabulary(mine, "regex")
    gone = weakref.ref(mine)
    Regex("a+").bind(mine)
    del mine
    gc.collect()
    assert gone() is None
