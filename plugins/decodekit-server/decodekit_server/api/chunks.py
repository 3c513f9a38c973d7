"""What chat and completions write alike: choices, whole or in chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from decodekit.completion import Completion
from decodekit_server.answers import Choice, Update
from decodekit_server.api.writing import Event, usage
from decodekit_server.params import ChatParams, CompletionParams
from decodekit_server.preparing import Job


class ChoiceWriter(ABC):
    """The last chunk with a choice is held to the end, since it has the `decodekit` object."""

    ID: ClassVar[str]
    OBJECT: ClassVar[str]
    CHUNK: ClassVar[str]

    def __init__(self, params: ChatParams | CompletionParams, job: Job) -> None:
        self._job = job
        self._tokens = 0
        self._left = job.ask.n * len(job.prepared)  # choices that have not ended
        self._held: list[dict[str, Any]] = []
        options = params.stream_options
        self._usage = bool(options and options.include_usage)

    def begin(self) -> list[Event]:
        return []

    def update(self, update: Update) -> list[Event]:
        done = update.completion
        if not update.text and done is None:
            return []
        chunks = [self._chunk([choice]) for choice in self._grown(update)]
        if done is not None:
            self._tokens += done.usage.completion_tokens
            self._left -= 1
            if not self._left:
                self._held = [chunks.pop()]
        return [("", chunk) for chunk in chunks]

    def end(self, extras: dict[str, Any]) -> list[Event]:
        (last,) = self._held
        events: list[Event] = [("", last | {"decodekit": extras})]
        if self._usage:
            events.append(("", self._chunk([]) | {"usage": usage(self._job, self._tokens)}))
        return [*events, ("", "[DONE]")]

    def whole(self, choices: Sequence[Choice], extras: dict[str, Any]) -> dict[str, Any]:
        done = [(c, c.completion) for c in choices if c.completion is not None]
        return {
            **self._head(self.OBJECT),
            "choices": [self._choice(choice, completion) for choice, completion in done],
            "usage": usage(self._job, sum(completion.usage.completion_tokens for _, completion in done)),
            "decodekit": extras,
        }

    @abstractmethod
    def _grown(self, update: Update) -> Sequence[dict[str, Any]]:
        """What an update adds to its choice, as one chunk or several."""

    @abstractmethod
    def _choice(self, choice: Choice, completion: Completion) -> dict[str, Any]:
        """A choice that is whole."""

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head(self.CHUNK), "choices": choices} | ({"usage": None} if self._usage else {})

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"{self.ID}-{self._job.id}",
            "object": kind,
            "created": self._job.created,
            "model": self._job.served.name,
            "system_fingerprint": self._job.served.fingerprint,
        }
