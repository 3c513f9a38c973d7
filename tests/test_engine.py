"""
One engine serves many callers: threads, tasks, processes that come, go, fail and are cut off.

The rows C1 to C10, P1 to P17, M11, M12 and R-3, R-6, R-10 of the reliability table. Where a test must
know at which step something happens, the model is `Gated`: it takes a step when it is let.
"""

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import decodekit
from decodekit import LogitsProcessor, Stop, StoppingCriterion
from decodekit.bundle import open_bundle
from decodekit.decoder import Decoder
from decodekit.errors import (
    ContextError,
    ContractError,
    EngineClosedError,
    EngineError,
    EngineStalledError,
    NumericalError,
    ParameterError,
    QueueFullError,
    StrategyError,
)
from decodekit.places import CHUNK
from decodekit.testing import TableModel
from decodekit.tokenizer import Tokenizer

IN_PLACE = Path(__file__).parent / "fixtures" / "in_place"
SAMPLED = "temperature=0.9, top_p=0.95"
V = 257


def table(seed=1):
    """Random logits, and no end token."""
    logits = (np.random.default_rng(seed).standard_normal((V, V)) * 3).astype(np.float32)
    logits[:, 0] = -100.0
    return logits


@dataclass(frozen=True)
class Gated(TableModel):
    """Runs a call when it is let; `calls` counts the calls that began."""

    gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    calls: list = field(default_factory=list)

    def __call__(self, tokens, cache, *, last=1):
        self.calls.append(len(tokens))
        if not self.gate.acquire(timeout=20):
            raise AssertionError("nobody let the model run")
        return super().__call__(tokens, cache, last=last)

    def let(self, calls):
        """Let that many calls happen, and wait until the next one begins or there is nothing to do."""
        before = len(self.calls)
        self.gate.release(calls)
        until(lambda: len(self.calls) > before or self.gate._value > 0)


@dataclass(frozen=True)
class Slow(TableModel):
    """Takes `seconds` a call."""

    seconds: float = 0.01

    def __call__(self, tokens, cache, *, last=1):
        time.sleep(self.seconds)
        return super().__call__(tokens, cache, last=last)


@dataclass(frozen=True)
class Broken(TableModel):
    """Gives other logits, or none, behind one token."""

    behind: int = 7
    gives: object = np.nan

    def __call__(self, tokens, cache, *, last=1):
        if isinstance(self.gives, BaseException) and self.behind in np.asarray(tokens):
            raise self.gives
        logits, cache = super().__call__(tokens, cache, last=last)
        logits = logits.copy()
        wrong = np.asarray(tokens)[len(tokens) - last :] == self.behind
        if not isinstance(self.gives, BaseException):
            logits[wrong, 3] = self.gives
            if self.gives == -np.inf:
                logits[wrong] = -np.inf
        return logits, cache


def decoder_over(model, **engine):
    bundle = open_bundle(IN_PLACE)
    return Decoder(model, Tokenizer(bundle.tokenizer), bundle, decodekit.load_plugins(only=()), **engine)


def in_place(**engine):
    return decodekit.load(IN_PLACE, plugins=decodekit.load_plugins(only=()), threads=1, **engine)


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.0005)


def nobody_left(decoder):
    return decoder.engine.running == 0 and decoder.engine.waiting == 0


@contextmanager
def gated(**engine):
    model = Gated(table())
    with decoder_over(model, **engine) as decoder:
        yield decoder, model
        model.gate.release(1_000_000)  # whatever still runs may end


def in_threads(works):
    """The results of functions that run at the same time; what one raised is its result."""
    results = [None] * len(works)

    def run(i, work):
        try:
            results[i] = work()
        except BaseException as exc:
            results[i] = exc

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a caller waits for ever"
    return results


def python(script, timeout=30):
    """Run a script in a process; what it printed, and the seconds from its last line to its end."""
    command = [sys.executable, "-c", PREAMBLE + script]
    lines, last = [], time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        for line in process.stdout:
            lines.append(line.rstrip())
            last = time.monotonic()
        process.wait()
        timer.cancel()
    assert process.returncode == 0, (process.returncode, lines)
    return lines, time.monotonic() - last


PREAMBLE = f"""
import asyncio, os, signal, sys, threading, time
import decodekit
from decodekit.errors import DecodekitError
def load(**options):
    return decodekit.load({str(IN_PLACE)!r}, plugins=decodekit.load_plugins(only=()), threads=1, **options)
"""


# many callers


