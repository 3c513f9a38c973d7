import json

import numpy as np
import pytest
from decodekit_repetition import Breakers, Dry, EncoderRepetition, NoRepeatNgram, followers, repeats
from hypothesis import given, settings
from hypothesis import strategies as st

import decodekit
from decodekit import Sampler
from decodekit.errors import ParameterError
from decodekit.processors import Step
from decodekit.strategies.top_k import TopK
from decodekit.testing import check_logits_processor, histories

IDS = st.lists(st.integers(0, 3), max_size=14)


def process(processor, ids, *, asked=1, vocabulary=5, columns=None, logits=None):
    (history,) = histories(ids, asked=asked)
    columns = np.arange(vocabulary) if columns is None else np.asarray(columns)
    logits = np.zeros((1, len(columns)), np.float32) if logits is None else np.float32([logits])
    return processor.process(logits, Step((history,), columns[None]), ())[0]


# n-grams


@settings(max_examples=300, deadline=None)
@given(IDS, st.integers(1, 6))
def test_followers_by_hand(ids, n):
    expected = [
        ids[i + n - 1] for i in range(len(ids) - n + 1) if ids[i : i + n - 1] == ids[len(ids) - n + 1 :]
    ]
    assert followers(np.asarray(ids, np.int64), n).tolist() == expected


@pytest.mark.parametrize(
    ("n", "ids", "removed"),
    [
        (0, [1, 2, 1], []),
        (1, [1, 2, 1], [1, 2]),
        (2, [1, 2, 1], [2]),
        (2, [1, 2, 1, 3, 1], [2, 3]),
        (2, [1, 1], [1]),
        (3, [1, 2, 3, 1, 2], [3]),
        (3, [1, 2], []),
        (2, [1], []),
        (99, [1, 2, 1, 2], []),
    ],
)
def test_no_ngram_comes_twice(n, ids, removed):
    out = process(NoRepeatNgram(n), ids)
    assert np.flatnonzero(out == -np.inf).tolist() == removed


# the prompt


def test_tokens_of_the_prompt_are_encouraged_once_each():
    out = process(EncoderRepetition(2.0), [1, 1, 2, 3], asked=3, logits=[1.0, 1.0, -1.0, 1.0, 1.0])
    assert out.tolist() == [1.0, 2.0, -0.5, 1.0, 1.0]


def test_the_answer_is_not_encouraged():
    assert process(EncoderRepetition(2.0), [4, 1, 2, 3], asked=1, logits=[1.0] * 5).tolist() == [
        1,
        1,
        1,
        1,
        2,
    ]


# what is repeated


@settings(max_examples=500, deadline=None)
@given(st.one_of(IDS, st.lists(st.integers(0, 1), max_size=40)))
def test_repeats_by_hand(ids):
    """The longest common end of what lies before each token and of everything."""
    expected = []
    for place in range(1, len(ids)):
        length = 0
        while length < place and ids[place - 1 - length] == ids[len(ids) - 1 - length]:
            length += 1
        if length:
            expected.append((ids[place], length))
    found = repeats(np.asarray(ids, np.int64))
    assert sorted(zip(*map(np.ndarray.tolist, found), strict=True)) == sorted(expected)


def test_a_text_that_goes_round_is_compared_once_a_token():
    going_on, lengths = repeats(np.tile(np.asarray([5, 6, 7]), 10_000))
    assert lengths.tolist() == [*range(30_000 - 3, 0, -3)] and set(going_on.tolist()) == {5}
    assert repeats(np.zeros(20_000, np.int64))[1].sum() == 19_999 * 20_000 // 2


# breakers


def breaks_by_hand(ids, spelt, sought):
    """For each place whether its token has a part of a breaker: every place of the text is tried."""
    text = b"".join(spelt[id] for id in ids)
    owner = [place for place, id in enumerate(ids) for _ in spelt[id]]
    broken = [False] * len(ids)
    for breaker in sought:
        for at in range(len(text) - len(breaker) + 1):
            if text[at : at + len(breaker)] == breaker:
                for byte in range(at, at + len(breaker)):
                    broken[owner[byte]] = True
    return broken


