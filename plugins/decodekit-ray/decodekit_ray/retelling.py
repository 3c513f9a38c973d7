"""
Retelling: a stream goes on where the replica that told it died.

A stream is events, and their text depends on the request, its seed, and on how many tokens the
engine had ready each time somebody looked. The first two are fixed before the first try. The third
is written down while the stream is told: `Told`, one for each update. Another replica decodes the
same tokens again, takes them in the same portions in the same order, and so makes the same events;
those that the client has are left out. A text that is not the same ends the stream with an error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from decodekit_server.answers import Choice, Update
from decodekit_server.api.writing import Api, Event, Writer
from decodekit_server.ask import Ask
from decodekit_server.errors import ApiError
from decodekit_server.preparing import Job, seed

from decodekit.answer import Token
from decodekit.completion import Completion


@dataclass(frozen=True, slots=True)
class Question:
    """A request, with all that chance would decide about its answer.

    id       of the answer
    created  seconds since 1970
    seed     where the request has none
    """

    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    tenant: str
    id: str
    created: int
    seed: int


@dataclass(frozen=True, slots=True)
class Told:
    """A portion of an answer: of one choice, its text, the number of its tokens, whether that was all."""

    index: int
    text: str
    tokens: int
    ended: bool


class Telling:
    """One try at a question.

    before  what earlier tries told
    events  that the client has
    """

    def __init__(self, question: Question, before: Sequence[Told] = (), events: int = 0) -> None:
        self.question = question
        self.before = deque(before)
        self.known = events  # of which so many are still to be left out
        self.drawn = False  # the seed is ours, not the client's
        self.over = False  # no more events will be made
        self._unsent = 0
        self._fresh: list[Told] = []

    def note(self, told: Told) -> None:
        self._fresh.append(told)

    def unknown(self, events: list[Event]) -> list[Event]:
        """Those that the client does not have."""
        skipped = min(self.known, len(events))
        self.known -= skipped
        self._unsent += len(events) - skipped
        return events[skipped:]

    def sent(self) -> tuple[tuple[Told, ...], bool]:
        """What to remember with the event that is sent now, and whether it is the last one."""
        fresh, self._fresh = tuple(self._fresh), []
        if not self._unsent:  # not of a writer: an error, after which nothing comes
            return fresh, True
        self._unsent -= 1
        return fresh, self.over and not self._unsent


TELLING: ContextVar[Telling] = ContextVar("telling")


@dataclass(frozen=True)
class Retelling:
    """A text API whose streams can be gone on with. Stands in for the API it is given."""

    api: Api

    def ask(self, params: Any) -> Ask:
        telling, ask = TELLING.get(), self.api.ask(params)
        telling.drawn = seed(ask) is None
        return replace(ask, seed=telling.question.seed) if telling.drawn else ask

    def writer(self, params: Any, job: Job) -> Retold:
        telling = TELLING.get()
        fixed = replace(job, id=telling.question.id, created=telling.question.created)
        return Retold(self.api.writer(params, fixed), telling)


class Retold:
    """A writer that leaves out what the client has."""

    def __init__(self, writer: Writer, telling: Telling) -> None:
        self._writer, self._telling = writer, telling
        self._held: dict[int, Held] = {}

    def begin(self) -> list[Event]:
        return self._telling.unknown(self._writer.begin())

    def update(self, update: Update) -> list[Event]:
        before, events = self._telling.before, []
        self._held.setdefault(update.index, Held()).add(update)
        while before and (portion := self._held.get(before[0].index, Held()).cut(before[0])) is not None:
            before.popleft()
            events += self._writer.update(portion)
        if not before:
            for index, held in self._held.items():
                if (rest := held.rest(index)) is not None:
                    self._telling.note(Told(index, rest.text, len(rest.tokens), rest.completion is not None))
                    events += self._writer.update(rest)
            self._held.clear()
        return self._telling.unknown(events)

    def end(self, extras: dict[str, Any]) -> list[Event]:
        self._telling.over = True
        return self._telling.unknown(self._writer.end(self._honest(extras)))

    def whole(self, choices: Sequence[Choice], extras: dict[str, Any]) -> dict[str, Any]:
        return self._writer.whole(choices, self._honest(extras))

    def _honest(self, extras: dict[str, Any]) -> dict[str, Any]:
        """Where the seed came from, as the client knows it."""
        if self._telling.drawn and "params" in extras:
            extras["params"]["values"]["seed"]["from"] = "server"
        return extras


@dataclass
class Held:
    """What came of a choice and was not written yet."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    completion: Completion | None = None

    def add(self, update: Update) -> None:
        self.text += update.text
        self.tokens += update.tokens
        self.completion = update.completion or self.completion

    def cut(self, told: Told) -> Update | None:
        """The portion that was told, if all of it is here again."""
        size, here = len(told.text), len(self.text)
        over = self.completion is not None  # and so no more of it comes
        if (
            not told.text.startswith(self.text[:size])
            or (over and here < size)
            or (over and told.ended and here > size)
        ):
            raise ApiError(
                500,
                "E_REPLICA",
                "the replica that told this stream died, and another one decodes another text; "
                "give all replicas the same hardware and onnxruntime",
            )
        if here < size or len(self.tokens) < told.tokens or (told.ended and not over):
            return None
        portion = Update(
            told.index,
            told.text,
            tuple(self.tokens[: told.tokens]),
            self.completion if told.ended else None,
        )
        self.text, self.tokens = self.text[size:], self.tokens[told.tokens :]
        if told.ended:
            self.completion = None
        return portion

    def rest(self, index: int) -> Update | None:
        if not (self.text or self.tokens or self.completion):
            return None
        return Update(index, self.text, tuple(self.tokens), self.completion)