@pytest.mark.parametrize(
    "make", [lambda: decoder_over(TableModel(table())), lambda: in_place(deterministic=True)]
)
def test_threads_that_share_a_decoder_get_what_each_would_get_alone(make):
    with make() as decoder:
        jobs = [
            (prompt, chain, {"seed": seed, "max_new_tokens": 5 + seed, "stop": "the"})
            for seed in range(8)
            for prompt, chain in [
                ("abc", SAMPLED),
                ("x" * 150, None),
                ("abc", "temperature=1.5"),
                ("q", SAMPLED),
            ]
        ]
        alone = [decoder.generate(p, c, **options) for p, c, options in jobs]
        assert len(jobs) == 32

        def work(i):
            prompt, chain, options = jobs[i]
            if i % 3 == 0:
                return decoder.stream(prompt, chain, **options).complete()
            return decoder.generate(prompt, chain, **options)

        assert in_threads([lambda i=i: work(i) for i in range(32)]) == alone
        until(lambda: nobody_left(decoder))


def test_generate_works_where_an_event_loop_runs():
    with decoder_over(TableModel(table())) as decoder:
        expected = decoder.generate("abc", seed=1, max_new_tokens=5)

        async def main():
            return decoder.generate("abc", seed=1, max_new_tokens=5), decoder.stream("abc", max_new_tokens=5)

        found, stream = asyncio.run(main())
        assert found == expected and stream.complete().ids == expected.ids


def test_a_long_list_needs_no_long_queue():
    with decoder_over(TableModel(table()), max_rows=2, max_queue=3) as decoder:
        prompts = [f"prompt {i}" for i in range(100)]
        completions = decoder.generate(prompts, SAMPLED, seed=1, max_new_tokens=3)
        assert completions == [decoder.generate(p, SAMPLED, seed=1, max_new_tokens=3) for p in prompts]


def test_two_long_lists_share_a_short_queue():
    with decoder_over(TableModel(table()), max_rows=2, max_queue=10) as decoder:
        prompts = [f"prompt {i}" for i in range(60)]
        alone = decoder.generate(prompts, SAMPLED, seed=1, max_new_tokens=3)
        works = [lambda: decoder.generate(prompts, SAMPLED, seed=1, max_new_tokens=3)] * 2
        assert in_threads(works) == [alone, alone]


def test_one_bad_prompt_in_a_list_ends_the_others_too():
    with gated(max_rows=2) as (decoder, model):
        threading.Timer(0.05, model.gate.release, (1000,)).start()
        with pytest.raises(StrategyError):
            decoder.generate(["a", "b", "c"], [Faulty(2, ValueError("x"))], max_new_tokens=500)
        until(lambda: nobody_left(decoder))
        assert decoder.engine.meter.tokens < 20


# samples


@pytest.mark.parametrize("rows", [1, 3, 16])
@pytest.mark.parametrize("limit", [1, 12])
def test_n_samples_are_the_single_ones_and_read_the_prompt_once(rows, limit):
    prompt = "y" * 300
    with decoder_over(TableModel(table()), max_rows=rows, prefix_bytes=0) as decoder:
        options = {"seed": 3, "max_new_tokens": limit}
        together = decoder.generate(prompt, SAMPLED, n=20, **options)
        assert decoder.engine.meter.prompt_tokens == 300
        alone = [decoder.generate(prompt, SAMPLED, sample=i, **options) for i in range(20)]
        assert together == alone


# a task that is cancelled


def test_a_task_may_be_cancelled_after_any_number_of_steps():
    problems = []

    async def main(decoder, model):
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        for steps in range(12):
            neighbour = decoder.stream("abc", SAMPLED, seed=steps, max_new_tokens=600 - 3)
            many = ["abc", "d" * 300, "e"] if steps % 2 else "d" * 300
            task = asyncio.create_task(decoder.agenerate(many, SAMPLED, n=1 + steps % 3, max_new_tokens=4))
            await asyncio.sleep(0)
            for _ in range(steps):
                model.let(1)
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            before = len(model.calls)
            while decoder.engine.running > 1 or decoder.engine.waiting:
                assert len(model.calls) - before < 12, "the calls of a step or two"
                model.gate.release(1)
                await asyncio.sleep(0.001)
            neighbour.close()
            while not nobody_left(decoder):
                model.gate.release(1)
                await asyncio.sleep(0.001)

    with gated(max_rows=3) as (decoder, model):
        asyncio.run(main(decoder, model))
        gc.collect()
    assert problems == []


def test_a_stream_whose_task_is_cancelled_frees_its_place():
    async def main(decoder, model):
        async def read():
            async for _ in stream:
                pass

        for steps in (0, 1, 5):
            stream = decoder.astream("abc", SAMPLED, max_new_tokens=500)
            task = asyncio.create_task(read())
            if steps:
                model.gate.release(steps)
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            model.gate.release(2)
            until(lambda: nobody_left(decoder))
            assert [piece async for piece in stream] == [] and stream.completion is None

    with gated() as (decoder, model):
        asyncio.run(main(decoder, model))


