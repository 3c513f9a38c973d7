"""Text that was taken back: the same answer as by starting over each time, in every way to decode."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from decodekit_banned_phrases import BannedPhrases
from hypothesis import given, settings
from hypothesis import strategies as st

import decodekit
from decodekit import LogitsProcessor, Sampler, stream
from decodekit.detokenizer import ByteDetokenizer
from decodekit.errors import ContractError, ParameterError, RecordError, StrategyError
from decodekit.ops import keep
from decodekit.record import Record
from decodekit.replay import replay
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit.strategies.temperature import Temperature
from decodekit.testing import TableModel, check_logits_processor
from decodekit.verify import verify

SPELLED = [b"a", b"b", b"ab", b"c ", b"B", b"\xc3", b"\xa9", b"", b"bc"]
PROMPT = "A bakery"
CHAIN = ["temperature=1.2", 'banned_phrases=["joy", "flaky", "waiting", "a"]']


class Ban(LogitsProcessor):
    """Certain tokens at certain places."""

    def __init__(self, banned):
        self.banned = banned

    def process(self, logits, step, state):
        return keep(logits, ~np.isin(step.ids, list(self.banned.get(step.rows[0].position, []))))


def texts(ids):
    """What each token adds to the text."""
    detokenizer = ByteDetokenizer(SPELLED)
    return [detokenizer.push(id) for id in ids]


def starting_over(table, phrases, count, seed):
    """Decode from the beginning whenever a phrase turned up, with what began it banned at its place."""
    banned = {}
    while True:
        sampler = Sampler((Temperature(1), Ban(banned)))
        ids = []
        for token in stream(TableModel(table), [0], sampler, [MaxNewTokens(count)], seed=seed):
            ids.append(token.id)
            pieces = texts(ids)
            text = "".join(pieces).lower()
            at = min((text.find(p.lower()) for p in phrases if p.lower() in text), default=-1)
            if at >= 0:
                starts = np.cumsum([0, *map(len, pieces)])[:-1]
                index = max(i for i, start in enumerate(starts) if start <= at)
                banned.setdefault(1 + index, set()).add(ids[index])
                break
        else:
            return ids


def standing(tokens):
    """The ids that are left of a stream in which some were taken back."""
    ids = []
    for token in tokens:
        ids.append(token.id)
        if token.takes_back:
            del ids[-token.takes_back :]
    return ids


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.text("abc é", min_size=2, max_size=4), min_size=1, max_size=3),
    st.integers(0, 1000),
)
def test_the_answer_is_that_of_starting_over(table_seed, phrases, seed):
    table = np.random.default_rng(table_seed).standard_normal((9, 9)).astype(np.float32)
    sampler = Sampler((Temperature(1), BannedPhrases(phrases)))
    tokens = stream(
        TableModel(table), [0], sampler, [MaxNewTokens(24)], seed=seed, detokenizer=ByteDetokenizer(SPELLED)
    )
    try:
        ids = standing(tokens)
    except (StrategyError, ContractError):  # every way was banned
        return
    assert ids == starting_over(table, phrases, 24, seed)
    assert not any(p.lower() in "".join(texts(ids)).lower() for p in phrases)


def test_keeps_the_contract():
    check_logits_processor(BannedPhrases(["a"]))


def test_only_what_was_drawn_is_banned_and_only_there():
    logits = np.zeros((2, 4), np.float32)
    from decodekit.processors import Step
    from decodekit.testing import histories

    step = Step.dense(histories([0], [0, 1]), 4)
    state = ({1: frozenset({2}), 5: frozenset({3})}, {1: frozenset({2})})
    removed = BannedPhrases(["a"]).process(logits, step, state) == -np.inf
    assert removed.tolist() == [[False, False, True, False], [False] * 4]


@pytest.mark.parametrize(
    ("text", "pending"), [("", 0), ("x", 0), ("xj", 1), ("xJO", 2), ("joy", 0), ("jj", 1), ("fla jo", 2)]
)
def test_what_may_become_a_phrase_is_held_back(text, pending):
    assert BannedPhrases(["joy", "flaky"]).pending(text) == pending


def test_case_differs_only_if_asked():
    assert BannedPhrases(["Joy"])._find("oh joy", 0) == (3, "joy")
    assert BannedPhrases(["Joy"], case=True)._find("oh joy", 0) is None
    assert BannedPhrases(["Ä"])._find("ä", 0) == (0, "ä")
    assert BannedPhrases(["x"])._find("İX", 1) == (1, "x")  # a letter that is two in lower case


@pytest.fixture(scope="module")
def decoder():
    with decodekit.load("tagline") as decoder:
        yield decoder


@pytest.mark.parametrize("seed", range(6))
def test_every_way_to_decode_gives_the_same(decoder, seed):
    options = {"seed": seed, "max_new_tokens": 24}
    alone = decoder.generate(PROMPT, CHAIN, **options)
    assert "a" not in alone.text.lower()
    plain = decoder.generate(PROMPT, CHAIN[:1], **options)
    assert (alone.ids == plain.ids) == ("a" not in plain.text.lower())

    pieces = list(decoder.stream(PROMPT, CHAIN, **options))
    assert "".join(pieces) == alone.text
    batch = decoder.generate([PROMPT, "A shop for maps", PROMPT], CHAIN, **options)
    assert batch[0].ids == batch[2].ids == alone.ids
    assert decoder.generate(PROMPT, CHAIN, speculate="lookup", **options).ids == alone.ids
    assert asyncio.run(decoder.agenerate(PROMPT, CHAIN, **options)).ids == alone.ids
    assert decoder.generate(PROMPT, CHAIN, n=3, **options)[0].ids == alone.ids

    session = decoder.session(PROMPT, CHAIN, **options)
    while not session.sample().stop:
        pass
    assert session.generated == alone.ids


def test_an_answer_is_told_of_as_it_stands(decoder):
    answer = decoder.generate(PROMPT, CHAIN, seed=1, max_new_tokens=24, logprobs=1)
    assert answer.usage.completion_tokens == len(answer.tokens) == len(answer.ids)
    assert not any(token.takes_back for token in answer.tokens)
    assert decoder.tokenizer.decode(answer.ids) == answer.text


def test_a_record_is_replayed_and_one_pass_is_refused(decoder):
    record = Record.from_json(decoder.generate(PROMPT, CHAIN, seed=1, max_new_tokens=24).recipe)
    assert replay(decoder, record).outcome == "equal"
    other = replace(record, ids=(*record.ids[:2], record.ids[2] + 1, *record.ids[3:]))
    verdict = replay(decoder, other)
    assert (verdict.outcome, verdict.step) == ("token", 2)
    assert "stands" in verdict.why
    with pytest.raises(RecordError, match="takes tokens back, which one pass does not show; replay it"):
        verify(decoder, record)


def test_beams_refuse_it(decoder):
    with pytest.raises(ParameterError, match="must take no token back"):
        decoder.beam(PROMPT, 'banned_phrases=["a"]')


def test_no_way_round_ends_the_request_and_no_other(decoder):
    with pytest.raises(StrategyError, match=r"no way around '.' at token \d+ in 1 tries; raise tries"):
        decoder.generate(PROMPT, 'banned_phrases.phrases=["e","a","o","i","u","y"], banned_phrases.tries=1')
    with pytest.raises(ContractError, match="no candidate left after BannedPhrases"):
        decoder.generate(PROMPT, 'top_k=1, banned_phrases=["e"]')
    assert decoder.generate(PROMPT).text


def test_nothing_banned_changes_nothing(decoder):
    plain = decoder.generate(PROMPT, "temperature=1", seed=5)
    assert decoder.generate(PROMPT, "temperature=1, banned_phrases=[]", seed=5).ids == plain.ids


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phrases": [""]}, "phrases are texts of 1 to 200 characters"),
        ({"phrases": ["x" * 201]}, "phrases are texts of 1 to 200 characters"),
        ({"phrases": [7]}, "phrases are texts of 1 to 200 characters"),
        ({"phrases": ["x"] * 1001}, "at most 1000 phrases, got 1001"),
        ({"phrases": ["x"], "tries": 0}, r"tries must be in \[1, inf\), got 0"),
    ],
)
def test_parameters_have_a_domain(options, message):
    with pytest.raises(ParameterError, match=message):
        BannedPhrases(**options)


class Greedily(LogitsProcessor):
    """Takes back what it should not."""

    def __init__(self, count):
        self.count = count

    def process(self, logits, step, state):
        return logits

    def take_back(self, progress, state):
        return (self.count, state) if len(progress.history.generated) == 3 else None


@pytest.mark.parametrize(
    ("count", "message"),
    [(4, "takes back 4 of 3 tokens"), (0, "takes back 0 of 3"), (3, r"took back over 10,000 tokens")],
)
def test_a_strategy_that_takes_back_too_much_is_stopped(decoder, count, message):
    with pytest.raises(ContractError, match=message):
        decoder.generate(PROMPT, [Greedily(count)], max_new_tokens=8)


def test_text_that_was_given_out_cannot_be_taken_back(decoder):
    class Late(Greedily):
        def take_back(self, progress, state):
            return (3, 1) if len(progress.history.generated) == 3 and state == () else None

    with pytest.raises(ContractError, match="took back text that it had not held back"):
        list(decoder.stream(PROMPT, [Late(3)], max_new_tokens=8))
