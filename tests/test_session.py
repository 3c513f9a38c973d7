"""Sessions: what a stream gives, step by step; back and forth; and side by side."""

import gc
import threading
import weakref
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from once import Once

import decodekit
from decodekit import LogitsProcessor
from decodekit.bundle import Bundle
from decodekit.decoder import Decoder
from decodekit.errors import (
    ContextError,
    EngineClosedError,
    EngineStalledError,
    ParameterError,
    PromptError,
    SessionBusyError,
    StrategyError,
)
from decodekit.ops import keep, log_softmax
from decodekit.places import CHUNK
from decodekit.strategies.temperature import Temperature
from decodekit.strategies.top_k import TopK
from decodekit.strategies.top_p import TopP
from decodekit.testing import TableModel

FIXTURES = Path(__file__).parent / "fixtures"
SAMPLED = "temperature=0.9, top_p=0.95"
LONG = [int(i) for i in np.random.default_rng(5).integers(1, 250, 2 * CHUNK + 40)]


@dataclass(frozen=True)
class Surprise(LogitsProcessor):
    """Like Mirostat: a bound on the surprise of a token, moved by the tokens that came."""

    target: float

    def init(self, batch):
        return np.full((batch, 1), 2 * self.target)

    def process(self, logits, step, bound):
        best = logits == logits.max(axis=-1, keepdims=True)
        return keep(logits, best | (-log_softmax(logits) <= bound))

    def accept(self, logits, column, bound):
        return bound - 0.2 * (
            -np.take_along_axis(log_softmax(logits), column[:, None], axis=-1) - self.target
        )


class Counting(LogitsProcessor):
    """Adds to every logit how many tokens it accepted."""

    def init(self, batch):
        return np.zeros((batch, 1), np.float32)

    def process(self, logits, step, count):
        return logits + count

    def accept(self, logits, column, count):
        return count + 1


CHAINS = [
    None,
    SAMPLED,
    "temperature=1.3, top_k=20",
    "repetition_penalty=1.3, frequency_penalty=0.3, temperature=0.9",
    [Surprise(2.0)],
    [Once(), Temperature(0.9), Surprise(3.0), TopP(0.95)],
]


@cache
def load(kind):
    return decodekit.load(FIXTURES / kind, plugins=decodekit.load_plugins(only=()))


@pytest.fixture(params=["table", "in_place", "concatenating"])
def decoder(request, make_decoder):
    return make_decoder() if request.param == "table" else load(request.param)


def draw(session, count):
    return [session.sample() for _ in range(count)]


def to_the_end(session):
    tokens = [session.sample()]
    while not tokens[-1].stop:
        tokens.append(session.sample())
    return tuple(tokens)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
@pytest.mark.parametrize(
    "options", [{}, {"ignore_eos": True, "logprobs": 2}, {"stop": ["e", "a"], "sample": 3}]
)
def test_a_session_samples_what_a_stream_gives(decoder, chain, options):
    for prompt in ("the cat", LONG):
        for seed in (0, 7):
            options = {"max_new_tokens": 20, "seed": seed} | options
            completion = decoder.stream(prompt, chain, **options).complete()
            session = decoder.session(prompt, chain, **options)
            assert to_the_end(session) == completion.tokens
            assert session.ids == (*decoder.encode(prompt), *completion.ids)
            assert session.generated == completion.ids
            assert session.text.startswith(completion.text.removesuffix("\ufffd"))


def test_a_seed_that_was_drawn_is_told(decoder):
    session = decoder.session("the cat", SAMPLED)
    ids = [token.id for token in draw(session, 5)]
    again = decoder.session("the cat", SAMPLED, seed=session.seed)
    assert [token.id for token in draw(again, 5)] == ids


def test_going_on_after_the_end_is_up_to_the_caller(make_decoder, script):
    session = make_decoder(script("the cat!")).session("a")
    assert to_the_end(session)[-1].stop.reason == "stop"
    assert session.sample().id >= 0


def test_a_loop_of_ones_own_over_the_logits_is_greedy_decoding(decoder):
    expected = decoder.generate("the cat", max_new_tokens=12, ignore_eos=True).ids
    session = decoder.session("the cat")
    for _ in range(12):
        session.append(session.logits().argmax())
    assert session.generated == expected


