"""
Speculation changes how long an answer takes, and nothing else.

Most of it runs over `Sum`, a table whose arithmetic is exact, so that "the same" is the same to the last
bit whatever was guessed when. Over the graph, calls of several tokens round differently: there the
costs are given, so that a run repeats itself.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import decodekit
from decodekit import LogitsProcessor, Stop, StoppingCriterion
from decodekit.answer import Answer, Token
from decodekit.batch import Batch
from decodekit.bundle import open_bundle
from decodekit.costs import Costs
from decodekit.decoder import Decoder
from decodekit.errors import BundleError, ParameterError, StrategyError
from decodekit.generate import stream
from decodekit.request import Request
from decodekit.sampling import Sampler
from decodekit.slots import OneByOne
from decodekit.speculate import MOST, PIECE, PROBE, DraftModel, Pace, PromptLookup, Statistics
from decodekit.strategies.end_tokens import EndTokens
from decodekit.strategies.greedy import Greedy
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit.testing import TableModel, Tokens
from decodekit.tokenizer import Tokenizer

FIXTURES = Path(__file__).parent / "fixtures"
SOAK = bool(os.environ.get("DECODEKIT_SOAK"))
V = 257
EXAMPLES = {  # of every strategy that is known; several, where one would not show all it does
    "greedy": ["greedy"],
    "temperature": ["temperature=0", "temperature=0.7", "temperature=3"],
    "top_k": ["top_k=1", "temperature=1.5, top_k=7"],
    "top_p": ["top_p=0.5", "temperature=2, top_p=0.99"],
    "min_p": ["min_p=0.1"],
    "repetition_penalty": ["repetition_penalty=1.4"],
    "frequency_penalty": ["frequency_penalty=0.7"],
    "presence_penalty": ["presence_penalty=2, temperature=0.5"],
    "logit_bias": ['logit_bias={"65": 5, "66": -100}'],
    "min_new_tokens": ["min_new_tokens.n=9, min_new_tokens.ids=[0]"],
    "mirostat": ["mirostat.tau=2", "temperature=1.5, mirostat.tau=4, mirostat.eta=0.5"],
    "contrarian": ["contrarian=0.4"],
    "epsilon": ["epsilon=0.02", "temperature=2, epsilon=0.003"],
    "eta": ["eta=0.02"],
    "top_a": ["top_a=0.3"],
    "tail_free": ["tail_free=0.9"],
    "top_n_sigma": ["temperature=2, top_n_sigma=1"],
    "top_h": ["top_h=0.4", "temperature=2, top_h=0.9"],
    "p_less": ["p_less"],
    "p_less_norm": ["p_less_norm, temperature=2"],
    "dynamic_temperature": ["dynamic_temperature.low=0.3, dynamic_temperature.high=2"],
    "smoothing": ["smoothing.factor=0.2, smoothing.curve=2"],
    "skew": ["skew=0.7", "skew=-1"],
    "xtc": ["xtc.probability=0.5, xtc.threshold=0.05"],
    "xtc_expected": ["xtc_expected.probability=0.5, xtc_expected.threshold=0.05"],
    "adaptive_p": ["top_k=9, adaptive_p.target=0.3"],
    "mirostat_v1": ["mirostat_v1.tau=2", "temperature=1.5, mirostat_v1.tau=4, mirostat_v1.eta=0.5"],
    "no_repeat_ngram": ["no_repeat_ngram=3", "temperature=2, no_repeat_ngram=2"],
    "encoder_repetition": ["encoder_repetition=2, temperature=0.8"],
    "dry": ["dry.multiplier=2, dry.allowed_length=1", "temperature=0.5, dry=1"],
    "sequence_bias": ['sequence_bias=[{"tokens": [98, 98], "bias": 4}, {"text": "a", "bias": -2}], greedy'],
    "bad_words": ['bad_words=["ab", [70, 71]], temperature=0.8'],
    "allowed_tokens": ["allowed_tokens=[65, 66, 67, 68, 98], temperature=2"],
    "suppress_at_begin": ["suppress_at_begin=[65, 66, 98], greedy"],
    "forced_prefix": ['forced_prefix="abcabcabc", temperature=1'],
    "length_decay": ["length_decay.start=3, length_decay.factor=1.5, length_decay.ends=[0], temperature=1"],
    "guidance": ["guidance.scale=1.5, guidance.prompt=bcd, greedy", "guidance=0.5, guidance.prompt=b"],
    "choice": ['choice=["abcabc", "abdabd"], temperature=2'],
    "regex": ["regex=(ab|cd)+"],
    "json_schema": ['json_schema={"enum": ["abcdefgh", "abcdzzz"]}'],
    "lark": ['lark="start: (\\"ab\\" | \\"cdefg\\")+"'],
    "tool_call": ['tool_call=[{"name": "f", "parameters": {"type": "object", "properties": {}}}]'],
    "kgw": ["kgw=15485863", "temperature=2, kgw=1, greedy"],
    "gumbel_watermark": ["temperature=2, gumbel_watermark=42"],
    "typical": ["typical=0.6", "temperature=2, typical=0.95"],
    "banned_phrases": ["temperature=2, banned_phrases=" + json.dumps([*"ABCDEFGH"])],
}
INSTALLED = decodekit.load_plugins()
NAMES = sorted({*EXAMPLES, *INSTALLED.logits_processors.entries})
MIXED = ["greedy", "temperature=0.8, top_p=0.9", "repetition_penalty=1.2, temperature=1.2, min_p=0.05"]


def table(seed=1, *, sharp=3.0, end=-4.0):
    logits = (np.random.default_rng(seed).standard_normal((V, V)) * sharp).astype(np.float32)
    logits[:, 0] += end
    return logits


class Sum(TableModel):
    """A table whose row is chosen by all tokens so far, in whole numbers: nothing is ever rounded."""

    def __call__(self, tokens, cache, *, last=1):
        ids = np.asarray((*cache.ids, *np.asarray(tokens).tolist()), np.int64)
        assert len(ids) <= self.context_length and ids.max() < len(self.table)
        rows = np.cumsum(ids * (1 + np.arange(len(ids)) % 5)) % len(self.table)
        return self.table[rows[len(rows) - last :]], Tokens(tuple(ids.tolist()))


@dataclass(frozen=True)
class Parrot(TableModel):
    """Likes best what followed the last time its newest two tokens occurred: it copies."""

    def __call__(self, tokens, cache, *, last=1):
        ids = (*cache.ids, *np.asarray(tokens).tolist())
        logits = np.stack([self.logits(ids[: len(ids) - last + 1 + i]) for i in range(last)])
        return logits, Tokens(ids)

    def logits(self, ids):
        row = self.table[ids[-1]].copy()
        for end in range(len(ids) - 1, 1, -1):
            if ids[end - 2 : end] == ids[-2:]:
                row[ids[end]] += 40
                break
        return row


def decoder_over(model, *, plugins=INSTALLED, **options):
    bundle = open_bundle(FIXTURES / "in_place")
    return Decoder(model, Tokenizer(bundle.tokenizer, bundle.stop_ids), bundle, plugins, **options)


@pytest.fixture(scope="module")
def decoder():
    """With a draft model that is right now and then."""
    mostly = table() + (np.random.default_rng(9).standard_normal((V, V)) * 0.7).astype(np.float32)
    with decoder_over(Sum(table(), 600), draft=Sum(mostly)) as decoder:
        yield decoder


def write(answer, id):
    """Let an answer go on with that token."""
    logits = np.full((1, 1 + max(V, id)), -np.inf, np.float32)
    logits[0, id] = 0
    answer.take(logits)


# the same answers


@pytest.mark.parametrize("name", NAMES)
def test_no_strategy_notices_that_tokens_are_guessed(decoder, name):
    if name not in INSTALLED.logits_processors.entries:
        pytest.skip(f"no installed distribution registers {name!r}")
    assert name in EXAMPLES, f"add an example of {name} to EXAMPLES"
    guessed = 0
    for chain in EXAMPLES[name]:
        for seed in range(40 if SOAK else 4):
            options = {"seed": seed, "max_new_tokens": 60}
            plain = decoder.generate("aabaabaab", chain, **options)
            for how in ("lookup", "draft", "auto"):
                found = decoder.generate("aabaabaab", chain, speculate=how, **options)
                assert found == plain
                guessed += found.speculation["guessed"]
            assert plain.speculation == {}
    assert guessed > 0


@pytest.mark.parametrize("how", ["lookup", "draft"])
@pytest.mark.parametrize("chain", MIXED)
def test_whatever_ends_an_answer_ends_it_at_the_same_token(decoder, how, chain):
    class Odd(StoppingCriterion):
        def check(self, progress):
            ids = progress.history.generated
            return Stop("odd", by="Odd") if len(ids) > 5 and ids[-1] % 2 and ids[-2] % 2 else None

    ends = [
        {"stop": ["a", "bc", "\ufffd", "q"]},
        {"stop": ["e"], "min_new_tokens": 12},
        {"min_new_tokens": 30},
        {"stop_token_ids": list(range(40, 60)), "ignore_eos": True},
        {"criteria": [Odd()]},
        {"criteria": "repetition_loop.times=2, repetition_loop.least=2"},
        {"logprobs": 3, "logprobs_at": "final"},
        {"max_new_tokens": 1},
        {"max_new_tokens": 2},
    ]
    for seed, end in enumerate(ends * (10 if SOAK else 1)):
        options = {"seed": seed, "max_new_tokens": 50, **end}
        plain = decoder.generate("abcabcab", chain, **options)
        assert decoder.generate("abcabcab", chain, speculate=how, **options) == plain
        assert "".join(decoder.stream("abcabcab", chain, speculate=how, **options)) == plain.text


@pytest.mark.parametrize("how", ["lookup", "draft"])
def test_guesses_never_reach_beyond_the_window(decoder, how):
    for length in (570, 590, 596, 597, 598, 599):
        prompt = (list(range(1, 12)) * 60)[:length]
        for chain in ("greedy", "temperature=1.5"):
            options = {"seed": length, "ignore_eos": True}
            plain = decoder.generate(prompt, chain, **options)
            assert len(plain.ids) == 600 - length and plain.finish_reason == "length"
            assert decoder.generate(prompt, chain, speculate=how, **options) == plain


def test_requests_that_guess_and_requests_that_do_not_share_a_batch(decoder):
    prompts = ["aabaab", "x" * 200, "abcabcabc", "q", "zz" * 90, "hello hello hello"]
    for seed in range(6):
        options = {"seed": seed, "max_new_tokens": 40}
        plain = [decoder.generate(p, MIXED[seed % 3], **options) for p in prompts]
        streams = [
            decoder.stream(p, MIXED[seed % 3], speculate=how, **options)
            for p, how in zip(prompts, ["lookup", "off", "draft", "lookup", "off", "auto"])
        ]
        assert [s.complete() for s in streams] == plain
        samples = decoder.generate("aabaab", MIXED[seed % 3], n=5, speculate="lookup", **options)
        assert samples == decoder.generate("aabaab", MIXED[seed % 3], n=5, **options)


@pytest.mark.parametrize("how", ["lookup", "draft"])
def test_an_answer_of_the_graph_is_the_same_too(how):
    """Few tokens: one in 100,000 lies so near another that the rounding of a longer call decides."""
    loaded = decodekit.load(FIXTURES / "in_place", plugins=INSTALLED, threads=1)
    model, drafter = loaded.model, decodekit.load(FIXTURES / "concatenating", threads=1).model
    processors = loaded.processors("greedy" if how == "lookup" else "temperature=0.7, top_p=0.95")
    costs = costs_of(lambda tokens: 1.0)
    batch = Batch(model.slots(max_rows=4, max_bytes=10**8, together=True), max_rows=4)
    told, expected, paces = [], [], []
    for seed in range(8):
        prompt = [*b"Once upon a time. Once upon", *range(seed)]
        sampler, stopping = Sampler(processors), [MaxNewTokens(40)]
        expected.append([t.id for t in stream(model, prompt, sampler, stopping, seed=seed)])
        draft = PromptLookup() if how == "lookup" else DraftModel(drafter, sampler, V)
        answer, events = Answer(prompt, sampler, stopping, seed=seed), []
        paces.append(Pace(draft, costs))
        told.append(events)
        batch.add(Request(answer, 40, events.append, pace=paces[-1]))
    while not batch.idle:
        batch.turn()
    assert [[e.id for e in events if isinstance(e, Token)] for events in told] == expected
    statistics = [pace.statistics for pace in paces]
    assert sum(s.guessed for s in statistics) > 0
    if how == "draft":  # the same weights in another graph: right but for where it may not guess
        assert all(s.accepted >= 0.9 * s.guessed for s in statistics)
        assert batch.meter.steps < batch.meter.tokens / 5


# what goes wrong


@dataclass(frozen=True)
class FailsAt(LogitsProcessor):
    """Raises at generated token k."""

    k: int

    def process(self, logits, step, state):
        if len(step.rows[0].generated) == self.k:
            raise ValueError("lost")
        return logits


@pytest.mark.parametrize("how", ["lookup", "draft"])
@pytest.mark.parametrize("k", [0, 1, 5, 9])
def test_a_strategy_that_fails_fails_where_it_would_and_alone(decoder, how, k):
    options = {"seed": 2, "max_new_tokens": 30, "speculate": how}
    neighbour = decoder.stream("aabaab", "temperature=1", **options)
    failing, text = decoder.stream("aabaab", ["temperature=1", FailsAt(k)], **options), ""
    with pytest.raises(StrategyError, match=rf"FailsAt\(k={k}\) .*raised ValueError\('lost'\) at token {k}"):
        for piece in failing:
            text += piece
    whole = decoder.generate("aabaab", "temperature=1", seed=2, max_new_tokens=30)
    assert neighbour.complete() == whole and whole.text.startswith(text)


@dataclass(frozen=True)
class Sick(TableModel):
    """A draft model that is worse than none."""

    how: str = "nan"

    def __call__(self, tokens, cache, *, last=1):
        if self.how == "raises":
            raise RuntimeError("device lost")
        logits, cache = super().__call__(tokens, cache, last=last)
        return logits * np.float32(np.nan), cache


@pytest.mark.parametrize("how", ["nan", "raises"])
def test_a_draft_model_that_fails_guesses_nothing_and_is_counted(how):
    with decoder_over(Sum(table()), draft=Sick(table(), how=how)) as decoder:
        plain = decoder.generate("abc", "temperature=1", seed=1, max_new_tokens=20)
        found = decoder.generate("abc", "temperature=1", seed=1, max_new_tokens=20, speculate="draft")
        assert found == plain
        assert found.speculation["failed"] > 0 and found.speculation["guessed"] == 0


def test_a_draft_model_with_more_padding_than_the_model_guesses_no_padding():
    padded = np.full((300, 300), 9.0, np.float32)
    padded[:V, :V] = table()
    with decoder_over(Sum(table()), draft=TableModel(padded)) as decoder:
        plain = decoder.generate("abc", "temperature=1", seed=1, max_new_tokens=30)
        assert decoder.generate("abc", "temperature=1", seed=1, max_new_tokens=30, speculate="draft") == plain


def test_a_draft_model_with_a_shorter_window_stops_guessing_there():
    with decoder_over(Sum(table()), draft=Sum(table(), context_length=20)) as decoder:
        options = {"seed": 1, "max_new_tokens": 60, "ignore_eos": True}
        plain = decoder.generate("abc", "temperature=1", **options)
        found = decoder.generate("abc", "temperature=1", speculate="draft", **options)
        assert found == plain and found.speculation["failed"] == 0
        assert 0 < found.speculation["accepted"] <= 20


def test_a_draft_model_reads_a_long_text_in_pieces_while_others_go_on():
    read = []

    class Logged(Sum):
        def __call__(self, tokens, cache, *, last=1):
            read.append(len(tokens))
            return super().__call__(tokens, cache, last=last)

    model, sampler = Logged(table()), Sampler(())
    answer, draft = Answer([5] * 3 * PIECE, sampler, [], seed=1), DraftModel(model, sampler, V)
    guesses = [list(draft.guess(answer, 2)) for _ in range(4)]
    assert [len(g) for g in guesses] == [0, 0, 2, 2] and guesses[2] == guesses[3]
    assert read[:3] == [PIECE] * 3 and max(read) == PIECE
    logits, _ = model(answer.ids, model.new_cache())
    assert guesses[3][0] == Answer(answer.ids, sampler, [], seed=1).take(logits).id


def test_a_draft_model_with_other_tokens_is_refused():
    with pytest.raises(BundleError, match=r"its tokens are not those of .*in_place; .*the same tokenizer"):
        decodekit.load(FIXTURES / "in_place", draft="tagline")


def test_what_cannot_be_speculated_is_refused():
    with decoder_over(Sum(table())) as decoder:
        with pytest.raises(
            ParameterError, match="speculate 'draft' needs a draft model; load the model with"
        ):
            decoder.generate("abc", speculate="draft")
        with pytest.raises(ParameterError, match="speculate must be one of 'off', 'auto', 'lookup', 'draft'"):
            decoder.generate("abc", speculate="yes")
        plain = decoder.generate("abc", seed=1, max_new_tokens=3)
        assert decoder.generate("abc", seed=1, speculate="auto", max_new_tokens=3) == plain
    with (
        decoder_over(Sum(table()), deterministic=True) as decoder,
        pytest.raises(ParameterError, match="speculate must be 'off' for a deterministic decoder"),
    ):
        decoder.generate("abc", speculate="lookup")


# figures


def test_a_model_that_copies_is_guessed_nearly_always():
    rng = np.random.default_rng(3)
    prompt = rng.integers(1, V, 60).tolist() * 2
    with decoder_over(Parrot(table(sharp=0.1))) as decoder:
        meter = decoder.engine.meter
        found = decoder.generate(prompt, "temperature=1", seed=1, max_new_tokens=200, speculate="lookup")
        counted = found.speculation
        assert counted["accepted"] >= 0.9 * counted["guessed"] > 0
        assert counted["accepted"] > 150 and meter.steps < 60
        assert found == decoder.generate(prompt, "temperature=1", seed=1, max_new_tokens=200)


def test_the_statistics_are_what_happened(decoder):
    for seed in range(20):
        for how in ("lookup", "draft"):
            decoder.engine.meter.reset()
            found = decoder.generate(
                "aabaab", "temperature=0.6", seed=seed, max_new_tokens=40, speculate=how, ignore_eos=True
            )
            s, steps = found.speculation, decoder.engine.meter.steps
            assert s["accepted"] <= s["guessed"] <= MOST * s["calls"] and s["failed"] == 0
            # a turn with a call gives the accepted and one more; the first token comes with the prompt
            assert 40 - s["accepted"] - 1 <= steps + s["calls"] and steps <= 40


def test_a_right_guess_that_ends_the_answer_counts_as_right():
    logits = np.full((V, V), -9.0, np.float32)
    for now, then in ((1, 2), (2, 3), (3, 4), (4, 5), (5, 0)):
        logits[now, then] = 9.0
    model, sampler = TableModel(logits), Sampler((Greedy(),))
    batch, events = Batch(OneByOne(model, max_rows=1, max_bytes=1), max_rows=1), []
    pace = Pace(DraftModel(model, sampler, V), costs_of(lambda tokens: 1.0))
    answer = Answer([1], sampler, [EndTokens([0])])
    batch.add(Request(answer, 20, events.append, pace=pace))
    while not batch.idle:
        batch.turn()
    assert [event.id for event in events] == [2, 3, 4, 5, 0]
    assert pace.statistics == Statistics(calls=1, guessed=MOST, accepted=4)


# the pace


class Right:
    """Guesses `right` tokens rightly and then wrongly, of an answer that counts up."""

    def __init__(self, right, free=True, most=99):
        self.right, self.free, self.asked, self.most = right, free, [], most

    def guess(self, answer, most):
        self.asked.append(most)
        next = answer.newest + 1
        return [next + i if i < self.right else -1 for i in range(min(most, self.most))]


def costs_of(chunk, step=1.0):
    """Costs that never change: `chunk(tokens)` seconds."""
    costs = Costs()
    costs.saw_step(1, step)
    for _ in range(100):  # a measurement moves a belief by a part
        for tokens in range(2, MOST + 2):
            costs.saw_chunk(tokens, chunk(tokens))
    return costs


def drive(pace, drafter, tokens, costs=None, chunk=None):
    """How many guesses were sent at each step; where `chunk` is given, calls cost that and are measured."""
    answer, sent = Answer([0], Sampler(), []), []
    while len(sent) < tokens:
        guesses = list(pace.guesses(answer, 1, 1000))
        if guesses:
            right = min(drafter.right, len(guesses))
            pace.checked(len(guesses), right)
            if chunk:
                costs.saw_chunk(len(guesses) + 1, chunk(len(guesses) + 1))
            drawn = right + 1
        else:
            pace.expect(answer.newest + 1)
            drawn = 1
        for _ in range(drawn):
            write(answer, answer.newest + 1)
        sent.append(len(guesses))
    return sent


def test_where_a_longer_call_costs_no_more_as_many_are_guessed_as_may_be():
    drafter = Right(99)
    assert drive(Pace(drafter, costs_of(lambda tokens: 1.0)), drafter, 20) == [MOST] * 20


def test_where_a_longer_call_costs_as_much_as_its_tokens_none_is_guessed():
    drafter = Right(99)
    assert drive(Pace(drafter, costs_of(lambda tokens: 1.01 * tokens)), drafter, 30) == [0] * 30


def test_between_them_the_number_is_the_one_with_the_most_tokens_a_second():
    costs = costs_of(lambda tokens: 1.0 if tokens <= 4 else 3.0)
    drafter = Right(99)
    assert drive(Pace(drafter, costs), drafter, 10) == [3] * 10


def test_who_is_wrong_too_often_guesses_no_more_until_the_text_changes():
    drafter = Right(0)
    pace = Pace(drafter, costs_of(lambda tokens: 1.5))
    assert drive(pace, drafter, 40)[-30:] == [0] * 30
    drafter.right = 99
    sent = drive(pace, drafter, 40)
    assert sent[0] == 0 and sent[-1] == MOST  # it watches what it would have guessed


def test_a_dear_drafter_is_not_asked_in_vain_but_now_and_then():
    drafter = Right(0, free=False)
    pace = Pace(drafter, costs_of(lambda tokens: 1.5))
    sent = drive(pace, drafter, 20 * PROBE)
    tail = sent[5 * PROBE :]
    assert 10 <= sum(1 for n in tail if n) <= 16 and max(tail) == 1
    assert len(drafter.asked) == sum(1 for n in sent if n)


def test_a_cost_that_was_believed_too_high_is_measured_again():
    costs = costs_of(lambda tokens: 50.0)
    drafter = Right(99)
    sent = drive(Pace(drafter, costs), drafter, 40 * PROBE, costs, lambda tokens: 1.1)
    assert sent[: PROBE - 1] == [0] * (PROBE - 1) and sent[-1] == MOST


def test_one_slow_call_is_not_believed():
    costs = costs_of(lambda tokens: 1.0)
    costs.saw_chunk(MOST + 1, 1000.0)
    assert costs.chunk(MOST + 1) < 1.5
    costs.saw_step(1, 1000.0)
    assert costs.step(1) < 1.5


def test_a_length_not_seen_is_thought_as_cheap_as_a_shorter_one_and_never_dearer_than_a_longer_one():
    costs = Costs()
    assert costs.chunk(3) == 0.0 and costs.rate(1) == 0.0
    costs.saw_step(1, 1.0)
    assert costs.chunk(3) == 1.0
    costs.saw_chunk(3, 2.0)
    assert costs.chunk(2) == 1.0 and costs.chunk(3) == costs.chunk(9) > 1.0
    costs.saw_chunk(5, 0.5)
    assert costs.chunk(3) == costs.chunk(5) == costs.chunk(4) < 1.2


def test_many_rows_in_one_step_are_rather_not_kept_waiting():
    costs = costs_of(lambda tokens: 1.1)
    costs.saw_step(16, 1.3)
    drafter = Right(99)
    answer = Answer([0], Sampler(), [])
    assert len(Pace(drafter, costs).guesses(answer, 1, 1000)) == MOST
    assert len(Pace(drafter, costs).guesses(answer, 16, 1000)) == 0  # 12.3 tokens a second against 3


@pytest.mark.parametrize("room", [0, 1, 2, 5])
def test_no_more_is_guessed_than_may_be_generated(room):
    guesses = Pace(Right(99), costs_of(lambda tokens: 1.0)).guesses(Answer([0], Sampler(), []), 1, room)
    assert len(guesses) == max(0, room - 1)  # a call over k guesses gives k + 1 tokens


# the lookup


def naive_lookup(ids, most):
    for size in (4, 2):
        for end in range(len(ids) - 1, size - 1, -1):
            if ids[end - size : end] == ids[len(ids) - size :] and len(ids) >= size:
                return ids[end : end + most]
    return []


def test_the_lookup_gives_what_followed_last_time_and_prefers_the_longer_match():
    answer = Answer([1, 2, 3, 4, 9, 3, 4, 7, 1, 2, 3, 4], Sampler(), [])
    assert PromptLookup().guess(answer, 3) == [9, 3, 4]
    assert PromptLookup(sizes=(2,)).guess(answer, 3) == [7, 1, 2]
    assert PromptLookup().guess(Answer([1, 2, 3], Sampler(), []), 3) == []


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=60),
    st.lists(st.integers(0, 3), max_size=40),
    st.integers(1, 8),
)
@settings(max_examples=3000 if SOAK else 150, deadline=None, derandomize=not SOAK)
def test_a_lookup_that_learns_as_it_goes_finds_what_a_search_would(prompt, after, most):
    answer, lookup = Answer(prompt, Sampler(), []), PromptLookup()
    for id in [*after, None]:
        if len(answer.ids) % 3 != 1:  # it is not asked at every step
            assert lookup.guess(answer, most) == naive_lookup(answer.ids.tolist(), most)
        if id is not None:
            write(answer, id)


@given(st.integers(0, 2**32), st.lists(st.integers(1, 256), min_size=1, max_size=20), st.data())
@settings(max_examples=300 if SOAK else 30, deadline=None, derandomize=not SOAK)
def test_a_draft_model_guesses_what_it_would_write(seed, prompt, data):
    model, sampler = Sum(table(seed=2)), Sampler(())
    answer = Answer(prompt, sampler, [], seed=seed)
    draft = DraftModel(model, sampler, V)
    for _ in range(4):
        most = data.draw(st.integers(1, 6))
        alone = Answer(answer.ids.tolist(), sampler, [], seed=seed)
        expected, (logits, cache) = [], model(alone.ids, model.new_cache())
        for _ in range(most):
            expected.append(alone.take(logits).id)
            logits, cache = model(alone.ids[-1:], cache)
        assert draft.guess(answer, most) == expected
        for id in expected[: data.draw(st.integers(0, most))]:
            write(answer, id)
        for id in data.draw(st.lists(st.integers(1, 256), min_size=1, max_size=4)):
            write(answer, id)


# what a strategy leaves no choice about


@dataclass(frozen=True)
class Spelled(LogitsProcessor):
    """From the third token on, ten given ids; after them anything."""

    ids: tuple[int, ...] = tuple(range(70, 80))
    knows: bool = True

    def _left(self, row):
        place = len(row.generated) - 3
        return self.ids[place:] if place >= 0 else ()

    def process(self, logits, step, state):
        (left,) = map(self._left, step.rows)
        return np.where(step.ids == left[0], logits, -np.inf).astype(logits.dtype) if left else logits

    def forced(self, row, state):
        if self.knows is None:
            raise RuntimeError("lost")
        return self._left(row) if self.knows else ()


def test_forced_tokens_are_checked_at_once(decoder):
    options = {"seed": 3, "max_new_tokens": 16}
    plain = decoder.generate("aab", [Spelled()], **options)
    found = decoder.generate("aab", [Spelled()], speculate="lookup", **options)
    blind = decoder.generate("aab", [Spelled(knows=False)], speculate="lookup", **options)
    assert found == plain and blind.ids == plain.ids
    assert plain.ids[3:13] == Spelled.ids
    assert found.speculation["accepted"] >= 8 > blind.speculation["accepted"]


def test_a_strategy_that_cannot_tell_costs_a_guess_and_no_more(decoder):
    options = {"seed": 3, "max_new_tokens": 16}
    found = decoder.generate("aab", [Spelled(knows=None)], speculate="lookup", **options)
    assert found.ids == decoder.generate("aab", [Spelled()], **options).ids
    assert found.speculation["failed"] > 0
