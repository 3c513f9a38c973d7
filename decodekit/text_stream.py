"""
The text of one answer while it grows: pieces that no verdict can take back any more.

A stop string may begin in text that looked harmless, so what may still become one is
held back until it is decided.
"""

from __future__ import annotations

import os
import queue
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from decodekit.answer import Token
from decodekit.completion import Completion
from decodekit.detokenizer import Detokenizer
from decodekit.errors import ContractError, EngineClosedError, ForkedError
from decodekit.origin import describe, named
from decodekit.processors import LogitsProcessor
from decodekit.request import Event, Request
from decodekit.stopping import Stop, StoppingCriterion

if TYPE_CHECKING:
    import asyncio

Finish = Callable[[str, tuple[Token, ...], Stop], Completion]


class Pieces:
    """Turns the events of a request into pieces of text. Their concatenation is `completion.text`."""

    def __init__(
        self,
        stopping: Sequence[StoppingCriterion],
        detokenizer: Detokenizer,
        finish: Finish,
        takers: Sequence[LogitsProcessor] = (),
    ) -> None:
        self.completion: Completion | None = None  # set by the last event
        self.failed = False
        self._stopping, self._detokenizer, self._finish = stopping, detokenizer, finish
        self._takers = takers
        self._tokens: list[Token] = []
        self._text, self._shown = "", 0

    def push(self, event: Event) -> str:
        """What this event makes certain; raises what ended the request if it was an error."""
        if isinstance(event, BaseException):
            self.failed = True
            raise event
        if isinstance(event, Stop):
            return self._end(event)
        self._tokens.append(event)
        self._text += event.text
        if event.takes_back:
            self._forget(event.takes_back)
        if event.stop is not None:
            return self._end(event.stop)
        return self._show(max(self._certain(), self._shown))

    def complete(self, events: Sequence[Event]) -> Completion:
        """The completion from all events at once."""
        *tokens, last = events
        for token in tokens:
            assert isinstance(token, Token)
            self._tokens.append(token)
            if token.takes_back:
                del self._tokens[-token.takes_back :]
        self._text = "".join(token.text for token in self._tokens)
        self.push(last)
        assert self.completion is not None
        return self.completion

    @property
    def over(self) -> bool:
        """Whether there will be no further event."""
        return self.failed or self.completion is not None

    def _forget(self, count: int) -> None:
        """The newest tokens were taken back."""
        length = sum(len(token.text) for token in self._tokens[-count:])
        del self._tokens[-count:]
        self._text = self._text[: len(self._text) - length]
        if self._shown > len(self._text):
            raise ContractError(
                "a strategy took back text that it had not held back; its `pending` says how much that may be"
            )

    def _certain(self) -> int:
        """How much of the text no verdict and no strategy can take away any more."""
        certain = len(self._text) - self._pending(self._stopping)
        if not self._takers:
            return certain
        start = uncertain = len(self._text) - self._pending(self._takers)
        if uncertain < len(self._text):  # what is taken back are whole tokens
            start = len(self._text)
            for token in reversed(self._tokens):
                start -= len(token.text)
                if start <= uncertain:
                    break
        return min(certain, start)

    def _pending(self, holders: Sequence[StoppingCriterion | LogitsProcessor]) -> int:
        """Characters at the end of the text that one of these may still take away."""
        most = 0
        for holder in holders:
            with named(holder, f"token {len(self._tokens) - 1}"):
                pending = holder.pending(self._text)
            if type(pending) is not int or not 0 <= pending <= len(self._text):
                raise ContractError(
                    f"{describe(holder)}: pending must be a number of characters in "
                    f"[0, {len(self._text)}], got {pending!r}"
                )
            most = max(most, pending)
        return most

    def _end(self, stop: Stop) -> str:
        if stop.keep is None:
            self._text += self._detokenizer.flush()
        else:
            self._text = self._text[: stop.keep]
        self.completion = self._finish(self._text, tuple(self._tokens), stop)
        return self._show(len(self._text))

    def _show(self, end: int) -> str:
        piece = self._text[self._shown : end]
        self._shown = end
        return piece


class _Stream:
    """What streams of both kinds have. Closed or dropped, the request ends.

    owner  is kept alive while the stream is
    """

    def __init__(self, request: Request, pieces: Pieces, owner: object) -> None:
        self._request, self._pieces, self._owner = request, pieces, owner
        weakref.finalize(self, request.cancel)

    @property
    def completion(self) -> Completion | None:
        """The answer with all that belongs to it, once the last piece is out."""
        return self._pieces.completion

    def close(self) -> None:
        """End the request without further pieces."""
        self._request.cancel()


class TextStream(_Stream):
    """The pieces of one answer's text: iterate, then read `completion`."""

    def __init__(
        self, request: Request, pieces: Pieces, owner: object, events: queue.SimpleQueue[Event]
    ) -> None:
        super().__init__(request, pieces, owner)
        self._events = events
        self._pid = os.getpid()

    def __iter__(self) -> TextStream:
        return self

    def __next__(self) -> str:
        if os.getpid() != self._pid:
            raise ForkedError("this stream goes on in the process that was forked; start one in the child")
        while not (self._pieces.over or self._request.cancelled):
            event = self._events.get()
            if self._request.cancelled:  # on another thread, while this one waited
                break
            try:
                piece = self._pieces.push(event)
            except BaseException:
                self.close()
                raise
            if piece:
                return piece
        raise StopIteration

    def complete(self) -> Completion:
        """Run to the end."""
        for _ in self:
            pass
        if self.completion is None:
            raise EngineClosedError("the stream was closed before its end; start another")
        return self.completion


class AsyncTextStream(_Stream):
    """The same on an event loop: `async for piece in stream`, then read `completion`."""

    def __init__(self, request: Request, pieces: Pieces, owner: object, events: asyncio.Queue[Event]) -> None:
        super().__init__(request, pieces, owner)
        self._events = events

    def __aiter__(self) -> AsyncTextStream:
        return self

    async def __anext__(self) -> str:
        while not (self._pieces.over or self._request.cancelled):
            try:
                event = await self._events.get()
                if self._request.cancelled:  # by another task, while this one waited
                    break
                piece = self._pieces.push(event)
            except BaseException:
                self.close()
                raise
            if piece:
                return piece
        raise StopAsyncIteration