def test_the_logits_are_a_copy_of_what_the_model_says(decoder):
    session = decoder.session("the cat", "temperature=0.5", seed=0)
    logits = session.logits()
    ids = np.asarray(session.ids)
    assert logits.dtype == np.float32 and logits.shape == (decoder.model.vocabulary,)
    assert np.allclose(logits, decoder.model(ids, decoder.model.new_cache())[0][0], atol=1e-5)
    logits[:] = np.nan
    assert np.isfinite(session.logits()).all()


def test_the_stages_show_what_each_strategy_did(decoder):
    session = decoder.session("the cat", [Temperature(0.5), TopK(3), Surprise(5.0)], seed=0)
    warm, few, mild = session.stages()
    assert [stage.name for stage in (warm, few, mild)] == ["temperature", "top_k", "Surprise"]
    assert np.allclose(warm.logits, session.logits() * 2)
    best = np.argsort(-session.logits(), kind="stable")[:3]
    assert set(few.ids[np.isfinite(few.logits)]) == set(best)
    assert session.sample().id in mild.ids[np.isfinite(mild.logits)]


def test_stages_before_every_chain_have_a_name_too(make_decoder):
    session = make_decoder(padding=9).session("a", "top_k=5", min_new_tokens=2)
    assert [stage.name for stage in session.stages()] == ["KnownTokens", "MinNewTokens", "top_k"]


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_forced_tokens_are_as_good_as_drawn_ones(decoder, chain):
    first = decoder.session("the cat", chain, seed=3)
    drawn = [token.id for token in draw(first, 24)]
    one_by_one, at_once = (decoder.session("the cat", chain, seed=3) for _ in range(2))
    for id in drawn[:16]:
        one_by_one.append(id)
    at_once.append(drawn[:16])
    for session in (one_by_one, at_once):
        assert [token.id for token in draw(session, 8)] == drawn[16:]
        assert session.text == first.text


def test_more_forced_tokens_than_a_chunk(decoder):
    for chain in (SAMPLED, [Surprise(2.0), *CHAINS[-1][1:2]]):
        forced, asked = decoder.session(LONG[:3], chain, seed=1), decoder.session(LONG, SAMPLED, seed=1)
        forced.append(LONG[3:])
        assert forced.ids == asked.ids
        assert np.allclose(forced.logits(), asked.logits(), atol=1e-4)
        assert forced.sample().id < decoder.tokenizer.size


def test_a_token_that_the_chain_had_removed_is_not_seen_by_strategies_from_there_on(decoder):
    session = decoder.session("the cat", [Counting(), TopK(1), Counting()], seed=0)
    session.append(int(session.logits().argmin()))
    first, _, last = session.stages()
    raw = session.logits()
    assert np.allclose(first.logits, raw + 1)  # before top_k: accepted
    assert np.allclose(last.logits.max(), raw.max() + 1)  # behind it: never seen
    session.sample()
    assert np.allclose(session.stages()[-1].logits.max(), session.logits().max() + 2 + 1)


def test_text_is_appended_as_its_tokens(decoder):
    session = decoder.session("the cat", SAMPLED, seed=0)
    session.append("dog <|end|> é")
    ids = decoder.tokenizer.encode_plain("dog <|end|> é")
    assert (session.text, session.generated) == ("dog <|end|> é", tuple(ids))
    session.append("")
    assert session.generated == tuple(ids)


def test_part_of_a_character_is_no_text_until_it_is_whole():
    session = load("in_place").session("a")
    first, second = load("in_place").tokenizer.encode_plain("é")
    session.append(first)
    assert session.text == ""
    session.append([second])
    assert session.text == "é"
    session.rewind(len(session.ids) - 1)
    assert session.text == ""
    session.append(second)
    assert session.text == "é"


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
@pytest.mark.parametrize("prompt", ["the cat", LONG], ids=["short", "long"])
def test_after_going_back_the_same_tokens_come(decoder, chain, prompt):
    session = decoder.session(prompt, chain, seed=4)
    start = len(session.ids)
    tokens = draw(session, 16)
    text = session.text
    for back in (15, 16, 9, 3, 0):
        session.rewind(start + back)
        assert session.generated == tuple(token.id for token in tokens[:back])
        assert draw(session, 16 - back) == tokens[back:]
        assert session.text == text


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_going_back_over_forced_tokens(decoder, chain):
    session = decoder.session("the cat", chain, seed=4)
    draw(session, 3)
    place = len(session.ids)
    session.append(LONG[:20])
    session.rewind(place + 6)
    other = decoder.session("the cat", chain, seed=4)
    draw(other, 3)
    other.append(LONG[:6])
    assert session.ids == other.ids and session.text == other.text
    assert [t.id for t in draw(session, 6)] == [t.id for t in draw(other, 6)]


