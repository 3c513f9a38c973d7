"""
A batch in any order of events is each of its requests alone: `generate.stream` is the specification.

Hypothesis writes the history: requests come, take turns, are cancelled, time out, fail. After every
event the slots must hold what the requests are at; at the end every answer must be the reference's.
DECODEKIT_SOAK=1 runs the machines for minutes instead of seconds.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import decodekit
from decodekit import LogitsProcessor, Stop, StoppingCriterion
from decodekit.answer import Answer, Token
from decodekit.batch import Batch
from decodekit.costs import Costs
from decodekit.errors import ContextError, EngineError, StrategyError
from decodekit.places import CHUNK
from decodekit.prefix_cache import PrefixCache
from decodekit.processors import Step
from decodekit.request import Request
from decodekit.sampling import Sampler
from decodekit.slots import OneByOne
from decodekit.speculate import Pace, PromptLookup
from decodekit.strategies.greedy import Greedy
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit.strategies.min_new_tokens import MinNewTokens
from decodekit.strategies.min_p import MinP
from decodekit.strategies.penalties import FrequencyPenalty, PresencePenalty, RepetitionPenalty
from decodekit.strategies.repetition_loop import RepetitionLoop
from decodekit.strategies.stop_strings import StopStrings
from decodekit.strategies.temperature import Temperature
from decodekit.strategies.top_k import TopK
from decodekit.strategies.top_p import TopP
from decodekit.testing import TableModel, Tokens

SOAK = bool(os.environ.get("DECODEKIT_SOAK"))
IN_PLACE = Path(__file__).parent / "fixtures" / "in_place"
ROUNDING = 1e-4  # between a chunk and single steps the logits of this model differ by up to 1.7e-5


class Sum(TableModel):
    """A table whose row is chosen by all tokens so far, in whole numbers: nothing is ever rounded."""

    def __call__(self, tokens, cache, *, last=1):
        ids = np.asarray((*cache.ids, *np.asarray(tokens).tolist()), np.int64)
        rows = np.cumsum(ids * (1 + np.arange(len(ids)))) % len(self.table)
        return self.table[rows[len(rows) - last :]], Tokens(tuple(ids.tolist()))


@dataclass(frozen=True)
class Momentum(LogitsProcessor):
    """Remembers a fading sum of what was drawn: its answers depend on its state being its own."""

    def init(self, batch):
        return np.zeros((batch, 1), np.float32)

    def process(self, logits, step, state):
        liked = (step.ids % 7) == (state.astype(np.int64) % 7)
        return (logits + liked * np.float32(0.5)).astype(logits.dtype)

    def accept(self, logits, column, state):
        return (state * np.float32(0.5) + column[:, None]).astype(np.float32)


@dataclass(frozen=True)
class FailsAt(LogitsProcessor):
    """Raises, or gives something else than logits, at generated token k."""

    k: int
    how: str

    def process(self, logits, step, state):
        if len(step.rows[0].generated) < self.k:
            return logits
        faults = {"error": ValueError("table lost"), "exit": SystemExit(3), "interrupt": KeyboardInterrupt()}
        if self.how in faults:
            raise faults[self.how]
        return {
            "none": None,
            "short": logits[:, 1:],
            "double": logits.astype(np.float64),
            "nan": logits * np.float32(np.nan),
            "nobody": logits - np.float32(np.inf),
            "list": logits.tolist(),
        }[self.how]


@dataclass(frozen=True)
class CriterionFailsAt(StoppingCriterion):
    """Raises, or gives something else than a verdict, at generated token k."""

    k: int
    how: str

    def check(self, progress):
        if len(progress.history.generated) <= self.k:
            return None
        if self.how == "text":
            return "stop"
        raise {"error": ValueError("no such word"), "exit": SystemExit(3)}[self.how]


CHAINS = [
    (Greedy(),),
    (Temperature(0.8),),
    (Temperature(1.3), TopP(0.9)),
    (RepetitionPenalty(1.3), Temperature(0.7), TopK(12)),
    (FrequencyPenalty(0.4), PresencePenalty(0.3), MinP(0.05)),
    (MinNewTokens(6, [0]), Temperature(1.5)),
    (Momentum(), TopP(0.95)),
    (Temperature(0.9), Momentum(), MinP(0.02)),
]
FAULTS = [
    *(FailsAt(k, how) for k in (0, 1, 4) for how in ("error", "exit", "interrupt")),
    *(FailsAt(2, how) for how in ("none", "short", "double", "nan", "nobody", "list")),
    *(CriterionFailsAt(k, how) for k in (0, 3) for how in ("error", "exit", "text")),
]
CANCELLED = Stop("cancelled")
ALWAYS = Costs()  # calls of any size cost the same: guessing always pays
ALWAYS.saw_step(1, 1.0)


@dataclass
class Oracle:
    """Guesses the tokens that will come, but for every `wrong`-th."""

    future: list
    wrong: int
    free: bool = True

    def guess(self, answer, most):
        start = len(answer.sequence.history().generated)
        return [
            (id + 1) % 50 if (start + i) % self.wrong == self.wrong - 1 else id
            for i, id in enumerate(self.future[start : start + most])
        ]


@dataclass(frozen=True)
class Order:
    """All that decides a request's answer."""

    prompt: tuple
    processors: tuple
    criteria: tuple
    seed: int
    room: int
    sample: int = 0

    def answer(self, decoder):
        return Answer(
            self.prompt,
            Sampler(self.processors),
            (*self.criteria, MaxNewTokens(self.room)),
            seed=self.seed,
            sample=self.sample,
            detokenizer=decoder.tokenizer.detokenizer() if decoder.tokenizer else None,
        )


