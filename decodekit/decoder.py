"""
The decoder: text in, text out. What an application holds.

It prepares requests, hands them to its engine, and gives text only once no stop string can
take it back. All its methods may be called from any thread, and the `a...` ones from any
event loop.
"""

from __future__ import annotations

import asyncio
import os
import queue
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, overload

from decodekit.bundle import Bundle, open_bundle
from decodekit.chain import Written
from decodekit.chat import Chat
from decodekit.completion import Completion
from decodekit.engine import Engine
from decodekit.errors import BundleError, ParameterError
from decodekit.generate import Token
from decodekit.model import Model
from decodekit.parameters import whole
from decodekit.plugins import Plugins, allowed_by_environment, load_plugins
from decodekit.preparation import Prepared, Preparer, Prompt, origin
from decodekit.processors import LogitsProcessor
from decodekit.request import Event, Request
from decodekit.settings import MAX_SAMPLES, Settings
from decodekit.text_stream import AsyncTextStream, Pieces, TextStream
from decodekit.tokenizer import Tokenizer

Started = tuple[Future[Sequence[Event]], Pieces]

AHEAD = 4  # prompts of a long list that wait, per row of the engine


def load(
    path_or_name: str | os.PathLike[str],
    *,
    device: str = "auto",
    threads: int | None = None,
    plugins: Plugins | None = None,
    draft: str | os.PathLike[str] | None = None,
    **engine: Any,
) -> Decoder:
    """A decoder for the bundle in that folder, or for the embedded model of that name.

    device   "cpu", "cuda" (or an error), or "auto"
    threads  for one operator on the CPU; None: what onnxruntime thinks best
    plugins  None: the built-ins and all installed plugins that DECODEKIT_PLUGINS allows
    draft    a smaller bundle with the same tokenizer, to guess tokens with
    engine   max_rows, cache_bytes, prefix_bytes, max_queue, deterministic, stall: see `Engine`
    """
    from decodekit.onnx_model import load_model

    bundle, tokenizer = _open(path_or_name)
    model = load_model(bundle, device=device, threads=threads)
    guesser = None
    if draft is not None:
        draft_bundle, draft_tokenizer = _open(draft)
        if not draft_tokenizer.spells_like(tokenizer):
            raise BundleError(
                f"{draft_bundle.path}: its tokens are not those of {bundle.path}; "
                "a draft model needs the same tokenizer"
            )
        guesser = load_model(draft_bundle, device=device, threads=threads)
    plugins = plugins or load_plugins(allowed_by_environment())
    return Decoder(model, tokenizer, bundle, plugins, draft=guesser, **engine)


def _open(path_or_name: str | os.PathLike[str]) -> tuple[Bundle, Tokenizer]:
    bundle = open_bundle(path_or_name)
    tokenizer = Tokenizer(bundle.tokenizer)
    if bundle.vocabulary < tokenizer.size:
        raise BundleError(
            f"{bundle.path}: the graph knows {bundle.vocabulary} tokens, the tokenizer {tokenizer.size}; "
            f"id {bundle.vocabulary} ({tokenizer.token(bundle.vocabulary)!r}) is out of reach; "
            "they are of different models"
        )
    return bundle, tokenizer