def test_going_back_into_the_prompt_is_a_shorter_prompt(decoder):
    session = decoder.session(LONG, [Surprise(2.0)], seed=4)
    draw(session, 5)
    session.rewind(30)
    shorter = decoder.session(LONG[:30], [Surprise(2.0)], seed=4)
    assert session.ids == shorter.ids and session.text == "" and session.generated == ()
    assert [t.id for t in draw(session, 8)] == [t.id for t in draw(shorter, 8)]


def test_histories_that_a_strategy_kept_stay_as_they_were(decoder):
    kept = []

    class Keeps(LogitsProcessor):
        def process(self, logits, step, state):
            kept.append((step.rows[0], step.rows[0].ids.copy()))
            return logits

    session = decoder.session("the cat", [Keeps()], seed=0)
    draw(session, 6)
    session.rewind(len(session.ids) - 4)
    session.append([9, 8, 7])
    session.sample()
    assert all(np.array_equal(row.ids, ids) for row, ids in kept)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_after_a_fork_both_go_on_as_if_alone(decoder, chain):
    expected = draw(decoder.session("the cat", chain, seed=2), 14)
    session = decoder.session("the cat", chain, seed=2)
    draw(session, 6)
    twin = session.fork()
    for i in range(6, 10):
        assert session.sample() == twin.sample() == expected[i]
    session.append("dog")
    draw(session, 3)
    assert draw(twin, 4) == expected[10:]
    twin.rewind(len(twin.ids) - 8)
    assert draw(twin, 8) == expected[6:]
    assert session.text != twin.text


def test_a_fork_before_the_first_step(decoder):
    session = decoder.session(LONG, SAMPLED, seed=2)
    twin = session.fork()
    assert draw(twin, 5) == draw(session, 5)


def test_requests_beside_a_session_get_their_tokens_and_it_gets_its_own(decoder):
    options = {"seed": 6, "max_new_tokens": 40, "ignore_eos": True}
    prompts = ["the cat", "a dog", LONG, "b"]
    alone = [decoder.generate(p, SAMPLED, **options).ids for p in prompts]
    own = [token.id for token in draw(decoder.session(LONG[:200], SAMPLED, seed=1), 40)]
    streams = [decoder.stream(p, SAMPLED, **options) for p in prompts]
    session = decoder.session(LONG[:200], SAMPLED, seed=1)
    beside = [token.id for token in draw(session, 20)]
    session.rewind(210)
    beside[10:] = [token.id for token in draw(session, 30)]
    assert beside == own
    assert [stream.complete().ids for stream in streams] == alone


def test_a_prompt_is_read_a_chunk_a_call_on_the_engines_thread(make_decoder):
    decoder, calls = make_decoder(), []

    class Seen(TableModel):
        def __call__(self, tokens, cache, *, last=1):
            calls.append((len(tokens), threading.current_thread().name))
            return super().__call__(tokens, cache, last=last)

    decoder.engine.model = Seen(decoder.model.table)
    decoder.session(LONG, SAMPLED, seed=0).logits()
    assert [count for count, _ in calls] == [CHUNK, CHUNK, 40]
    assert {name for _, name in calls} == {"decodekit engine"}


def test_its_memory_goes_with_it():
    session = load("in_place").session("the cat")
    draw(session, 3)
    twin = session.fork()
    slabs = [weakref.ref(s._cache.slab) for s in (session, twin)]
    gc.disable()
    try:
        del session
        assert slabs[0]() is None and slabs[1]() is not None
        del twin
        assert slabs[1]() is None
    finally:
        gc.enable()


def test_it_keeps_its_decoder_open(make_decoder):
    session = make_decoder().session("the cat")
    gc.collect()
    assert draw(session, 3)


def test_a_second_thread_is_told_that_the_session_is_in_use(decoder):
    began, go_on = threading.Event(), threading.Event()

    class Slow(LogitsProcessor):
        def process(self, logits, step, state):
            began.set()
            go_on.wait(10)
            return logits

    session = decoder.session("the cat", [Slow()], seed=0)
    tokens = []
    thread = threading.Thread(target=lambda: tokens.append(session.sample()))
    thread.start()
    began.wait(10)
    for use in (
        session.sample,
        session.logits,
        session.fork,
        lambda: session.append(1),
        lambda: session.rewind(1),
    ):
        with pytest.raises(
            SessionBusyError, match="in use by another thread; give every thread its own"
        ) as info:
            use()
        assert info.value.code == "E_SESSION_BUSY"
    go_on.set()
    thread.join()
    assert session.generated == (tokens[0].id,)