SPELT = [b"a", b"b", b"ab", b"", b"ba;", b";", b"\xc3", b"\xa9"]
SOUGHT = st.lists(st.sampled_from([b";", b"ab", b"a;b", b"bb", b"\xc3\xa9", b"aba"]), max_size=3)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.integers(0, len(SPELT) - 1), max_size=12), SOUGHT, st.integers(0, 12))
def test_the_end_behind_the_last_breaker_by_hand(ids, sought, most):
    most, broken = min(most, len(ids)), breaks_by_hand(ids, SPELT, sought)
    last = max((place for place, yes in enumerate(broken) if yes), default=-1)
    count = min(most, len(ids) - 1 - last)
    assert Breakers(SPELT, sought).unbroken(np.asarray(ids, np.int64), most) == count


def test_a_token_without_a_text_breaks_nothing():
    assert Breakers([b"x"], [b"x"]).unbroken(np.asarray([0, 7, 7]), 3) == 2
    assert Breakers().unbroken(np.asarray([0, 7, 7]), 3) == 3


# DRY


def dry_by_hand(ids, dry, spelt, vocabulary):
    """The definition, token by token and place by place."""
    sought = [b.encode() for b in dry.breakers]
    ids = ids[-dry.range :] if dry.range else ids
    broken = breaks_by_hand(ids, spelt, sought)
    costs = []
    for v in range(vocabulary):
        longest = 0
        for place in range(1, len(ids)):
            if ids[place] != v:
                continue
            length = 0
            while length < place and ids[place - 1 - length] == ids[len(ids) - 1 - length]:
                if broken[len(ids) - 1 - length]:
                    break
                length += 1
            longest = max(longest, length)
        free = longest < dry.allowed_length or any(b in spelt[v] for b in sought)
        costs.append(0.0 if free else min(1e6, dry.multiplier * dry.base ** (longest - dry.allowed_length)))
    return costs


class Words:
    """A tokenizer of five words, a piece of text that breaks and a special token."""

    token_bytes = (b"a", b"b", b"c", b"d;", b" e", b"", b"\n")
    size = 7

    def token(self, id):
        return "<turn>" if id == 5 else "?"


SPELT_WORDS = [*Words.token_bytes[:5], b"<turn>", b"\n"]


@settings(max_examples=400, deadline=None)
@given(
    ids=st.one_of(
        st.lists(st.integers(0, 6), min_size=1, max_size=16),
        st.lists(st.integers(1, 2), min_size=1, max_size=30),
    ),
    multiplier=st.sampled_from([0.5, 2.0, 100.0]),
    base=st.sampled_from([1.0, 1.75, 10.0]),
    allowed=st.integers(1, 4),
    window=st.integers(0, 12),
    breakers=st.lists(st.sampled_from([";", "bc", "<turn>", "c\n", "a"]), max_size=3),
)
def test_dry_is_its_definition(ids, multiplier, base, allowed, window, breakers):
    dry = Dry(multiplier, base, allowed, window, breakers)
    expected = dry_by_hand(ids, dry, SPELT_WORDS, 7)
    out = process(dry.bind(Words()), ids, vocabulary=7)
    assert out == pytest.approx(-np.asarray(expected), rel=1e-6)


def test_dry_on_an_example_worked_out_by_hand():
    """a b c d e a b c: d would make four in a row, so three are repeated, which costs base^(3 - 2)."""
    out = process(Dry(0.8, breakers=[]), [0, 1, 2, 3, 4, 0, 1, 2])
    assert out == pytest.approx([0, 0, 0, -0.8 * 1.75, 0])