class Decoder:
    """Decodes prompts with one model. Safe to share between threads and event loops; closed when dropped."""

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        bundle: Bundle,
        plugins: Plugins,
        *,
        draft: Model | None = None,
        **engine: Any,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.bundle = bundle
        self.plugins = plugins
        self.chat = Chat(tokenizer, bundle.chat_template, min(bundle.stop_ids, default=None))
        self.engine = Engine(model, **engine)
        self._draft = draft
        self._preparer = Preparer(
            bundle, tokenizer, self.chat, plugins, model.vocabulary, origin(bundle, model)
        )
        weakref.finalize(self, self.engine.close)

    def close(self) -> None:
        """End what runs with an error, and free the model's thread. Nothing can be decoded after."""
        self.engine.close()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @overload
    def generate(
        self, prompt: Prompt, chain: Written = None, *, n: None = None, **options: Any
    ) -> Completion: ...
    @overload
    def generate(
        self, prompt: Sequence[Prompt], chain: Written = None, **options: Any
    ) -> list[Completion]: ...
    @overload
    def generate(
        self, prompt: Prompt, chain: Written = None, *, n: int, **options: Any
    ) -> list[Completion]: ...

    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        chain: Written = None,
        *,
        n: int | None = None,
        **options: Any,
    ) -> Any:
        """The completion of a prompt. A list of prompts, or `n`, gives a list: prompt by prompt, n of each.

        prompt   text, messages, or token ids
        chain    "temperature=0.8, top_p=0.9", or LogitsProcessor objects; None: greedy
        n        answers per prompt, in [1, 128]; number i of them does not depend on n
        options  see `Settings`
        """
        prepared, one = self._prepare(prompt, chain, n, options)
        completions = [pieces.complete(future.result()) for future, pieces in self._start(prepared, n or 1)]
        return completions[0] if one else completions

    async def agenerate(
        self,
        prompt: Prompt | Sequence[Prompt],
        chain: Written = None,
        *,
        n: int | None = None,
        **options: Any,
    ) -> Any:
        """`generate` without blocking the event loop. Cancelling the task ends its requests."""
        prepared, one = self._prepare(prompt, chain, n, options)
        completions = [
            pieces.complete(await asyncio.wrap_future(future))
            for future, pieces in self._start(prepared, n or 1)
        ]
        return completions[0] if one else completions

    def stream(self, prompt: Prompt, chain: Written = None, **options: Any) -> TextStream:
        """The same completion, piece by piece: iterate for text, then read `.completion`."""
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        settings = Settings.of(options)
        request, pieces = self._request(
            self._preparer.prepare(prompt, chain, settings), settings.sample, events.put
        )
        self.engine.submit(request)
        return TextStream(request, events, pieces, self)

    def astream(self, prompt: Prompt, chain: Written = None, **options: Any) -> AsyncTextStream:
        """The same for `async for`. Call it on a running event loop."""
        events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def emit(event: Event) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(events.put_nowait, event)

        settings = Settings.of(options)
        request, pieces = self._request(
            self._preparer.prepare(prompt, chain, settings), settings.sample, emit
        )
        self.engine.submit(request)
        return AsyncTextStream(request, events, pieces, self)

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids a prompt stands for, up to where the answer begins."""
        return self._preparer.encode(prompt)

    def spell(self, id: int) -> str:
        """A token as text, or as the vocabulary spells it where it has none."""
        return self.tokenizer.decode([id]) or self.tokenizer.token(id) or ""

    def processors(self, chain: Written) -> tuple[LogitsProcessor, ...]:
        """The strategies a chain names, in order, bound to this model's tokens."""
        return tuple(link.strategy for link in self._preparer.chain(chain))

    def _prepare(
        self, prompt: Any, chain: Written, n: int | None, options: dict[str, Any]
    ) -> tuple[list[Prepared], bool]:
        if n is not None:
            whole("n", n, f"[1, {MAX_SAMPLES}]")
            if "sample" in options:
                raise ParameterError("n and sample exclude each other; n gives samples 0 to n - 1")
        many, settings = _is_many(prompt), Settings.of(options)
        first = self._preparer.prepare(prompt[0] if many else prompt, chain, settings)
        rest = prompt[1:] if many else ()
        prepared = [first, *(self._preparer.prepare(p, chain, first.settings) for p in rest)]
        return prepared, not many and n is None

    def _start(self, prepared: Sequence[Prepared], n: int) -> Iterator[Started]:
        """Requests in order; a few are ahead of the one that is waited for. Left early, all end."""
        started: deque[Started] = deque()
        ahead = max(n, AHEAD * self.engine.max_rows)
        try:
            for one in prepared:
                started.extend(self._samples(one, n))
                while len(started) > ahead:
                    yield started[0]
                    started.popleft()
            while started:
                yield started[0]
                started.popleft()
        finally:
            for future, _ in started:
                future.cancel()

    def _samples(self, prepared: Prepared, n: int) -> list[Started]:
        """The n samples of a prompt, which is read once."""
        leader, requests, started = None, [], []
        first = prepared.settings.sample
        for sample in range(first, first + n):
            gathered = Gathered()
            request, pieces = self._request(prepared, sample, gathered, leader)
            gathered.future.add_done_callback(request.cancel)
            leader = leader or request
            requests.append(request)
            started.append((gathered.future, pieces))
        self.engine.submit(*requests)
        return started

    def _request(
        self, prepared: Prepared, sample: int, emit: Any, leader: Request | None = None
    ) -> tuple[Request, Pieces]:
        if self.engine.deterministic and prepared.settings.speculate != "off":
            raise ParameterError(
                "speculate must be 'off' for a deterministic decoder: "
                "checking guesses takes kernels of another shape"
            )
        return prepared.request(sample, emit, costs=self.engine.costs, draft=self._draft, leader=leader)


class Gathered:
    """Collects the events of a request for a future. Cancelling the future ends the request."""

    def __init__(self) -> None:
        self.future: Future[Sequence[Event]] = Future()
        self._events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self._events.append(event)
        if not isinstance(event, Token) or event.stop is not None:
            with suppress(InvalidStateError):  # cancelled meanwhile
                self.future.set_result(self._events)


def _is_many(prompt: Any) -> bool:
    return not isinstance(prompt, str) and bool(prompt) and not isinstance(prompt[0], int | dict)