def test_waiting_with_a_time_out_ends_the_request():
    async def main(decoder):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(decoder.agenerate("abc", SAMPLED, max_new_tokens=500), 0.03)
        stream = decoder.astream("abc", SAMPLED, max_new_tokens=500)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.03):
                async for _ in stream:
                    pass
        until(lambda: nobody_left(decoder), 0.5)

    with decoder_over(Slow(table())) as decoder:
        asyncio.run(main(decoder))


def test_a_task_group_that_fails_takes_its_requests_along():
    async def main(decoder):
        async def fails():
            await asyncio.sleep(0.02)
            raise ValueError("elsewhere")

        with pytest.raises(ExceptionGroup) as failure:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(decoder.agenerate(f"{i}", max_new_tokens=500)) for i in range(5)]
                group.create_task(fails())
        assert [type(e) for e in failure.value.exceptions] == [ValueError]
        assert all(task.cancelled() for task in tasks)
        until(lambda: nobody_left(decoder), 0.5)
        return await decoder.agenerate("abc", max_new_tokens=2)

    with decoder_over(Slow(table()), max_rows=2) as decoder:
        assert len(asyncio.run(main(decoder)).ids) == 2


def test_an_event_loop_that_is_gone_disturbs_nobody():
    with gated(max_rows=4) as (decoder, model):

        async def begin():
            return decoder.astream("abc", SAMPLED, max_new_tokens=500)

        orphans = [asyncio.run(begin()) for _ in range(3)]
        other = decoder.stream("abc", SAMPLED, seed=1, max_new_tokens=5)
        model.gate.release(1000)
        assert len(other.complete().ids) == 5
        until(lambda: nobody_left(decoder))  # who cannot be told wants no more
        assert all(orphan.completion is None for orphan in orphans)


def test_a_stream_on_an_event_loop_may_be_closed_by_another_task():
    async def main(decoder, model):
        stream = decoder.astream("abc", SAMPLED, max_new_tokens=500)

        async def read():
            return [piece async for piece in stream]

        task = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        stream.close()
        model.gate.release(2)
        assert await asyncio.wait_for(task, 2) == []

    with gated() as (decoder, model):
        asyncio.run(main(decoder, model))


# a stream that is left


def test_a_stream_that_is_dropped_frees_its_place_within_a_step():
    with gated() as (decoder, model):
        for steps in (0, 1, 4):
            stream = decoder.stream("abc", SAMPLED, max_new_tokens=500)
            until(lambda: model.calls)
            for _ in range(steps):
                model.let(1)
            del stream
            before = len(model.calls)
            model.gate.release(1)
            until(lambda: nobody_left(decoder))
            assert len(model.calls) - before <= 1
            model.calls.clear()


def test_a_stream_that_is_dropped_while_it_waits_or_reads_is_gone_too():
    with gated(max_rows=1) as (decoder, model):
        reading = decoder.stream("d" * 300, max_new_tokens=5)
        waiting = decoder.stream("abc", max_new_tokens=5)
        until(lambda: decoder.engine.running == 1 and decoder.engine.waiting == 1)
        del waiting, reading
        model.gate.release(1)
        until(lambda: nobody_left(decoder))
        assert model.calls == [CHUNK]


def test_a_stream_is_read_once_by_whoever_reads():
    with decoder_over(TableModel(table())) as decoder:
        expected = decoder.generate("abc", SAMPLED, seed=1, max_new_tokens=20).text
        stream = decoder.stream("abc", SAMPLED, seed=1, max_new_tokens=20)
        first = next(stream)
        (rest,) = in_threads([lambda: "".join(stream)])
        assert first + rest == expected == stream.completion.text
        assert list(stream) == [] and stream.complete().text == expected


def test_a_stream_keeps_its_decoder():
    pieces = list(in_place().stream("Once", SAMPLED, seed=1, max_new_tokens=20))
    with in_place() as decoder:
        assert "".join(pieces) == decoder.generate("Once", SAMPLED, seed=1, max_new_tokens=20).text


def test_a_stream_may_be_closed_from_another_thread_while_one_waits_for_its_next_piece():
    with gated() as (decoder, model):
        stream, pieces = decoder.stream("abc", SAMPLED, max_new_tokens=500), []
        reader = threading.Thread(target=lambda: pieces.extend(stream), daemon=True)
        reader.start()
        until(lambda: model.calls)
        stream.close()
        model.gate.release(1)
        reader.join(2)
        assert not reader.is_alive() and stream.completion is None and pieces == []
        with pytest.raises(EngineClosedError, match="the stream was closed before its end"):
            stream.complete()


# a decoder that is closed


