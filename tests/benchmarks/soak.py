"""
Thousands of short requests, some of them cut off, cancelled or failing: is anything lost, does memory grow?

    python tests/benchmarks/soak.py --requests 10000

Eight threads and an event loop share one decoder. Each request has an answer that is known from before,
so that one that went to somebody else shows. Exit status 1 if memory grew by 10 MB or more after the
first thousand requests, if a request got no answer, two or another one's, or if something is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import decodekit
from decodekit import LogitsProcessor
from decodekit.errors import StrategyError

WARM = 1000  # requests after which memory is measured first
GROWTH = 10e6  # bytes
CLIENTS = 8
TOKENS = 12
PROMPTS = [f"Give me a tagline for a {what}." for what in ("bakery", "bike shop", "new yoga studio", "zoo")]
CHAINS = [None, "temperature=0.8, top_p=0.9", "repetition_penalty=1.2, temperature=1.1, min_p=0.05"]
KINDS = ["generate", "generate", "stream", "stream", "samples", "list", "left", "closed"]
KINDS += ["cancelled", "timed", "asynchronous"]
FAILING = 20  # one request in so many


@dataclass(frozen=True)
class FailsAt(LogitsProcessor):
    """Raises at generated token k."""

    k: int

    def process(self, logits: Any, step: Any, state: Any) -> Any:
        if len(step.rows[0].generated) == self.k:
            raise ValueError("planned")
        return logits


class Soak:
    """A decoder, the answers it should give, and what became of the requests."""

    def __init__(self, model: str) -> None:
        self.decoder = decodekit.load(model, max_queue=100, plugins=decodekit.load_plugins(only=()))
        self.cases = list(itertools.product(PROMPTS, CHAINS, range(5)))
        self.expected = [self.ask(case).ids for case in self.cases]
        self.told: Counter[int] = Counter()  # answers by request
        self.kinds: Counter[str] = Counter()
        self.others: Counter[str] = Counter()  # answers that are not the expected ones, by kind
        self.lock = threading.Lock()

    def ask(self, case: tuple[str, str | None, int], **options: Any) -> Any:
        prompt, chain, seed = case
        return self.decoder.generate(prompt, chain, seed=seed, max_new_tokens=TOKENS, **options)

    def serve(self, number: int) -> None:
        """One request from its question to its answer."""
        kind = KINDS[number % len(KINDS)] if number % FAILING else "failing"
        which = (number * 7) % len(self.cases)
        right = getattr(self, kind)(self.cases[which], self.expected[which], number)
        with self.lock:
            self.told[number] += 1
            self.kinds[kind] += 1
            self.others[kind] += not right

    # every way a request may go

    def generate(self, case: Any, expected: Any, number: int) -> bool:
        return bool(self.ask(case).ids == expected)

    def samples(self, case: Any, expected: Any, number: int) -> bool:
        return bool(self.ask(case, n=3)[0].ids == expected)

    def list(self, case: Any, expected: Any, number: int) -> bool:
        first, second = self.ask(([case[0], PROMPTS[0]], *case[1:]))
        return bool(first.ids == expected and second.usage.prompt_tokens > 0)

    def _stream(self, case: Any) -> Any:
        prompt, chain, seed = case
        return self.decoder.stream(prompt, chain, seed=seed, max_new_tokens=TOKENS)

    def stream(self, case: Any, expected: Any, number: int) -> bool:
        stream = self._stream(case)
        text = "".join(stream)
        return bool(stream.completion.ids == expected and stream.completion.text == text)

    def left(self, case: Any, expected: Any, number: int) -> bool:
        for _ in zip(range(number % 4), self._stream(case)):
            pass
        return True

    def closed(self, case: Any, expected: Any, number: int) -> bool:
        stream = self._stream(case)
        threading.Timer(0.001 * (number % 5), stream.close).start()
        list(stream)
        return stream.completion is None or bool(stream.completion.ids == expected)

    def timed(self, case: Any, expected: Any, number: int) -> bool:
        found = self.ask(case, max_time=0.001 * (1 + number % 10))
        return bool(found.ids == expected[: len(found.ids)])

    def failing(self, case: Any, expected: Any, number: int) -> bool:
        prompt, _, seed = case
        try:
            self.decoder.generate(prompt, [FailsAt(number % 3), "temperature=1"], seed=seed, min_new_tokens=3)
        except StrategyError as error:
            return "planned" in str(error)
        return False

    def cancelled(self, case: Any, expected: Any, number: int) -> bool:
        return asyncio.run(self._cancelled(case, number))

    async def _cancelled(self, case: Any, number: int) -> bool:
        prompt, chain, seed = case
        task = asyncio.create_task(
            self.decoder.agenerate(prompt, chain, seed=seed, n=2, max_new_tokens=TOKENS)
        )
        await asyncio.sleep(0.001 * (number % 5))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return True

    def asynchronous(self, case: Any, expected: Any, number: int) -> bool:
        return asyncio.run(self._async(case, expected))

    async def _async(self, case: Any, expected: Any) -> bool:
        prompt, chain, seed = case
        stream = self.decoder.astream(prompt, chain, seed=seed, max_new_tokens=TOKENS)
        text = "".join([piece async for piece in stream])
        return bool(stream.completion.ids == expected and stream.completion.text == text)


def in_threads(serve: Callable[[int], None], numbers: range) -> list[BaseException]:
    """Serve all numbers from CLIENTS threads; what was raised."""
    left, errors, lock = iter(numbers), [], threading.Lock()

    def client() -> None:
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            try:
                serve(number)
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def resident() -> int:
    """Bytes of memory in use, after a collection."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def state() -> str:
    files = len(os.listdir("/proc/self/fd"))
    return f"{resident() / 1e6:.1f} MB, {threading.active_count()} threads, {files} files"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--model", default="tagline", help="a bundle or an embedded model")
    arguments = parser.parse_args()
    soak = Soak(arguments.model)
    engine, began = soak.decoder.engine, time.perf_counter()

    errors = in_threads(soak.serve, range(min(WARM, arguments.requests)))
    before, threads = resident(), threading.active_count()
    print(f"after {sum(soak.told.values())} requests: {state()}", flush=True)
    errors += in_threads(soak.serve, range(WARM, arguments.requests))
    seconds = time.perf_counter() - began
    end = time.monotonic() + 5
    while engine.running + engine.waiting and time.monotonic() < end:
        time.sleep(0.01)
    growth = resident() - before
    print(f"after {sum(soak.told.values())} requests: {state()}")
    print(f"{seconds:.0f} s, {engine.meter.tokens} tokens, {dict(sorted(soak.kinds.items()))}")

    lost = arguments.requests - len(soak.told)
    twice = sum(count > 1 for count in soak.told.values())
    others = sum(soak.others.values())
    behind = engine.running + engine.waiting + max(0, threading.active_count() - threads)
    print(f"growth {growth / 1e6:+.1f} MB; lost {lost}, duplicated {twice}, other answers {others}")
    print(f"left behind {behind}; unexpected errors {len(errors)} {[repr(e) for e in errors[:3]]}")
    allowed = arguments.requests * TOKENS / 50_000  # rounding in another batch decides a token now and then
    return int(growth >= GROWTH or lost or twice or errors or behind or others > allowed)


if __name__ == "__main__":
    sys.exit(bool(main()))
