import math
import re

import numpy as np
import pytest
from decodekit_stops import LowConfidence, MaxLength, SectionBudget, StopRegex, StopSequences, When
from hypothesis import given, settings
from hypothesis import strategies as st

import decodekit
from decodekit import Progress, Sampler, Stop, stream
from decodekit.detokenizer import ByteDetokenizer
from decodekit.errors import ParameterError
from decodekit.progress import Confidence
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit.testing import TableModel, check_stopping_criterion, histories

SPELLED = [b"a", b"b", b"ab", b"7", b"<think>", b"</think>", b" ", b"12"]


def progress(*texts, ids=None, confidence=()):
    """A sequence whose newest token is the last text."""
    starts = [sum(map(len, texts[:i])) for i in range(len(texts))]
    (history,) = histories([0, *(ids or range(1, 1 + len(texts)))])
    return Progress(history, "".join(texts), starts[-1], 0.0, starts, confidence)


@pytest.mark.parametrize(
    "criterion",
    [
        StopRegex("[ab]c"),
        StopRegex("b+", keep="through"),
        StopSequences([[7], [1, 2]]),
        MaxLength(12),
        SectionBudget(2, open="a", close="b"),
        When(lambda progress: len(progress.text) > 9),
    ],
)
def test_keeps_the_contract(criterion):
    check_stopping_criterion(criterion)


@pytest.mark.parametrize(
    ("pattern", "keep", "texts", "kept"),
    [
        (r"\d+", "before", ["ab", "c1"], 3),
        (r"\d+", "through", ["ab", "c12"], 5),
        (r"b.d", "before", ["ab", "cd"], 1),  # over two tokens
        (r"x", "before", ["ab"], None),
        (r"(?i)STOP", "before", ["a st", "op"], 2),
        (r"é+", "before", ["é", "é"], 0),
    ],
)
def test_an_expression_is_found_on_the_text(pattern, keep, texts, kept):
    stop = StopRegex(pattern, keep=keep).check(progress(*texts))
    assert (stop and stop.keep) == kept


def test_a_match_that_is_longer_than_allowed_is_none():
    assert StopRegex("a.*b", longest=4).check(progress("ax", "xb")) is not None
    assert StopRegex("a.*b", longest=4).check(progress("axx", "xb")) is None


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["a7", "b +", "[7a]{2}", "12|77"]), st.integers(0, 99))
def test_the_answer_ends_at_the_first_token_with_a_match(seed, pattern, draw):
    table = np.random.default_rng(seed).standard_normal((8, 8)).astype(np.float32)
    ends = [StopRegex(pattern), MaxNewTokens(30)]
    tokens = list(
        stream(TableModel(table), [0], Sampler(), ends, seed=draw, detokenizer=ByteDetokenizer(SPELLED))
    )
    texts = [token.text for token in tokens]
    first = next((i for i in range(30) if re.search(pattern, "".join(texts[: i + 1]))), None)
    assert len(tokens) == (30 if first is None else first + 1)
    if first is not None and tokens[-1].stop.by != "30 tokens":
        assert tokens[-1].stop.keep == re.search(pattern, "".join(texts)).start()


