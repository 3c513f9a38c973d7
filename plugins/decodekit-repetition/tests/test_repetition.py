import json

import numpy as np
import pytest
from decodekit_repetition import Dry, EncoderRepetition, NoRepeatNgram, followers, repeats
from hypothesis import given, settings
from hypothesis import strategies as st

import decodekit
from decodekit.errors import ParameterError
from decodekit.processors import Step
from decodekit.testing import check_logits_processor, histories

IDS = st.lists(st.integers(0, 3), max_size=14)


def process(processor, ids, *, asked=1, vocabulary=5, columns=None, logits=None):
    (history,) = histories(ids, asked=asked)
    columns = np.arange(vocabulary) if columns is None else np.asarray(columns)
    logits = np.zeros((1, len(columns)), np.float32) if logits is None else np.float32([logits])
    return processor.process(logits, Step((history,), columns[None]), ())[0]


@settings(max_examples=300, deadline=None)
@given(IDS, st.integers(1, 4))
def test_followers_by_hand(ids, n):
    expected = [
        ids[i + n - 1] for i in range(len(ids) - n + 1) if ids[i : i + n - 1] == ids[len(ids) - n + 1 :]
    ]
    assert followers(np.asarray(ids, np.int64), n).tolist() == expected


@settings(max_examples=300, deadline=None)
@given(IDS, st.integers(0, 9))
def test_repeats_by_hand(ids, most):
    """The longest common end of what lies before each token and of everything."""
    expected = {}
    for place in range(1, len(ids)):
        length = 0
        while length < min(place, most) and ids[place - 1 - length] == ids[len(ids) - 1 - length]:
            length += 1
        if length:
            expected[place] = (ids[place], length)
    found = repeats(np.asarray(ids, np.int64), most)
    assert list(zip(*map(np.ndarray.tolist, found), strict=True)) == list(expected.values())


def dry_by_hand(ids, multiplier, base, allowed, window, breakers, vocabulary):
    """The definition, token by token."""
    ids = ids[-window:] if window else ids
    costs = [0.0] * vocabulary
    for v in range(vocabulary):
        longest = 0
        for place in range(1, len(ids)):
            if ids[place] != v:
                continue
            length = 0
            while length < place and ids[place - 1 - length] == ids[len(ids) - 1 - length]:
                if ids[len(ids) - 1 - length] in breakers:
                    break
                length += 1
            longest = max(longest, length)
        if longest >= allowed and v not in breakers:
            costs[v] = multiplier * base ** (longest - allowed)
    return costs


class Words:
    """A tokenizer of five tokens, of which `;` breaks."""

    size, token_bytes = 5, [b"a", b"b", b"c", b"d;", b"e"]

    def encode_plain(self, text):
        return [3] if text == ";" else [1, 2]  # a breaker that two tokens spell


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=16),
    st.sampled_from([0.5, 2.0]),
    st.sampled_from([1.0, 1.75]),
    st.integers(1, 3),
    st.integers(0, 12),
)
def test_dry_is_its_definition(ids, multiplier, base, allowed, window):
    dry = Dry(multiplier, base, allowed, window, breakers=[";"]).bind(Words())
    expected = dry_by_hand(ids, multiplier, base, allowed, window, {3}, 5)
    assert process(dry, ids) == pytest.approx(-np.asarray(expected), rel=1e-6)


def test_dry_on_an_example_worked_out_by_hand():
    """a b c d ... a b c: d would make four in a row, so three repeated ones and base^(3 - 2)."""
    out = process(Dry(0.8, breakers=[]), [0, 1, 2, 3, 4, 0, 1, 2])
    assert out == pytest.approx([0, 0, 0, -0.8 * 1.75, 0])


