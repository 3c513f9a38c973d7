"""Where an answer may end, characters over several tokens, forced tokens, going back, and what goes wrong."""

import re

import numpy as np
import pytest
import tokenizers
from decodekit_grammar import Choice, JsonSchema, Regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from decodekit.edits import apply_mask, mask_of
from decodekit.errors import ContractError, ParameterError, StrategyError
from decodekit.history import Sequence
from decodekit.processors import Step
from decodekit.strategies.min_new_tokens import MinNewTokens
from decodekit.strategies.top_k import TopK
from decodekit.tokenizer import Tokenizer


def test_stop_tokens_are_allowed_exactly_where_the_answer_may_end(tokenizer, allowed):
    bound, row = Regex("a{2,3}").bind(tokenizer), Sequence([1])
    (a,), state, seen = tokenizer.encode("a"), bound.init(1), []
    for _ in range(4):
        ways = set(allowed(bound, row, state))
        seen.append((a in ways, tokenizer.stop_ids <= ways, bool(tokenizer.stop_ids & ways)))
        row.append(a)
    assert seen == [(True, False, False), (True, False, False), (True, True, True), (False, True, True)]


def test_after_a_stop_token_only_stop_tokens_follow(tokenizer, allowed):
    bound, row = Regex("a*").bind(tokenizer), Sequence([1])
    row.append(max(tokenizer.stop_ids))
    assert set(allowed(bound, row, bound.init(1))) == tokenizer.stop_ids


def test_a_stop_token_with_a_text_is_not_part_of_an_answer(tokenizer, tmp_path):
    (newline,) = tokenizer.encode("\n")
    path = tmp_path / "tokenizer.json"
    tokenizer._tokenizer.save(str(path))
    lines = Tokenizer(path, [newline])
    bound, row = Regex("a\n?").bind(lines), Sequence([1])
    state, logits = bound.init(1), np.zeros((1, lines.size), np.float32)
    begin = bound.process(logits, Step.dense((row.history(),), lines.size), state)[0]
    row.append(lines.encode("a")[0])
    then = bound.process(logits, Step.dense((row.history(),), lines.size), state)[0]
    assert not np.isfinite(begin[newline]) and np.flatnonzero(np.isfinite(then)).tolist() == [newline]


def test_a_character_may_lie_over_several_tokens(tokenizer, allowed):
    cat, bee = "🐈".encode(), "🐝".encode()
    single = {tokenizer.token_bytes[id]: id for id in range(256)}
    bound, row = Regex("🐝").bind(tokenizer), Sequence([1])
    state, common = bound.init(1), 0
    while cat[common] == bee[common]:
        common += 1
    for byte in bee:
        ways = allowed(bound, row, state)
        assert all(tokenizer.token_bytes[id][:1] == bytes([byte]) for id in ways) and ways
        row.append(single[bytes([byte])])
    assert set(allowed(bound, row, state)) == tokenizer.stop_ids


def test_an_answer_never_ends_inside_a_character(answers):
    for text in answers(Regex(r"[猫🐈é]{1,4}"), 30, before=()):
        assert "\ufffd" not in text and re.fullmatch("[猫🐈é]{1,4}", text)


def test_a_tokenizer_that_puts_spaces_before_texts(spaced):
    schema = {"type": "object", "properties": {"name": {"const": True}}, "required": ["name"]}
    bound, row = JsonSchema(schema, "none").bind(spaced), Sequence([0])
    state, text = bound.init(1), b""
    while True:
        kept = bound.process(
            np.zeros((1, spaced.size), np.float32), Step.dense((row.history(),), spaced.size), state
        )
        ways = np.flatnonzero(np.isfinite(kept[0])).tolist()
        if ways == [1] or len(ways) > 1:
            break
        row.append(ways[0])
        text += spaced.token_bytes[ways[0]]
    assert text.startswith(b'{"name":true') and len(row.history().generated) < 9, "in whole tokens"


def test_forced_tokens_are_those_that_come(tokenizer, allowed):
    schema = {"type": "object", "properties": {"name": {"enum": [1, 22]}}, "required": ["name"]}
    bound, row = JsonSchema(schema | {"additionalProperties": False}, "none").bind(tokenizer), Sequence([1])
    state, text = bound.init(1), ""
    while forced := bound.forced(row.history(), state):
        for id in forced:
            assert allowed(bound, row, state) == [id]
            row.append(id)
        text = tokenizer.decode(row.history().generated)
    assert text.startswith('{"name"') and '{"name":'.startswith(text)
    assert len(allowed(bound, row, state)) > 1, "here is a choice"


def test_at_the_end_the_only_stop_token_is_forced(spaced, tokenizer):
    for words, expected in ((spaced, (1,)), (tokenizer, ())):
        bound, row = Regex("a").bind(words), Sequence([1])
        row.append({token: id for id, token in enumerate(words.token_bytes)}[b"a"])
        assert bound.forced(row.history(), bound.init(1)) == expected
        row.append(min(words.stop_ids))
        assert bound.forced(row.history(), bound.init(1)) == ()