@dataclass
class Job:
    """A request in the batch, what it was told so far, and what it should be told in the end."""

    order: Order
    request: Request
    events: list
    expected: list
    cancelled: bool = False
    hurried: bool = False


@dataclass(frozen=True)
class World:
    """A model and its tokenizer."""

    model: object
    tokenizer: object
    exact: bool
    bytes_per_token: int

    def slots(self, **options):
        if hasattr(self.model, "slots"):
            return self.model.slots(**options)
        options.pop("together")
        return OneByOne(self.model, **options)

    def reference(self, order):
        """The events of the request alone: the loop of `generate`, with what it raised at the end."""
        answer, events = order.answer(self), []
        cache, tokens = self.model.new_cache(), answer.ids
        while True:
            logits, cache = self.model(tokens, cache)
            try:
                token = answer.take(logits)
            except BaseException as exc:
                return [*events, exc]
            events.append(token)
            if token.stop:
                return events
            tokens = answer.ids[-1:]


def in_place():
    decoder = decodekit.load(IN_PLACE, plugins=decodekit.load_plugins(only=()), threads=1)
    return World(decoder.model, decoder.tokenizer, False, decoder.model.bytes_per_token)


def table():
    rng = np.random.default_rng(5)
    return World(Sum((rng.standard_normal((257, 257)) * 3).astype(np.float32)), None, True, 0)


def last_is_end(events):
    return bool(events) and (not isinstance(events[-1], Token) or events[-1].stop is not None)


def ids_of(events):
    return [event.id for event in events if isinstance(event, Token)]


def assert_same(world, job, *, whole):
    """The events are the reference's, or the first of them, but for tokens that rounding decides."""
    found, expected = job.events, job.expected
    if world.exact:
        tokens = [event for event in found if isinstance(event, Token)]
        assert tokens == expected[: len(tokens)]
    for i, (mine, theirs) in enumerate(zip(ids_of(found), ids_of(expected))):
        if mine != theirs:
            assert not world.exact and rounding_decides(world, job.order, i, mine), (i, mine, theirs)
            return
    if not whole:
        return
    assert len(found) == len(expected)
    mine, theirs = found[-1], expected[-1]
    if isinstance(theirs, Token):
        assert mine.stop == theirs.stop
    elif isinstance(theirs, KeyboardInterrupt):
        assert isinstance(mine, StrategyError) and "KeyboardInterrupt" in str(mine)
    else:
        assert (type(mine), str(mine)) == (type(theirs), str(theirs))