def test_closing_ends_whoever_waits_with_an_error():
    with gated(max_rows=2) as (decoder, model):
        works = [
            lambda: decoder.generate("abc", max_new_tokens=500),
            lambda: decoder.generate(["abc", "d", "e"], n=2, max_new_tokens=500),
            lambda: decoder.stream("d" * 300, max_new_tokens=250).complete(),
            lambda: asyncio.run(decoder.agenerate("abc", max_new_tokens=500)),
            lambda: decoder.engine.call(lambda: 1),
        ]

        def close():
            until(lambda: decoder.engine.running + decoder.engine.waiting == 1 + 6 + 1 + 1)
            threading.Timer(0.05, model.gate.release, (5,)).start()  # the turn in progress
            decoder.close()

        *answers, closed = in_threads([*works, close])
        assert closed is None
        for answer in answers:
            assert type(answer) is EngineClosedError or answer == 1
            assert answer == 1 or "the decoder was closed; load the model again" in str(answer)
        assert len({id(answer) for answer in answers}) == len(answers)


def test_a_decoder_may_be_closed_twice_and_not_used_after():
    decoder = decoder_over(TableModel(table()))
    decoder.generate("abc", max_new_tokens=2)
    decoder.close()
    decoder.close()
    for use in (decoder.generate, decoder.stream, lambda p: asyncio.run(decoder.agenerate(p))):
        for _ in range(3):
            with pytest.raises(
                EngineClosedError, match="the decoder was closed; load the model again"
            ) as error:
                use("abc")
            depth = len(error.traceback)
    assert depth < 12  # the error of one caller does not hold the frames of those before


def test_a_decoder_that_was_never_used_may_be_closed():
    decoder = decoder_over(TableModel(table()))
    decoder.close()
    with pytest.raises(EngineClosedError):
        decoder.generate("abc")


def test_a_decoder_that_is_dropped_ends_its_thread():
    before = threading.enumerate()
    decoder = decoder_over(TableModel(table()), stall=0.4)
    decoder.generate("abc", max_new_tokens=2)
    mine = [thread for thread in threading.enumerate() if thread not in before]
    assert sorted(thread.name for thread in mine) == ["decodekit engine", "decodekit watchdog"]
    engine = weakref.ref(decoder.engine)
    del decoder
    until(lambda: not any(thread.is_alive() for thread in mine))
    until(lambda: engine() is None)


def test_a_process_with_live_streams_ends_at_once():
    lines, seconds = python(
        """
decoder, other = load(), load()
streams = [d.stream("abc", "temperature=1", ignore_eos=True) for d in (decoder, other) for _ in range(20)]
def generate():
    try:
        other.generate("abc", ignore_eos=True)
    except DecodekitError:
        pass
threading.Thread(target=generate, daemon=True).start()
print(len(next(streams[0])) > 0)
"""
    )
    assert lines == ["True"] and seconds < 2.0


def test_a_process_with_a_strategy_that_hangs_ends_too():
    lines, seconds = python(
        """
class Hangs(decodekit.LogitsProcessor):
    def process(self, logits, step, state):
        time.sleep(100)
decoder = load()
stream = decoder.stream("abc", [Hangs()])
print("begun")
"""
    )
    assert lines == ["begun"] and seconds < 2.0


def test_an_interrupt_ends_what_the_interrupted_call_asked_for():
    lines, _ = python(
        """
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background would ignore it
decoder = load()
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    decoder.generate(["abc"] * 200, "temperature=1", n=2, ignore_eos=True)
except KeyboardInterrupt as exc:
    kept = exc  # as an interactive session keeps it
end = time.monotonic() + 1
while decoder.engine.running + decoder.engine.waiting and time.monotonic() < end:
    time.sleep(0.01)
print(decoder.engine.running + decoder.engine.waiting, len(decoder.generate("abc", max_new_tokens=3).ids))
"""
    )
    assert lines == ["0 3"]


@pytest.mark.parametrize("used", ["used", "unused"])
@pytest.mark.parametrize("ending", ["sys.exit(0)", "os._exit(0)", "decoder.close(); sys.exit(0)"])
def test_a_decoder_of_the_parent_says_so_in_a_forked_child(used, ending):
    lines, _ = python(
        f"""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
decoder = load()
if {used == "used"}:
    expected = decoder.generate("abc", seed=1, max_new_tokens=5)
    live = decoder.stream("abc", "temperature=1", seed=1)
child = os.fork()
if child == 0:
    for use in (decoder.generate, decoder.stream, lambda p: asyncio.run(decoder.agenerate(p))):
        try:
            use("abc")
            print("no error")
        except DecodekitError as exc:
            print(exc.code, "load it in the child" in str(exc), flush=True)
    if {used == "used"}:
        try:
            next(live)
            print("no error")
        except DecodekitError as exc:
            print(exc.code, "start one in the child" in str(exc), flush=True)
    {ending}
end = time.monotonic() + 10
while os.waitpid(child, os.WNOHANG) == (0, 0):
    if time.monotonic() > end:
        os.kill(child, 9)
        print("the child hangs")
    time.sleep(0.01)
print(len(decoder.generate("abc", max_new_tokens=3).ids))
"""
    )
    assert lines == ["E_FORKED True"] * (3 + (used == "used")) + ["3"]