def test_a_strategy_that_fails_leaves_the_session_where_it_was(decoder):
    class Fails(LogitsProcessor):
        broken = False

        def process(self, logits, step, state):
            if self.broken:
                raise RuntimeError("table lost")
            return logits

        def accept(self, logits, column, state):
            return state

    fails = Fails()
    session = decoder.session("the cat", [Surprise(2.0), fails], seed=0)
    expected = draw(session, 6)
    session.rewind(len(session.ids) - 3)
    before = (session.ids, session.text)
    fails.broken = True
    for use in (session.sample, lambda: session.append([5, 6])):
        with pytest.raises(StrategyError, match="table lost"):
            use()
        assert (session.ids, session.text) == before
    fails.broken = False
    assert draw(session, 3) == expected[3:]


def test_a_criterion_that_fails_leaves_the_session_where_it_was(decoder):
    class Fails(decodekit.StoppingCriterion):
        def check(self, progress):
            raise RuntimeError("no verdict")

    session = decoder.session("the cat", [Surprise(2.0)], criteria=[Fails()], seed=0)
    before = session.ids
    with pytest.raises(StrategyError, match="no verdict"):
        session.sample()
    assert session.ids == before and session.text == ""


def test_the_context_window_is_the_end(make_decoder):
    decoder = make_decoder(context_length=12)
    session = decoder.session([1] * 9, seed=0)
    draw(session, 2)
    with pytest.raises(
        ContextError, match="11 tokens and 2 more exceed the context window of 12; rewind, or"
    ):
        session.append([1, 1])
    session.append(1)
    with pytest.raises(ContextError, match="12 tokens and 1 more exceed the context window of 12"):
        session.sample()
    assert len(session.logits()) and len(session.ids) == 12
    session.rewind(11)
    session.sample()


def test_a_session_of_a_closed_decoder_says_so(make_decoder):
    decoder = make_decoder()
    session = decoder.session("the cat")
    session.sample()
    decoder.close()
    with pytest.raises(EngineClosedError, match="the decoder was closed; load the model again"):
        session.sample()


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda d: d.session(""), PromptError, "prompt is empty"),
        (
            lambda d: d.session("a", speculate="lookup"),
            ParameterError,
            "speculate must be 'off' in a session",
        ),
        (lambda d: d.session("a", prompt_logprobs=1), ParameterError, "prompt_logprobs is for generate"),
        (lambda d: d.session("a", "topp=1"), KeyError, "did you mean 'top_p'"),
        (lambda d: d.session("a", seeds=1), ParameterError, "no option named 'seeds'; did you mean 'seed'"),
        (lambda d: d.session([5]).append(-1), ParameterError, r"append: token ids are in \[0, \d+\), got -1"),
        (
            lambda d: d.session([5]).append([1, 10**6]),
            ParameterError,
            r"append: token ids are in .* got 1000000",
        ),
        (lambda d: d.session([5]).append([True]), ParameterError, "append: token ids are in .* got True"),
        (lambda d: d.session([5]).append(1.0), ParameterError, "append: token ids are in .* got 1.0"),
        (lambda d: d.session([5]).rewind(0), ParameterError, r"rewind: length must be in \[1, 1\], got 0"),
        (lambda d: d.session([5]).rewind(2), ParameterError, r"rewind: length must be in \[1, 1\], got 2"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_way_out(decoder, use, error, message):
    with pytest.raises(error, match=message):
        use(decoder)


def test_whoever_waits_for_a_stuck_model_is_told(tokenizer_file, tokenizer, plugins, make_decoder):
    table, come_back = make_decoder().model.table, threading.Event()

    class Stuck(TableModel):
        def __call__(self, tokens, cache, *, last=1):
            come_back.wait(10)
            return super().__call__(tokens, cache, last=last)

    folder = Bundle(tokenizer_file.parent, {"name": "stuck", "stop_ids": [0], "context_length": 99})
    decoder = Decoder(Stuck(table), tokenizer, folder, plugins, stall=0.2)
    sessions, told = [decoder.session([5]) for _ in range(3)], []

    def use(session):
        with pytest.raises(EngineStalledError, match="no step for .* s, in the model") as info:
            session.logits()
        told.append(info.value)

    threads = [threading.Thread(target=use, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(told) == 3
    come_back.set()