def rounding_decides(world, order, place, token):
    """Whether another rounding of the reference's logits gives that token at that place."""
    answer = order.answer(world)
    cache, tokens = world.model.new_cache(), answer.ids
    for _ in range(place):
        logits, cache = world.model(tokens, cache)
        answer.take(logits)
        tokens = answer.ids[-1:]
    logits, _ = world.model(tokens, cache)
    step = Step.dense((answer.sequence.history(),), logits.shape[-1])
    rng = np.random.default_rng(0)
    for _ in range(200):
        other = logits + ROUNDING * rng.standard_normal(logits.shape).astype(logits.dtype)
        if int(Sampler(order.processors).draw(other, step, answer.states).tokens[0]) == token:
            return True
    return False


def families(world):
    """Texts that prompts are beginnings of, so that some share a prefix."""
    rng = np.random.default_rng(3)
    return [rng.integers(1, 257, 400).tolist() for _ in range(3)]


class BatchMachine(RuleBasedStateMachine):
    """Requests join and leave a batch in any order."""

    world: World

    @initialize(
        max_rows=st.integers(1, 5),
        tokens=st.sampled_from([420, 900, 2000, 100_000]),
        prefixes=st.sampled_from([0, 3 * CHUNK, 10_000]),
        together=st.booleans(),
    )
    def start(self, max_rows, tokens, prefixes, together):
        self.max_rows = max_rows
        self.max_bytes = tokens * (self.world.bytes_per_token or 1)
        self.slots = self.world.slots(max_rows=max_rows, max_bytes=self.max_bytes, together=together)
        self.prefix_bytes = prefixes * self.world.bytes_per_token
        self.batch = Batch(self.slots, max_rows=max_rows, prefix_bytes=self.prefix_bytes)
        self.families = families(self.world)
        self.jobs = []

    @rule(
        family=st.integers(0, 2),
        length=st.integers(1, 300),
        own=st.integers(0, 3),
        chain=st.sampled_from(CHAINS),
        fault=st.sampled_from([None] * 40 + FAULTS),
        stop=st.sampled_from([(), (), ("a",), ("\x00", "é", "xy"), ("the", "t")]),
        loop=st.booleans(),
        seed=st.integers(0, 2**64 - 1),
        room=st.sampled_from([1, 2, 7, 20, 60]),
        tenant=st.sampled_from(["", "b"]),
        guess=st.sampled_from(["no", "no", "lookup", 2, 5, 100]),
        n=st.sampled_from([1, 1, 1, 2, 4]),
    )
    def submit(self, family, length, own, chain, fault, stop, loop, seed, room, tenant, guess, n):
        prompt = (*self.families[family][:length], *([own] * own))
        criteria = [StopStrings(stop)] if stop and self.world.tokenizer else []
        criteria += [RepetitionLoop(3, 3, 6)] if loop else []
        if isinstance(fault, LogitsProcessor):
            chain = (*chain, fault) if seed % 2 else (fault, *chain)
        elif fault:
            criteria.append(fault)
        leader = None
        for sample in range(n):
            order = Order(prompt, tuple(chain), tuple(criteria), seed, room, sample)
            expected = self.world.reference(order)
            pace = None
            if guess == "lookup":
                pace = Pace(PromptLookup(), ALWAYS)
            elif guess != "no":
                pace = Pace(Oracle(ids_of(expected), guess), ALWAYS)
            events = []
            request = Request(
                order.answer(self.world), room, events.append, tenant=tenant, leader=leader, pace=pace
            )
            leader = leader or request
            self.jobs.append(Job(order, request, events, expected))
            self.batch.add(request)

    @precondition(lambda self: self.jobs)  # which turn drops whom depends on the clock: no rule may ask
    @rule(turns=st.integers(1, 12))
    def turn(self, turns):
        for _ in range(turns):
            told = [len(job.events) for job in self.jobs]
            self.batch.turn()
            for job, before in zip(self.jobs, told, strict=True):
                if job.cancelled:
                    assert job.events[before:] in ([], [CANCELLED]), "and no token more"
            self.slots_hold_what_the_requests_are_at()

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 1000))
    def cancel(self, which):
        job = self.jobs[which % len(self.jobs)]
        job.request.cancel()
        job.cancelled = True

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 1000))
    def time_is_over(self, which):
        job = self.jobs[which % len(self.jobs)]
        job.hurried |= not last_is_end(job.events)
        job.request.deadline = time.monotonic()

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 1000))
    def look_inside(self, which):
        """What the model remembers in a slot is what reading the ids gives."""
        if not self.batch.running:
            return
        request = self.batch.running[which % len(self.batch.running)]
        ids = request.answer.ids[: int(self.slots.lengths[request.slot])]
        if self.world.exact:
            assert self.slots._caches[request.slot].ids == tuple(ids.tolist())
        else:
            _, cache = self.world.model(ids, self.world.model.new_cache())
            assert np.allclose(
                self.slots.save(request.slot, 0, len(ids)), cache.slab.save(0, 0, len(ids)), atol=1e-3
            )

    @invariant()
    def slots_hold_what_the_requests_are_at(self):
        if not hasattr(self, "batch"):
            return
        used = {}
        for place, request in enumerate(self.batch.running):
            assert request.slot == place, "running requests fill the first slots"
            if not request.ended:
                used[request.slot] = len(request.answer.ids) - 1  # the newest was drawn, not read
        reading = self.batch.reading
        if reading:
            assert reading.slot >= len(self.batch.running)
            used[reading.slot] = reading.read
        assert len(self.batch.running) + (reading is not None) <= self.max_rows
        lengths = list(self.slots.lengths)
        ended = {r.slot for r in self.batch.running if r.ended}
        for slot, length in enumerate(lengths):
            assert slot in ended or length == used.get(slot, 0)
        self.memory_is_bounded()

    def memory_is_bounded(self):
        rows = len(self.batch.running) + (self.batch.reading is not None)
        longest = max((r.longest for r in [*self.batch.running, self.batch.reading] if r), default=0)
        assert rows * longest * self.world.bytes_per_token <= self.max_bytes
        if not self.world.exact:
            slab = self.slots.slab
            assert slab.rows * slab.capacity * self.world.bytes_per_token <= self.max_bytes
            assert sum(a.nbytes for a in slab.arrays) <= self.max_bytes
        assert self.batch.prefixes.bytes <= self.prefix_bytes

    def teardown(self):
        if not hasattr(self, "batch"):
            return
        for _ in range(100 * (len(self.jobs) + 1)):
            if self.batch.idle:
                break
            self.batch.turn()
            self.slots_hold_what_the_requests_are_at()
        assert self.batch.idle, "everything ends"
        assert not np.any(self.slots.lengths)
        for job in self.jobs:
            self.check(job)

    def check(self, job):
        assert not any(last_is_end(job.events[:i]) for i in range(1, len(job.events))), "one end, the last"
        assert last_is_end(job.events)
        if whole := not isinstance(job.events[-1], Stop):
            assert job.events[-1] != CANCELLED
        elif job.events[-1] == CANCELLED:
            assert job.cancelled
        else:
            assert job.hurried and job.events[-1].reason == "time"
        assert_same(self.world, job, whole=whole)