def test_dry_on_the_example_of_its_second_author():
    """a b c c b c y a b c: behind "a b c" came c, behind "b c" y, behind "c" alone b."""
    a, b, c, y = range(4)
    out = process(Dry(1.0, base=2.0, allowed_length=1, breakers=[]), [a, b, c, c, b, c, y, a, b, c])
    assert out == pytest.approx([0, -(2.0**0), -(2.0**2), -(2.0**1), 0])


def test_of_several_places_the_longest_counts():
    """0 1 2 | 1 2 | 0 1: 2 came behind "1" and behind "0 1"."""
    assert process(Dry(1.0, base=3.0, allowed_length=1, breakers=[]), [0, 1, 2, 4, 1, 2, 4, 0, 1])[2] == -3


def test_a_repetition_does_not_reach_across_a_breaker_of_several_tokens():
    ids = [1, 2, 0, 4, 1, 2, 0]  # "bca e" "bca": with "bc" a breaker only "a" is repeated
    for breakers, cost in [([";"], 1.75**2), (["bc"], 1.0), (["ca"], 0.0)]:
        out = process(Dry(1.0, allowed_length=1, breakers=breakers).bind(Words()), ids)
        assert out[4] == pytest.approx(-cost)


def test_a_special_token_breaks_by_its_name():
    ids = [1, 5, 2, 0, 1, 5, 2]
    dry = Dry(1.0, base=2.0, allowed_length=1, breakers=["<turn>"])
    assert process(dry.bind(Words()), ids, vocabulary=7)[0] == -1
    assert process(Dry(1.0, base=2.0, allowed_length=1, breakers=[]), ids)[0] == -4


def test_tokens_that_are_no_bytes_are_spelt_as_in_the_vocabulary():
    class Pieces:
        token_bytes, size = None, 4

        def token(self, id):
            return ["\u2581a", "\u2581b", ";", None][id]

    ids, dry = [0, 1, 3, 2, 0, 1], Dry(1.0, base=2.0, allowed_length=1, breakers=["a b"])
    assert process(dry, ids)[3] == -2
    assert process(dry.bind(Pieces()), ids)[3] == 0


def test_the_range_is_the_newest_tokens_of_prompt_and_answer():
    ids = [0, 1, 2, 4, 0, 1]
    for window, cost in [(0, 1.0), (6, 1.0), (5, 0.0), (99, 1.0)]:
        assert process(Dry(1.0, range=window, breakers=[]), ids, asked=3)[2] == -cost


def test_nothing_repeated_gives_the_input_itself():
    logits, (history,) = np.zeros((1, 5), np.float32), histories([0, 1, 2, 3])
    assert Dry(1.0, breakers=[]).process(logits, Step.dense((history,), 5), ()) is logits


@pytest.mark.parametrize("multiplier", [1e-300, 1e-3, 100.0])
@pytest.mark.parametrize("base", [1.0, 1.0001, 10.0])
def test_a_long_repetition_costs_much_and_nothing_overflows(multiplier, base):
    out = process(Dry(multiplier, base, breakers=[]), [0, 1, 2, 4] * 500, logits=[-3e38, 1, 2, 3, 4])
    assert np.isfinite(out).all()
    if base == 10:
        assert process(Dry(multiplier, base, breakers=[]), [0, 1, 2, 4] * 500)[0] == -1e6


# all of them


ALL = [
    NoRepeatNgram(2),
    NoRepeatNgram(3),
    EncoderRepetition(1.5),
    EncoderRepetition(1e-6),
    Dry(0.8, breakers=[]),
    Dry(100, base=10, allowed_length=1).bind(Words()),
]


@pytest.mark.parametrize("processor", ALL, ids=repr)
@pytest.mark.parametrize("vocabulary", [257, 6_000])
def test_keeps_the_contract(processor, vocabulary):
    check_logits_processor(processor, vocab=vocabulary)