# limits


def test_a_full_queue_refuses_and_then_takes_again():
    with gated(max_rows=2, max_queue=3) as (decoder, model):
        streams = [decoder.stream("abc", max_new_tokens=3) for _ in range(5)]
        with pytest.raises(
            QueueFullError, match="no room for 1 more: . requests run, . wait and at most 3 may"
        ):
            decoder.stream("abc", max_new_tokens=3)
        with pytest.raises(QueueFullError, match="no room for 2 more"):
            decoder.generate("abc", n=2)
        model.gate.release(1000)
        assert [len(s.complete().ids) for s in streams] == [3] * 5
        until(lambda: nobody_left(decoder))
        assert len(decoder.generate("abc", n=5, max_new_tokens=3)) == 5


def test_a_request_that_can_never_fit_is_an_error_and_one_that_fits_later_waits():
    tokens = 100
    with in_place(cache_bytes=tokens * 256, prefix_bytes=0) as decoder:
        assert decoder.model.bytes_per_token == 256
        with pytest.raises(ContextError, match="a cache for 101 tokens does not fit into the memory allowed"):
            decoder.generate("a" * 50, max_new_tokens=51)
        with pytest.raises(ContextError):
            decoder.stream("a" * 50, max_new_tokens=51).complete()
        many = decoder.generate(["a" * 50] * 6, SAMPLED, seed=1, max_new_tokens=50, ignore_eos=True)
        assert [len(c.ids) for c in many] == [50] * 6
        assert decoder.engine._batch.slots.slab.rows == 1


@pytest.mark.parametrize(
    ("where", "prompts"), [("queue", ["b", "abc"]), ("prompt", ["b" * 590]), ("answer", ["b"])]
)
def test_max_time_is_kept_in_the_queue_while_reading_and_while_answering(where, prompts):
    with decoder_over(Slow(table(), seconds=0.04), max_rows=1) as decoder:
        first = [decoder.stream(p, max_new_tokens=500) for p in prompts[:-1]]
        began = time.monotonic()
        completion = decoder.generate(prompts[-1], max_new_tokens=9, max_time=0.1)
        assert 0.1 <= time.monotonic() - began < 0.1 + 0.04 * 3 + 0.1
        assert (completion.finish_reason, completion.stopped_by) == ("time", "0.1 s")
        assert (len(completion.ids) > 0) == (where == "answer")
        for stream in first:
            stream.close()
        until(lambda: nobody_left(decoder))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_rows": 0}, r"max_rows must be in \[1, inf\), got 0"),
        ({"max_rows": 1.5}, "max_rows must be a whole number"),
        ({"max_queue": -1}, "max_queue must be in"),
        ({"cache_bytes": 0}, "cache_bytes must be in"),
        ({"prefix_bytes": -1}, "prefix_bytes must be in"),
        ({"stall": 0}, "stall: seconds must be in"),
    ],
)
def test_an_engine_that_could_not_work_is_refused(option, message):
    with pytest.raises(ParameterError, match=message):
        decoder_over(TableModel(table()), **option)


def test_where_no_thread_can_be_had_the_caller_is_told_and_may_try_again(monkeypatch):
    with decoder_over(TableModel(table())) as decoder:
        with monkeypatch.context() as patched:
            patched.setattr(
                threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("no thread"))
            )
            with pytest.raises(RuntimeError, match="no thread"):
                decoder.generate("abc", max_new_tokens=2)
        until(lambda: nobody_left(decoder))
        assert len(decoder.generate("abc", max_new_tokens=2).ids) == 2


# a step that takes too long


@dataclass(frozen=True, repr=False)
class Sleeps(LogitsProcessor):
    """Sleeps at generated token k."""

    k: int
    seconds: float
    asleep: threading.Event = field(default_factory=threading.Event)

    def __repr__(self):
        return "Sleeps()"

    def process(self, logits, step, state):
        if len(step.rows[0].generated) == self.k:
            self.asleep.set()
            time.sleep(self.seconds)
        return logits