class InPlaceMachine(BatchMachine):
    world = in_place()


class TableMachine(BatchMachine):
    world = table()


def machine_test(machine, examples):
    test = machine.TestCase
    test.settings = settings(
        max_examples=50 * examples if SOAK else examples,
        stateful_step_count=40,
        deadline=None,
        report_multiple_bugs=False,
        derandomize=not SOAK,
        suppress_health_check=list(HealthCheck),
    )
    return test


TestABatchOverTheSlab = machine_test(InPlaceMachine, 40)
TestABatchOverOneCallPerSequence = machine_test(TableMachine, 60)


# by hand


WORLD, TABLE = InPlaceMachine.world, TableMachine.world
SAMPLED = (Temperature(1.0),)


def run(batch):
    for _ in range(10_000):
        if batch.idle:
            return
        batch.turn()
    raise AssertionError("it does not end")


def submit(batch, world, prompt, *, room=5, seed=0, processors=SAMPLED, **options):
    """A request in the batch, and the list that its events go to."""
    events = []
    order = Order(tuple(prompt), tuple(processors), (), seed, room, options.pop("sample", 0))
    request = Request(order.answer(world), room, events.append, **options)
    batch.add(request)
    return request, events


def samples(batch, world, prompt, n, **options):
    leader, told = None, []
    for sample in range(n):
        request, events = submit(batch, world, prompt, sample=sample, leader=leader, **options)
        leader = leader or request
        told.append((request, events))
    return told