@settings(max_examples=60, deadline=None)
@given(moves=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 10**6), st.booleans()), max_size=12))
def test_going_back_is_as_if_nothing_had_been(moves, tokenizer, allowed):
    bound = JsonSchema({"type": "array", "items": {"type": "string", "maxLength": 9}, "maxItems": 4})
    bound = bound.bind(tokenizer)
    row, state = Sequence([1]), bound.init(1)
    for back, choice, look_ahead in moves:
        row.cut(max(1, row.length - back))
        for i in range(3):
            if look_ahead:
                bound.forced(row.history(), state)
            ways = allowed(bound, row, state)
            assert ways == allowed(bound, row, bound.init(1)), "as a cursor that never went back"
            if set(ways) <= tokenizer.stop_ids:
                break
            open_ways = [id for id in ways if id not in tokenizer.stop_ids]
            row.append(open_ways[(choice + i) % len(open_ways)])


def test_rows_that_share_a_cursor_do_not_disturb_each_other(tokenizer, allowed):
    bound = Regex("(ab|ac|bc)*").bind(tokenizer)
    one, other = Sequence([1]), Sequence([1])
    shared, (a, b, c) = bound.init(1), (tokenizer.encode(x)[0] for x in "abc")
    for row, id in ((one, a), (other, b), (one, b), (other, c), (one, a)):
        assert id in allowed(bound, row, shared)
        row.append(id)
    assert allowed(bound, one, shared) == allowed(bound, one, bound.init(1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("columns", [5, 8, 64, 67, 90])
def test_a_mask_keeps_what_it_allows(dtype, columns):
    rng = np.random.default_rng(columns)
    chosen = np.flatnonzero(rng.random(67) < 0.4)
    logits = rng.standard_normal(columns).astype(dtype)
    mask, kept = mask_of(chosen, 67), set(chosen.tolist())
    for ids in (None, rng.permutation(max(90, columns))[:columns]):
        expected = [x if (i if ids is None else ids[i]) in kept else -np.inf for i, x in enumerate(logits)]
        out = apply_mask(logits, mask, ids)
        assert out.dtype == dtype and out.tolist() == np.asarray(expected, dtype).tolist()


def test_columns_that_others_dropped_make_no_difference(walk):
    grammar = Regex("[a-z ]{3,20}")
    assert walk(grammar, 5) == walk(grammar, 5, after=(TopK(400),))
    assert re.fullmatch(grammar.pattern, walk(grammar, 5, after=(TopK(3),))[0].decode())


def test_where_others_left_nothing_the_error_names_the_strategy(walk, tokenizer):
    with pytest.raises(ContractError, match=r"no candidate left after Regex\('a'\).* at token 1"):
        walk(Regex("a"), before=(MinNewTokens(5, tokenizer.stop_ids),))


def test_a_token_that_was_put_past_the_grammar_is_an_error(tokenizer, allowed):
    bound, row = Regex("a+").bind(tokenizer), Sequence([1])
    state = bound.init(1)
    for letter in "aaba":
        row.append(tokenizer.encode(letter)[0])
    with pytest.raises(
        StrategyError, match=r"regex: token 2 of the answer, 'b' \(\d+\), is not what the grammar"
    ):
        allowed(bound, row, state)
    row.cut(3)
    assert allowed(bound, row, state) == allowed(bound, row, bound.init(1)), "and it recovers"


def test_bytes_that_no_token_has_are_an_error(tmp_path):
    few = tokenizers.Tokenizer(models.BPE({"a": 0, "b": 1, "<|end|>": 2}, []))
    few.pre_tokenizer, few.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    few.save(str(tmp_path / "tokenizer.json"))
    few = Tokenizer(tmp_path / "tokenizer.json", [2])
    bound, row = Regex("a[cd]").bind(few), Sequence([0])
    row.append(0)
    with pytest.raises(StrategyError, match="regex: at token 1 the answer can neither go on nor end"):
        bound.process(np.zeros((1, 3), np.float32), Step.dense((row.history(),), 3), bound.init(1))


def test_a_tokenizer_must_know_where_an_answer_ends(tmp_path, tokenizer):
    tokenizer._tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ParameterError, match="regex: the tokenizer knows no stop token"):
        Regex("a").bind(Tokenizer(tmp_path / "tokenizer.json"))


def test_a_tokenizer_must_be_of_bytes(tmp_path):
    words = tokenizers.Tokenizer(models.WordLevel({"a": 0, "<end>": 1}, "a"))
    words.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ParameterError, match="choice: the tokenizer's tokens are not bytes"):
        Choice(["a"]).bind(Tokenizer(tmp_path / "tokenizer.json", [1]))


def test_a_strategy_without_tokens_says_so():
    with pytest.raises(ContractError, match="regex does not know its tokens; bind it"):
        Regex("a").init(1)