def test_a_strategy_that_hangs_is_named_to_everybody():
    with decoder_over(TableModel(table()), max_rows=3, stall=0.15) as decoder:
        sleeps = Sleeps(3, 1.2)
        works = [
            lambda: decoder.generate("abc", max_new_tokens=590),
            lambda: decoder.stream("abc", max_new_tokens=590).complete(),
            lambda: asyncio.run(decoder.agenerate(["abc"] * 5, max_new_tokens=590)),
        ]
        first = decoder.stream("abc", [sleeps], max_new_tokens=9)
        assert sleeps.asleep.wait(5)
        began = time.monotonic()
        answers = in_threads([first.complete, *works])
        assert time.monotonic() - began < 1.0
        for answer in answers:
            assert type(answer) is EngineStalledError
            assert "in a strategy of Sleeps()" in str(answer) and "with a larger stall" in str(answer)
        with pytest.raises(EngineStalledError, match=r"no step for 0\.\d s"):
            decoder.generate("abc")
        until(lambda: decoder.engine.age == 0.0)


def test_a_model_that_hangs_is_named_too_and_so_is_a_job():
    stalled = pytest.raises(EngineStalledError, match="in the model; load the model again")
    with gated(stall=0.1) as (decoder, _), stalled:
        decoder.generate("abc")
    decoder = decoder_over(TableModel(table()), stall=0.1)
    with pytest.raises(EngineStalledError, match="in the model"):
        decoder.engine.call(lambda: time.sleep(0.6))


def test_a_strategy_that_cannot_even_be_printed_is_told_about():
    class Mute(Sleeps):
        def __repr__(self):
            raise ValueError("no words")

    decoder = decoder_over(TableModel(table()), stall=0.1)
    with pytest.raises(EngineStalledError, match="Mute"):
        decoder.generate("abc", [Mute(0, 0.6)])


# strategies that do wrong


@dataclass(frozen=True)
class Faulty(LogitsProcessor):
    """Does something wrong at generated token k."""

    k: int
    fault: object

    def process(self, logits, step, state):
        if len(step.rows[0].generated) < self.k:
            return logits
        if isinstance(self.fault, BaseException):
            raise self.fault
        return self.fault(logits)


def writes(logits):
    logits[0, 0] = 1.0
    return logits


FAULTS = [
    (ValueError("lost"), StrategyError, r"Faulty\(k=2.*raised ValueError\('lost'\) at token 2"),
    (SystemExit(1), StrategyError, r"raised SystemExit\(1\) at token 2"),
    (KeyboardInterrupt(), StrategyError, r"a strategy raised KeyboardInterrupt\(\); one of .*Faulty"),
    (GeneratorExit(), StrategyError, r"a strategy raised GeneratorExit\(\)"),
    (MemoryError(), StrategyError, r"raised MemoryError\(\) at token 2"),
    (lambda x: None, ContractError, r"must keep shape and dtype, float32 \[1, 257\], got 'NoneType'"),
    (lambda x: x[:, 1:], ContractError, r"got float32 \[1, 256\]"),
    (lambda x: x.astype(np.float64), ContractError, r"got float64 \[1, 257\]"),
    (lambda x: x.tolist(), ContractError, "got 'list'"),
    (lambda x: np.full_like(x, np.nan), ContractError, "gave NaN or .inf at token 2"),
    (lambda x: np.full_like(x, np.inf), ContractError, "gave NaN or .inf at token 2"),
    (lambda x: np.full_like(x, -np.inf), ContractError, "no candidate left after Faulty"),
    (writes, StrategyError, "read-only"),
]


@pytest.mark.parametrize(("fault", "error", "message"), FAULTS, ids=range(len(FAULTS)))
def test_a_strategy_that_does_wrong_ends_its_own_request_only(fault, error, message):
    with gated() as (decoder, model):
        options = {"seed": 4, "max_new_tokens": 8}
        works = [
            lambda: decoder.generate("abc", SAMPLED, **options),
            lambda: decoder.generate("abc", [Faulty(2, fault)], **options),
            lambda: decoder.stream("abc", ["temperature=1", Faulty(2, fault)], **options).complete(),
            lambda: decoder.generate("d" * 200, SAMPLED, **options),
        ]
        threading.Timer(0.02, model.gate.release, (1000,)).start()
        first, *failed, last = in_threads(works)
        for answer in failed:
            assert type(answer) is error
            with pytest.raises(error, match=message):
                raise answer
        alone = [decoder.generate(prompt, SAMPLED, **options) for prompt in ("abc", "d" * 200)]
        assert [first, last] == alone
        until(lambda: nobody_left(decoder))


def test_a_strategy_that_asks_its_own_decoder_is_refused_and_does_not_hang():
    with decoder_over(TableModel(table())) as decoder:

        class Asks(LogitsProcessor):
            def process(self, logits, step, state):
                decoder.generate("abc", max_new_tokens=1)
                return logits

        with pytest.raises(EngineError, match="a strategy cannot ask the decoder that waits for it"):
            decoder.generate("abc", [Asks()])
        until(lambda: nobody_left(decoder))