def batch_of(world, *, max_rows=4, tokens=100_000, prefix_bytes=0):
    size = world.bytes_per_token or 1
    slots = world.slots(max_rows=max_rows, max_bytes=tokens * size, together=True)
    return Batch(slots, max_rows=max_rows, prefix_bytes=prefix_bytes)


@pytest.mark.parametrize("room", [1, 20])
@pytest.mark.parametrize("rows", [1, 3, 16])
def test_samples_of_a_prompt_read_it_once_however_many_rows_there_are(room, rows):
    batch = batch_of(TABLE, max_rows=rows)
    told = samples(batch, TABLE, [5, 6, 7], 10, room=room)
    run(batch)
    assert batch.meter.prompt_tokens == 3
    for sample, (_, events) in enumerate(told):
        alone = batch_of(TABLE)
        _, expected = submit(alone, TABLE, [5, 6, 7], sample=sample, room=room)
        run(alone)
        assert events == expected


def test_when_the_sample_that_reads_is_cancelled_the_next_one_reads_for_the_others():
    batch = batch_of(TABLE)
    prompt = list(range(1, 1 + 2 * CHUNK))
    told = samples(batch, TABLE, prompt, 4)
    batch.turn()
    told[0][0].cancel()
    run(batch)
    assert batch.meter.prompt_tokens == CHUNK + 2 * CHUNK
    assert [len(events) for _, events in told] == [1, 5, 5, 5]


def test_what_the_sample_that_reads_does_wrong_is_not_the_others_fault():
    batch = batch_of(TABLE)
    (_, failed), *others = (
        *samples(batch, TABLE, [5, 6], 1, processors=(FailsAt(0, "error"),)),
        *samples(batch, TABLE, [5, 6], 3),
    )
    run(batch)
    assert [type(e) for e in failed] == [StrategyError]
    assert [len(events) for _, events in others] == [5, 5, 5]


def test_logits_for_samples_that_wait_are_kept_no_longer_than_they_wait():
    batch = batch_of(TABLE, max_rows=2)
    told = samples(batch, TABLE, [5, 6], 4, room=3)
    shared = told[0][0].shared
    batch.turn()
    assert shared.logits is not None and shared.waiting == 2
    told[2][0].cancel()
    told[3][0].cancel()
    run(batch)
    assert shared.logits is None and shared.waiting == 0


def test_a_request_is_asked_no_more_once_it_ended():
    asked = []

    class Counts(StoppingCriterion):
        def check(self, progress):
            asked.append(len(progress.history.generated))
            return Stop("enough")

    batch, events = batch_of(TABLE), []
    answer = Answer([1, 2], Sampler(), [Counts()])
    batch.add(Request(answer, 10, events.append))
    submit(batch, TABLE, [3], room=5)
    run(batch)
    assert asked == [1] and len(events) == 1 and len(answer.ids) == 3


def test_a_request_that_ends_with_its_first_token_while_the_only_other_one_ends_by_a_guess():
    batch = batch_of(TABLE)
    future = ids_of(TABLE.reference(Order((1, 2), (), (), 0, 6)))
    _, guessed = submit(batch, TABLE, [1, 2], room=6, processors=(), pace=Pace(Oracle(future, 100), ALWAYS))
    batch.turn()
    _, short = submit(batch, TABLE, [3], room=1)
    _, waits = submit(batch, TABLE, list(range(1, 200)), room=2)
    run(batch)
    assert ids_of(guessed) == future and len(short) == 1 and len(waits) == 2