def test_a_bad_pattern_is_no_pause():
    hostile = StopRegex("(a+)+$", longest=4096)
    text = "a" * 4000 + "b"
    assert hostile.check(progress(text)) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StopRegex("(a"), "none of RE2: missing \\)"),
        (lambda: StopRegex(r"(a)\1"), "none of RE2: invalid escape"),
        (lambda: StopRegex("(?=a)"), "none of RE2"),
        (lambda: StopRegex("a*"), "matches nothing at all; ask for a character"),
        (lambda: StopRegex(""), "a text of 1 to 2000 characters"),
        (lambda: StopRegex("(((a{900}){900}){900})"), "none of RE2"),
        (lambda: StopRegex("a", keep="all"), "keep must be 'before' or 'through', got 'all'"),
        (lambda: StopRegex("a", longest=0), r"longest must be in \[1, 4096\], got 0"),
        (lambda: StopSequences([]), "1 to 64 lists of ids"),
        (lambda: StopSequences([[]]), r"sequences\[0\] is empty"),
        (lambda: StopSequences([[1], ["a"]]), r"sequences\[1\] must be token ids"),
        (lambda: MaxLength(0), r"max_length: n must be in \[1, inf\), got 0"),
        (lambda: SectionBudget(3, open=""), "open must be a text"),
        (lambda: LowConfidence(probability=2), r"probability must be in \[0, 1\], got 2"),
        (lambda: LowConfidence(tokens=0), r"tokens must be in \[1, inf\), got 0"),
    ],
)
def test_parameters_have_a_domain(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


def test_a_sequence_of_ids_ends_the_answer_and_is_kept():
    ends = StopSequences([[5, 6], [9]])
    assert ends.check(progress("a", "b", ids=[5, 6])) == Stop("stop", by="tokens [5, 6]")
    assert ends.check(progress("a", "b", ids=[6, 5])) is None
    assert ends.check(progress("a", ids=[6])) is None  # the prompt does not count


def test_the_whole_length_counts_the_prompt():
    assert MaxLength(3).check(progress("a")) is None
    assert MaxLength(3).check(progress("a", "b")).reason == "length"


@pytest.mark.parametrize(
    ("texts", "over"),
    [
        (["<think>", "a"], False),
        (["<think>", "a", "b"], True),
        (["x <th", "ink>a", "b"], False),  # the token that completes it does not count
        (["x <th", "ink>", "b", "c"], True),
        (["<think>", "a", "</think>", "b", "c"], False),
        (["<think>", "a", "</think>", "<think>", "b", "c"], True),
        (["a", "b", "c"], False),
    ],
)
def test_a_section_has_a_budget(texts, over):
    assert (SectionBudget(2).check(progress(*texts)) is not None) == over


def test_doubt_must_last():
    sure, torn = Confidence(0.1, 0.2), Confidence(3.0, 2.5)
    ends = LowConfidence(entropy=2.0, tokens=2)
    assert ends.check(progress("a", "b", confidence=[sure, torn])) is None
    assert ends.check(progress("a", "b", confidence=[torn, torn])).reason == "confidence"
    by_probability = LowConfidence(probability=0.1)
    assert by_probability.check(progress("a", confidence=[torn])) is not None  # e^-3 = 0.05
    assert by_probability.check(progress("a", confidence=[sure])) is None
    assert LowConfidence().check(progress("a", confidence=[torn])) is None


def test_confidence_is_that_of_the_model():
    logits = np.log(np.asarray([0.5, 0.25, 0.25, 0.0]), where=[True] * 3 + [False], out=np.full(4, -np.inf))
    measured = Confidence.of(logits.astype(np.float32), 1)
    assert measured.surprise == pytest.approx(-math.log(0.25), rel=1e-6)
    assert measured.entropy == pytest.approx(1.5 * math.log(2), rel=1e-6)
    assert Confidence.of(np.float32([3.0]), 0) == Confidence(0.0, 0.0)


@pytest.fixture(scope="module")
def decoder():
    with decodekit.load("tagline") as decoder:
        yield decoder


def test_every_way_to_decode_ends_at_the_same_token(decoder):
    chains = [
        [StopRegex("e.?s"), LowConfidence(probability=1e-6)],
        'stop_regex="[aeiou]{2}"',
        "low_confidence.entropy=3.5",
        "max_length=15",
        [When(lambda progress: "odd" if progress.text.count("e") == 3 else None)],
    ]
    for criteria in chains:
        options = {"seed": 3, "criteria": criteria, "max_new_tokens": 24}
        alone = decoder.generate("A bakery", "temperature=1", **options)
        pieces = list(decoder.stream("A bakery", "temperature=1", **options))
        assert "".join(pieces) == alone.text
        batch = decoder.generate(["A shop", "A bakery"], "temperature=1", **options)
        assert batch[1].ids == alone.ids
        assert decoder.generate("A bakery", "temperature=1", speculate="lookup", **options).ids == alone.ids
        session = decoder.session("A bakery", "temperature=1", **options)
        while not session.sample().stop:
            pass
        assert session.generated == alone.ids


def test_the_reason_is_told(decoder):
    answer = decoder.generate("A bakery", criteria=[When(lambda progress: "odd")])
    assert answer.finish_reason == "odd" and len(answer.ids) == 1
    answer = decoder.generate("A bakery", criteria="low_confidence.probability=1")
    assert answer.finish_reason == "confidence" and "entropy" in answer.stopped_by