def test_what_was_streamed_before_a_strategy_failed_was_right():
    with decoder_over(TableModel(table())) as decoder:
        expected = decoder.generate("abc", "temperature=1", seed=2, max_new_tokens=5).text
        stream, text = decoder.stream("abc", ["temperature=1", Faulty(5, ValueError())], seed=2), ""
        with pytest.raises(StrategyError):
            for piece in stream:
                text += piece
        assert expected.startswith(text) and len(text) >= len(expected) - 1
        assert list(stream) == []
        with pytest.raises(EngineClosedError):
            stream.complete()


class Judge(StoppingCriterion):
    """Answers anything, at generated token 2."""

    def __init__(self, verdict=None, pending=0):
        self.verdict, self.held = verdict, pending

    def check(self, progress):
        if len(progress.history.generated) < 3:
            return None
        if isinstance(self.verdict, BaseException):
            raise self.verdict
        return self.verdict

    def pending(self, text):
        if isinstance(self.held, BaseException):
            raise self.held
        return self.held


@pytest.mark.parametrize(
    ("judge", "error", "message"),
    [
        (Judge(ValueError("lost")), StrategyError, r"Judge .*raised ValueError\('lost'\) at token 2"),
        (Judge(SystemExit(0)), StrategyError, r"raised SystemExit\(0\) at token 2"),
        (Judge(KeyboardInterrupt()), StrategyError, r"a strategy raised KeyboardInterrupt"),
        (Judge("stop"), ContractError, r"must answer a Stop or None, got 'stop' at token 2"),
        (Judge(True), ContractError, "must answer a Stop or None, got True"),
    ],
)
def test_a_criterion_that_does_wrong_ends_its_own_request_only(judge, error, message):
    with decoder_over(TableModel(table())) as decoder:
        options = {"seed": 4, "max_new_tokens": 200}
        expected = decoder.generate("abc", SAMPLED, **options)
        works = [
            lambda: decoder.generate("abc", SAMPLED, **options),
            lambda: decoder.generate("abc", SAMPLED, criteria=[judge], **options),
            lambda: decoder.stream("abc", SAMPLED, criteria=[judge], **options).complete(),
        ]
        good, *failed = in_threads(works)
        assert good == expected
        for answer in failed:
            with pytest.raises(error, match=message):
                raise answer


@pytest.mark.parametrize("pending", [None, -1, 10**6, "a", 0.5, ValueError("lost"), SystemExit(1)])
def test_a_criterion_that_cannot_say_what_is_pending_ends_its_stream(pending):
    with decoder_over(TableModel(table())) as decoder:
        stream = decoder.stream("abc", criteria=[Judge(pending=pending)], max_new_tokens=590)
        with pytest.raises(StrategyError, match=r"Judge.*(pending must be a number of characters|raised)"):
            list(stream)
        until(lambda: nobody_left(decoder), 0.5)
        assert list(stream) == []


def test_a_criterion_that_never_stops_is_ended_by_the_limit_and_one_may_stop_at_once():
    with decoder_over(TableModel(table())) as decoder:
        assert decoder.generate("abc", criteria=[Judge()], max_new_tokens=7).finish_reason == "length"

        class AtOnce(StoppingCriterion):
            def check(self, progress):
                return Stop("plugin", keep=0, by="AtOnce")

        completion = decoder.generate("abc", criteria=[AtOnce()])
        assert (completion.text, completion.finish_reason, len(completion.ids)) == ("", "plugin", 1)


def test_a_strategy_that_fails_before_the_first_step_is_its_callers_problem():
    class Unready(LogitsProcessor):
        def init(self, batch):
            raise ValueError("no table")

    with decoder_over(TableModel(table())) as decoder:
        with pytest.raises(StrategyError, match=r"Unready.*raised ValueError\('no table'\)"):
            decoder.generate("abc", [Unready()])
        until(lambda: nobody_left(decoder))


# a model that does wrong


@pytest.mark.parametrize(
    ("gives", "kind"), [(np.nan, "NaN"), (np.inf, r"\+inf"), (-np.inf, "-inf everywhere")]
)
@pytest.mark.parametrize("chain", ["greedy", SAMPLED])
def test_logits_that_are_no_numbers_end_the_request_that_met_them(gives, kind, chain):
    logits = table()
    logits[65] = logits[66] = -50.0
    logits[:, 7] = -50.0
    logits[65, 66], logits[66, 7] = 50.0, 50.0  # "A" -> "B" -> token 7, behind which the model is broken
    with decoder_over(Broken(logits, gives=gives)) as decoder:
        options = {"seed": 1, "max_new_tokens": 6}
        works = [
            lambda: decoder.generate([65], chain, **options),
            lambda: decoder.generate([90], chain, **options),
        ]
        bad, good = in_threads(works)
        with pytest.raises(NumericalError, match=f"the model gave {kind} logits at token 2"):
            raise bad
        assert good == decoder.generate([90], chain, **options) and 7 not in good.ids