def test_a_batch_moves_the_last_running_request_into_a_place_that_falls_free():
    batch = batch_of(WORLD)
    requests = [submit(batch, WORLD, [7 + i] * (5 + i), room=30, seed=i)[0] for i in range(4)]
    batch.turn()
    batch.turn()
    assert batch.running == requests and [r.slot for r in requests] == [0, 1, 2, 3]
    requests[1].cancel()
    batch.turn()
    assert batch.running == [requests[0], requests[3], requests[2]]
    assert list(batch.slots.lengths) == [len(r.answer.ids) - 1 for r in batch.running] + [0]


def test_a_slab_grows_by_doubling_and_less_where_memory_ends():
    batch = batch_of(WORLD, max_rows=3, tokens=1000)
    slab = batch.slots.slab
    assert (slab.rows, slab.capacity) == (1, 256)
    submit(batch, WORLD, [9] * 250, room=50)
    batch.turn()
    assert (slab.rows, slab.capacity) == (1, 512)  # room for an answer as long as the prompt
    submit(batch, WORLD, [8] * 20, room=50)
    batch.turn()
    assert (slab.rows, slab.capacity) == (2, 500)  # two rows of 512 are more than 1000
    submit(batch, WORLD, [7] * 20, room=50)
    batch.turn()
    assert slab.rows * slab.capacity <= 1000 and len(batch.running) == 3
    run(batch)


def test_a_request_waits_until_its_longest_fits_beside_the_others():
    batch = batch_of(WORLD, tokens=700)
    first, _ = submit(batch, WORLD, [9] * 200, room=100)
    second, _ = submit(batch, WORLD, [8] * 300, room=60)
    for _ in range(20):
        batch.turn()
        assert batch.running == [first] if first in batch.running else True
        assert second.slot == -1
    run(batch)
    assert second.ended


def test_a_request_that_can_never_fit_is_refused_with_the_numbers():
    batch = batch_of(WORLD, tokens=300)
    with pytest.raises(ContextError, match="a cache for 301 tokens does not fit into the memory allowed"):
        submit(batch, WORLD, [9] * 251, room=50)
    assert batch.idle


def test_the_slab_is_never_larger_than_allowed_not_even_at_first():
    batch = batch_of(WORLD, max_rows=1, tokens=40)
    submit(batch, WORLD, [9] * 30, room=10)
    run(batch)
    assert batch.slots.slab.capacity == 40


class Faulty(OneByOne):
    """Slots whose k-th call of one method raises; memory that ran out, a graph that failed."""

    def __init__(self, model, method, k, error):
        super().__init__(model, max_rows=3, max_bytes=1)
        self.calls, self.fault = 0, (method, k, error)

    def __getattribute__(self, name):
        fault = object.__getattribute__(self, "__dict__").get("fault")
        if fault and name == fault[0]:
            self.calls += 1
            if self.calls == fault[1]:
                raise fault[2]
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("method", ["read", "step", "reserve", "copy", "cut"])
@pytest.mark.parametrize("error", [MemoryError("no more"), RuntimeError("graph failed")])
def test_when_the_model_fails_nobody_waits_for_ever_and_the_next_requests_run(method, k, error):
    batch = Batch(Faulty(TABLE.model, method, k, error), max_rows=3)
    told = [submit(batch, TABLE, [i] * 200, room=3 + i) for i in range(1, 5)]
    told += samples(batch, TABLE, [9] * 3, 3)
    for _ in range(1000):
        if batch.idle:
            break
        try:
            batch.turn()
        except (MemoryError, RuntimeError) as exc:
            assert not isinstance(exc, EngineError)
            batch.fail(exc)
    assert batch.idle
    failed = [events[-1] for _, events in told if isinstance(events[-1], BaseException)]
    assert len(failed) <= 3 and all(type(e) is EngineError and e.__cause__ is error for e in failed)
    for request, events in told:
        assert last_is_end(events) and (
            events[-1] in failed or len(ids_of(events)) == request.longest - len(request.prompt)
        )
    assert not any(batch.slots.lengths)
    if failed:
        assert batch.slots.calls >= k