def test_a_repetition_does_not_reach_across_a_breaker_of_several_tokens():
    ids = [1, 2, 0, 4, 1, 2, 0]  # bc a e bc a: with "bc" a breaker only "a" is repeated
    assert process(Dry(1.0, allowed_length=1, breakers=[";"]).bind(Words()), ids)[4] == pytest.approx(
        -(1.75**2)
    )
    assert process(Dry(1.0, allowed_length=1, breakers=["bc"]).bind(Words()), ids)[4] == pytest.approx(-1)


def test_a_long_repetition_costs_much_and_nothing_overflows():
    ids = [0, 1, 2, 4] * 500
    out = process(Dry(100.0, base=10.0, breakers=[]), ids)
    assert out[0] == -1e6 and np.isfinite(out).all()


@pytest.mark.parametrize(
    ("n", "ids", "removed"),
    [
        (0, [1, 2, 1], []),
        (1, [1, 2, 1], [1, 2]),
        (2, [1, 2, 1], [2]),
        (3, [1, 2, 3, 1, 2], [3]),
        (3, [1, 2], []),
        (2, [1], []),
    ],
)
def test_no_ngram_comes_twice(n, ids, removed):
    out = process(NoRepeatNgram(n), ids)
    assert np.flatnonzero(out == -np.inf).tolist() == removed


def test_tokens_of_the_prompt_are_encouraged_once_each():
    out = process(EncoderRepetition(2.0), [1, 1, 2, 3], asked=3, logits=[1.0, 1.0, -1.0, 1.0, 1.0])
    assert out.tolist() == [1.0, 2.0, -0.5, 1.0, 1.0]


@pytest.mark.parametrize("processor", [NoRepeatNgram(2), EncoderRepetition(1.5), Dry(0.8, breakers=[])])
def test_keeps_the_contract(processor):
    check_logits_processor(processor)


@pytest.mark.parametrize(
    "processor", [NoRepeatNgram(2), EncoderRepetition(2.0), Dry(1.0, allowed_length=1, breakers=[])]
)
def test_columns_are_candidates(processor):
    ids = [0, 1, 2, 0, 1]
    logits = np.float32([0.5, -0.5, 2.0, 1.0, -3.0])
    whole = process(processor, ids, asked=2, logits=logits)
    order = [4, 2, 0]
    assert (
        process(processor, ids, asked=2, columns=order, logits=logits[order]).tolist()
        == whole[order].tolist()
    )


@pytest.mark.parametrize("processor", [NoRepeatNgram(0), EncoderRepetition(1), Dry(0)])
def test_neutral_is_the_input(processor):
    logits = np.zeros((1, 5), np.float32)
    (history,) = histories([0, 1, 0])
    assert processor.process(logits, Step.dense((history,), 5), ()) is logits


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoRepeatNgram(-1), r"no_repeat_ngram: n must be in \[0, inf\), got -1"),
        (lambda: EncoderRepetition(0), r"theta must be in \(0, 1e6\], got 0"),
        (lambda: Dry(-1), r"dry: multiplier must be in \[0, 100\], got -1"),
        (lambda: Dry(1, base=0.5), r"base must be in \[1, 10\], got 0.5"),
        (lambda: Dry(1, allowed_length=0), r"allowed_length must be in \[1, inf\), got 0"),
        (lambda: Dry(1, breakers="x"), "breakers must be non-empty texts"),
        (lambda: Dry(1, breakers=["x"] * 65), "at most 64 breakers, got 65"),
    ],
)
def test_parameters_have_a_domain(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


def test_in_a_decoder_a_line_is_not_said_twice():
    with decodekit.load("tagline") as decoder:
        chain = "no_repeat_ngram=2, dry.multiplier=3, dry.breakers=" + json.dumps(["."])
        options = {"max_new_tokens": 60, "ignore_eos": True, "seed": 1}
        answer = decoder.generate("A bakery", chain + ", greedy", **options)
        pairs = list(zip(answer.ids, answer.ids[1:], strict=False))
        assert len(set(pairs)) == len(pairs) == 59
        assert (
            decoder.generate("A bakery", chain + ", greedy", speculate="lookup", **options).ids == answer.ids
        )