def test_when_a_call_of_the_model_fails_those_in_it_are_told_and_the_next_ones_run():
    failure = RuntimeError("device lost")
    with decoder_over(Broken(table(), gives=failure), max_rows=2) as decoder:
        with pytest.raises(EngineError, match=r"the model failed: RuntimeError\('device lost'\)") as error:
            decoder.generate([5, 7])
        assert error.value.__cause__ is failure
        assert len(decoder.generate([5], "top_k=1", max_new_tokens=3).ids) == 3
        answers = in_threads([lambda i=i: decoder.generate([i, 7]) for i in range(20, 32)])
        assert all(type(answer) is EngineError for answer in answers)
        assert len({id(answer) for answer in answers}) == 12


# figures


def test_the_meter_counts_what_happened():
    with in_place(prefix_bytes=0) as decoder:
        meter = decoder.engine.meter
        prompts = ["Once upon a time", "b", "x" * 200]
        completions = decoder.generate(prompts, SAMPLED, n=3, seed=1, max_new_tokens=20)
        assert meter.tokens == sum(c.usage.completion_tokens for c in completions)
        assert meter.prompt_tokens == sum(len(decoder.encode(p)) for p in prompts) and meter.reused == 0
        assert max(c.usage.completion_tokens for c in completions) <= meter.steps <= meter.tokens
        assert meter.graph > 0 and meter.chain > 0 and meter.graph + meter.chain <= meter.seconds
        meter.reset()
        decoder.generate("b", max_new_tokens=4, ignore_eos=True)
        assert (meter.tokens, meter.prompt_tokens) == (4, 1)


class Log(StoppingCriterion):
    """Writes down whose token it sees."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def check(self, progress):
        self.log.append(self.name)


def test_a_running_stream_goes_on_while_a_long_prompt_is_read():
    with gated() as (decoder, model):
        log = []
        running = decoder.stream("a", criteria=[Log("running", log)], max_new_tokens=50)
        model.let(2)
        until(lambda: len(log) == 2)
        chunks = 4
        long = decoder.stream("b" * (chunks * CHUNK), criteria=[Log("long", log)], max_new_tokens=5)
        model.gate.release(1000)
        assert len(long.complete().ids) == 5 and len(running.complete().ids) == 50
        assert log.index("long") - 2 in (chunks - 1, chunks)  # one token of its own for every chunk


def test_a_prefix_that_was_read_before_is_not_read_again_and_changes_no_bit():
    text = "Once upon a time there was a little town by the sea, and in it lived a tailor. " * 5
    with in_place() as decoder, in_place(prefix_bytes=0) as plain:
        for ending in ("He", "She", "He"):
            options = {"seed": 6, "max_new_tokens": 12}
            assert decoder.generate(text + ending, SAMPLED, **options) == plain.generate(
                text + ending, SAMPLED, **options
            )
        read, reused = decoder.engine.meter.prompt_tokens, decoder.engine.meter.reused
        assert reused == 2 * (len(text) // CHUNK) * CHUNK
        assert read + reused == plain.engine.meter.prompt_tokens == 3 * len(text) + 7


def test_tenants_share_no_prefixes_and_their_bytes_are_bounded():
    bound = 3 * CHUNK * (256 + 8)
    with in_place(prefix_bytes=bound) as decoder:
        meter = decoder.engine.meter
        for tenant in ("a", "b", "a"):
            decoder.generate("t" * 200, tenant=tenant, max_new_tokens=1)
        assert meter.reused == CHUNK
        for i in range(20):
            decoder.generate(chr(65 + i) * 300, tenant="c", max_new_tokens=1)
            assert decoder.engine._batch.prefixes.bytes <= bound


def test_what_a_request_needed_is_freed_when_it_is_over_without_a_collection():
    with decoder_over(TableModel(table())) as decoder:
        uses = [
            lambda chain: decoder.generate("abc", chain, max_new_tokens=3),
            lambda chain: decoder.generate(["abc", "d"], chain, n=2, max_new_tokens=3),
            lambda chain: decoder.stream("abc", chain, max_new_tokens=3).complete(),
            lambda chain: next(decoder.stream("abc", chain, max_new_tokens=300)),
            lambda chain: asyncio.run(decoder.agenerate("abc", chain, max_new_tokens=3)),
        ]
        for use in uses:
            strategy = Sleeps(1000, 0.0)
            alive = weakref.ref(strategy)
            gc.collect()
            gc.disable()
            try:
                use([strategy])
                del strategy
                decoder.generate("other", max_new_tokens=1)
                until(lambda: nobody_left(decoder))
                until(lambda alive=alive: alive() is None, 1.0)
            finally:
                gc.enable()