def test_memory_that_ran_out_while_a_slab_grew_leaves_a_slab_that_can_grow_again():
    class Allocations(list):
        """The arrays of a slab, of which the third cannot be replaced once."""

        fails = True

        def __setitem__(self, at, value):
            if at == 2 and self.fails:
                type(self).fails = False
                raise MemoryError
            super().__setitem__(at, value)

    batch = batch_of(WORLD)
    batch.slots.slab.arrays = Allocations(batch.slots.slab.arrays)
    _, lost = submit(batch, WORLD, [9] * 300, room=3)
    with pytest.raises(MemoryError):
        run(batch)
    batch.fail(MemoryError())
    assert type(lost[-1]) is EngineError and batch.slots.slab.capacity == 1
    _, again = submit(batch, WORLD, [9] * 300, room=3)
    run(batch)
    assert ids_of(again) == ids_of(WORLD.reference(Order((9,) * 300, SAMPLED, (), 0, 3)))


def test_a_prompt_that_was_read_before_is_copied_and_gives_the_very_same_tokens():
    prompt = np.random.default_rng(1).integers(1, 257, 300).tolist()
    batch = batch_of(WORLD, prefix_bytes=10**7)
    _, first = submit(batch, WORLD, prompt)
    run(batch)
    assert (batch.meter.prompt_tokens, batch.meter.reused) == (300, 0)
    _, second = submit(batch, WORLD, prompt)
    run(batch)
    assert (batch.meter.prompt_tokens, batch.meter.reused) == (300 + 44, 256)
    assert first == second  # with the logits of every token, to the last bit
    _, longer = submit(batch, WORLD, [*prompt[:200], 5])
    run(batch)
    assert batch.meter.reused == 256 + 128
    _, others = submit(batch, WORLD, prompt, tenant="other")
    run(batch)
    assert batch.meter.reused == 256 + 128 and others == first
    assert len(longer) == 5


def test_what_does_not_fit_into_the_prefixes_goes_from_the_end_of_a_prompt():
    prompt = np.random.default_rng(1).integers(1, 257, 500).tolist()
    chunk = CHUNK * (WORLD.bytes_per_token + 8)  # keys and values, and the ids
    batch = batch_of(WORLD, prefix_bytes=2 * chunk)
    for _ in range(3):
        submit(batch, WORLD, prompt)
        run(batch)
        assert batch.prefixes.bytes == 2 * chunk
    assert batch.meter.reused == 2 * 2 * CHUNK
    submit(batch, WORLD, prompt[::-1])
    run(batch)
    submit(batch, WORLD, prompt)
    run(batch)
    assert batch.meter.reused == 2 * 2 * CHUNK and batch.prefixes.bytes == 2 * chunk


def test_a_prefix_is_found_by_all_its_ids():
    cache = PrefixCache(2, 1000)
    ids = np.arange(1, 9)
    for stop in (2, 4, 6):
        assert cache.wants("", ids, stop)
        cache.add("", ids, stop, np.full(3, stop))
        assert not cache.wants("", ids, stop)
    assert [int(a[0]) for a in cache.find("", ids)] == [2, 4, 6]
    assert [int(a[0]) for a in cache.find("", ids[:6])] == [2, 4]  # a token is left to read
    assert cache.find("", np.asarray([3, 4, 5, 6, 7])) == []  # the second chunk is none at the start
    assert [int(a[0]) for a in cache.find("", np.asarray([1, 2, 9, 4, 5]))] == [2]
    assert cache.find("other", ids) == [] and cache.wants("other", ids, 2)


def test_the_newest_prompts_stay_where_prefixes_are_full():
    cache = PrefixCache(2, 5 * (8 + 16))
    prompts = [np.asarray([i, i, i + 1, 0, 0]) for i in range(10)]
    for prompt in prompts:
        for stop in (2, 4):
            cache.add("", prompt, stop, np.zeros(1))
    assert [len(cache.find("", prompt)) for prompt in prompts] == [0] * 7 + [1, 2, 2]
    assert len(cache) == 5 and cache.bytes == 5 * (8 + 16)
