"""
A session: one sequence, decoded step by step by a loop that you write.

It looks, draws, forces tokens, goes back and forks. The model is called on the engine's thread,
a chunk at a time, so requests that run beside it go on; strategies work on the caller's thread.
Its cache is its own, beside the engine's memory, and goes with it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from decodekit.answer import Token
from decodekit.engine import Engine
from decodekit.errors import ContextError, ParameterError, SessionBusyError
from decodekit.model import new_cache
from decodekit.ops import Array
from decodekit.parameters import whole
from decodekit.places import CHUNK
from decodekit.preparation import Prepared
from decodekit.sampling import Sampler
from decodekit.steps import Steps


@dataclass(frozen=True, slots=True)
class Shaped:
    """What one strategy made of the distribution.

    name    of the strategy
    ids     int [N], the candidates it saw
    logits  float [N], what it gave them, nats; -inf: removed
    """

    name: str
    ids: Array
    logits: Array


class Session:
    """One sequence and what the model remembers of it. For any thread, but one at a time.

    owner  is kept alive while the session is
    """

    def __init__(self, prepared: Prepared, engine: Engine, owner: object) -> None:
        if prepared.settings.speculate != "off":
            raise ParameterError(
                "speculate must be 'off' in a session, which goes step by step, "
                f"got {prepared.settings.speculate!r}"
            )
        self._prepared, self._engine, self._owner = prepared, engine, owner
        self._answer = Steps(prepared)
        self._cache = new_cache(engine.model, prepared.settings.adapter)
        self._logits: Array = np.zeros((1, 0), np.float32)  # [1, V] of what follows the tokens read
        self._calls: list[int] = []  # how many tokens were read before each call of the model
        self._lock = threading.Lock()

    @property
    def ids(self) -> tuple[int, ...]:
        """Prompt and what came after, drawn or forced."""
        return tuple(self._answer.ids.tolist())

    @property
    def generated(self) -> tuple[int, ...]:
        """What came after the prompt."""
        return self.ids[self._answer.sequence.asked :]

    @property
    def text(self) -> str:
        """Of `generated`, up to the last whole character."""
        return self._answer.text

    @property
    def seed(self) -> int:
        """Names the noise of the draws, with the sample number."""
        return self._answer.sequence.seed

    def logits(self) -> Array:
        """What the model says comes next, before every strategy: float32 [V], nats, a copy."""
        with self._alone():
            logits: Array = self._predict()[0].copy()
            return logits

    def stages(self) -> list[Shaped]:
        """The distribution after each strategy, in order; the last is what `sample` draws from."""
        with self._alone():
            logits = self._predict()
            stages, _, _ = self._sampler.shape(logits, self._answer.step(logits), self._answer.states)
            return [
                Shaped(n, s.ids[0].copy(), s.logits[0].copy()) for n, s in zip(self._prepared.names, stages)
            ]

    def sample(self) -> Token:
        """Draw a token with the chain and append it: what `Decoder.stream` draws there.

        `token.stop` is set where a stream would end. Going on is up to you.
        """
        with self._alone():
            self._admit(1)
            token = self._answer.take(self._predict())
            if token.takes_back:
                self._rewind(len(self._answer.ids))
            return token

    def append(self, tokens: int | str | Iterable[int]) -> None:
        """Append tokens that nobody drew: an id, ids, or text, which is encoded by itself.

        To a strategy that remembers, a forced token is as good as a drawn one. Where the chain
        would have removed the token, that strategy and those behind it never see it, and their
        states stay as they are.
        """
        with self._alone():
            ids = self._encode(tokens)
            self._admit(len(ids))
            before = len(self._answer.ids)
            try:
                self._force(ids)
            except BaseException:
                self._rewind(before)
                raise

    def rewind(self, length: int) -> None:
        """Go back to the first `length` >= 1 ids, and to the strategies' states of then.

        Within the prompt, it is a shorter prompt from then on.
        """
        with self._alone():
            whole("rewind: length", length, f"[1, {len(self._answer.ids)}]")
            self._rewind(length)

    def fork(self) -> Session:
        """A second session that stands where this one does; both go on as if alone."""
        with self._alone():
            twin = Session(self._prepared, self._engine, self._owner)
            twin._cache = self._engine.call(self._cache.copy)
            twin._answer = self._answer.copy()
            twin._logits, twin._calls = self._logits, list(self._calls)
            return twin

    def _predict(self) -> Array:
        """What comes next, float32 [1, V], after reading what was not read yet."""
        ids = self._answer.ids
        while self._cache.length < len(ids):
            self._read(ids[self._cache.length :][:CHUNK])
        return self._logits

    def _read(self, tokens: Array, *, last: int = 1) -> Array:
        """What follows the `last` ones of a chunk, float32 [last, V]."""
        before = self._cache
        logits, self._cache = self._engine.call(lambda: self._engine.model(tokens, before, last=last))
        self._calls.append(before.length)
        self._logits = logits[-1:].copy()
        return logits

    def _force(self, ids: Array) -> None:
        if not self._sampler.remembers:
            for id in ids.tolist():
                self._answer.force(id)
            return
        before = self._predict()
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            after = self._read(chunk, last=len(chunk))
            for i, id in enumerate(chunk.tolist()):
                self._answer.force(id, after[i - 1 : i] if i else before)
            before = self._logits

    def _rewind(self, length: int) -> None:
        """What is read again is read as it was the first time, so the numbers are the same."""
        self._answer.cut(length)
        if self._cache.length > length:
            while self._calls[-1] >= length:
                self._calls.pop()
            self._cache = self._cache.keep(self._calls.pop())

    def _admit(self, count: int) -> None:
        have, most = len(self._answer.ids), self._prepared.preparer.bundle.context_length
        if have + count > most:
            raise ContextError(
                f"{have} tokens and {count} more exceed the context window of {most}; "
                "rewind, or start with a shorter prompt"
            )

    def _encode(self, tokens: int | str | Iterable[int]) -> Array:
        tokenizer = self._prepared.preparer.tokenizer
        if isinstance(tokens, str):
            return np.asarray(tokenizer.encode_plain(tokens), np.int64)
        ids = list(tokens) if isinstance(tokens, Iterable) else [tokens]
        for id in ids:
            number = isinstance(id, int | np.integer) and not isinstance(id, bool)
            if not number or not 0 <= id < tokenizer.size:
                raise ParameterError(f"append: token ids are in [0, {tokenizer.size}), got {id!r}")
        return np.asarray(ids, np.int64)

    @property
    def _sampler(self) -> Sampler:
        return self._prepared.sampler

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise SessionBusyError(
                "this session is in use by another thread; give every thread its own, see fork()"
            )
        try:
            yield
        finally:
            self._lock.release()