@pytest.mark.parametrize(
    "processor", [NoRepeatNgram(2), EncoderRepetition(2.0), Dry(1.0, allowed_length=1, breakers=[])]
)
def test_columns_are_candidates(processor):
    ids = [0, 1, 2, 0, 1]
    logits = np.float32([0.5, -0.5, 2.0, 1.0, -3.0])
    whole = process(processor, ids, asked=2, logits=logits)
    assert not np.array_equal(whole, logits)
    for order in ([4, 2, 0], [2], [3, 4]):
        out = process(processor, ids, asked=2, columns=order, logits=logits[order])
        assert out.tolist() == whole[order].tolist()


def test_each_row_has_its_own_history_behind_a_truncation_too():
    rows = histories([0, 1, 2, 0, 1], [3, 3], [4])
    logits = np.zeros((3, 40), np.float32)
    logits[:, :5] = 1.0
    sampler = Sampler((TopK(5), Dry(1.0, allowed_length=1, breakers=[])))
    stage = sampler.draw(logits, Step.dense(rows, 40), sampler.init(3)).stages[1]
    assert stage.ids.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert stage.logits == pytest.approx(np.asarray([[1, 1, -0.75, 1, 1], [1, 1, 1, 0, 1], [1] * 5]))


@pytest.mark.parametrize("processor", [NoRepeatNgram(0), EncoderRepetition(1), Dry(0)])
def test_neutral_is_the_input(processor):
    logits = np.zeros((1, 5), np.float32)
    (history,) = histories([0, 1, 0])
    assert processor.process(logits, Step.dense((history,), 5), ()) is logits


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoRepeatNgram(-1), r"no_repeat_ngram: n must be in \[0, inf\), got -1"),
        (lambda: EncoderRepetition(0), r"theta must be in \[1e-6, 1e6\], got 0"),
        (lambda: Dry(-1), r"dry: multiplier must be in \[0, 100\], got -1"),
        (lambda: Dry(1, base=0.5), r"base must be in \[1, 10\], got 0.5"),
        (lambda: Dry(1, allowed_length=0), r"allowed_length must be in \[1, inf\), got 0"),
        (lambda: Dry(1, range=-1), r"range must be in \[0, inf\), got -1"),
        (lambda: Dry(1, breakers="x"), "breakers must be non-empty texts"),
        (lambda: Dry(1, breakers=["x", ""]), "breakers must be non-empty texts"),
        (
            lambda: Dry(1, breakers=["x"] * 65),
            "at most 64 breakers of 200 characters each, got 65 of up to 1",
        ),
        (lambda: Dry(1, breakers=["x" * 201]), "got 1 of up to 201"),
    ],
)
def test_parameters_have_a_domain(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


@pytest.fixture(scope="module")
def decoder():
    with decodekit.load("tagline") as decoder:
        yield decoder


def test_in_a_decoder_a_line_is_not_said_twice(decoder):
    chain = "no_repeat_ngram=2, dry.multiplier=3, dry.breakers=" + json.dumps(["."])
    options = {"max_new_tokens": 60, "ignore_eos": True, "seed": 1}
    answer = decoder.generate("A bakery", chain + ", greedy", **options)
    pairs = list(zip(answer.ids, answer.ids[1:], strict=False))
    assert len(set(pairs)) == len(pairs) == 59
    assert decoder.generate("A bakery", chain + ", greedy", speculate="lookup", **options).ids == answer.ids


def test_breakers_are_found_in_the_text_of_a_real_vocabulary(decoder):
    tokenizer = decoder.tokenizer
    dry = Dry(1.0, breakers=["\n", "hing"])
    bound = dry.bind(tokenizer)
    assert repr(bound) == repr(dry) and bound == dry
    ids = np.asarray(tokenizer.encode_plain("one thing and another thing and so"))
    after = bound._breakers.unbroken(ids, len(ids))
    assert tokenizer.decode(ids[len(ids) - after :]) == " and so"
    assert Dry(1.0, breakers=["\n"]).bind(tokenizer)._breakers.unbroken(ids, 6) == 6
