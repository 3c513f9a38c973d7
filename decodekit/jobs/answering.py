"""
Answering: from a row to its record, with a decoder. Rows are begun here; the engine decodes them together.

A row that cannot be answered has a record that says why. Only an engine that is gone ends a job.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from decodekit.completion import Completion
from decodekit.errors import (
    DecodekitError,
    EngineClosedError,
    EngineStalledError,
    ForkedError,
    InputError,
    ParameterError,
    QueueFullError,
)
from decodekit.jobs.identities import identity, is_openai
from decodekit.jobs.openai_format import body_of, task_of
from decodekit.jobs.row import Row
from decodekit.jobs.tasks import Task, Tasks

if TYPE_CHECKING:
    from decodekit.decoder import Decoder

Record = dict[str, Any]
FATAL = (EngineClosedError, EngineStalledError, ForkedError, QueueFullError)


class Started(Protocol):
    """A row that was begun."""

    @property
    def sequences(self) -> int:
        """How many the engine decodes for it."""

    def when_done(self, tell: Callable[[], Any]) -> None:
        """Call that once `record` need not wait, from any thread."""

    def record(self) -> Record:
        """What is to be written."""


class Answerer(Protocol):
    """Begins rows."""

    def begin(self, row: Row) -> Started: ...


@dataclass(frozen=True)
class Finished:
    """A row whose record was there at once."""

    found: Record
    sequences: int = 0

    def when_done(self, tell: Callable[[], Any]) -> None:
        tell()

    def record(self) -> Record:
        return self.found


class Running:
    """A row that is being decoded."""

    def __init__(
        self,
        started: Sequence[Any],
        finish: Callable[[list[Completion]], Record],
        fail: Callable[[DecodekitError], Record],
    ) -> None:
        self._started, self._finish, self._fail = started, finish, fail
        self._left = len(started)

    @property
    def sequences(self) -> int:
        return len(self._started)

    def when_done(self, tell: Callable[[], Any]) -> None:
        def count(_: object) -> None:  # all on the engine's thread
            self._left -= 1
            if not self._left:
                tell()

        for future, _ in self._started:
            future.add_done_callback(count)

    def record(self) -> Record:
        try:
            return self._finish([pieces.complete(future.result()) for future, pieces in self._started])
        except FATAL:
            raise
        except DecodekitError as exc:
            return self._fail(exc)


@dataclass(frozen=True)
class Answering:
    """Answers rows, or scores the completions that they give.

    seed    of the job; a row's own is made of it and the row's id
    score   whether completions are scored
    name    what rows of the OpenAI format call the model
    """

    decoder: Decoder
    tasks: Tasks
    seed: int
    score: bool = False
    name: str = ""

    def begin(self, row: Row) -> Started:
        return begun(row, lambda fields: self._begin(row, fields), lambda exc: _failed(row, exc))

    def _begin(self, row: Row, fields: Record) -> Started:
        openai = is_openai(fields)
        task = task_of(fields, self.tasks, self.name) if openai else self.tasks.plain(fields)
        if self.score:
            score = self._score(task)
            return Finished(_head(row, fields) | {"score": score})
        if task.completion is not None:
            raise ParameterError("completion is what --score scores; leave it out, or carry it")
        options = dict(task.options)
        if options.get("seed") is None:
            options["seed"] = row_seed(self.seed, identity(fields, row.number))
        started = self.decoder.begin(task.prompt, task.chain, n=task.n, **options)

        def finish(completions: list[Completion]) -> Record:
            head = _head(row, fields)
            if not openai:
                return head | _plain(completions, many=task.n is not None)
            print_ = self.decoder.bundle.sha256[:12]
            body = body_of(fields, row.number, completions, self.decoder.tokenizer, print_)
            response = {"status_code": 200, "request_id": f"req-{row.number}", "body": body}
            return head | {"response": response, "error": None}

        return Running(started, finish, lambda exc: _failed(row, exc))

    def _score(self, task: Task) -> Record:
        if task.completion is None:
            raise ParameterError("there is no completion to score")
        told = [*(["a chain"] if task.chain else []), *(n for n in task.options if n != "adapter")]
        if told := [*told, *(["n"] if task.n is not None else [])]:
            raise ParameterError(f"{', '.join(told)}: changes no score; leave it out")
        adapter = task.options.get("adapter")
        return self.decoder.score(task.completion, prompt=task.prompt, adapter=adapter).total.to_json()


def begun(
    row: Row, begin: Callable[[Record], Started], failed: Callable[[DecodekitError], Record]
) -> Started:
    """The row, begun; where that fails, its record says why, and the others go on."""
    if isinstance(row.fields, InputError):
        return Finished({"row": row.number, "id": None, "error": row_error(row.fields, row)})
    try:
        return begin(row.fields)
    except FATAL:
        raise
    except DecodekitError as exc:
        return Finished(failed(exc))
    except Exception as exc:
        return Finished(failed(DecodekitError(repr(exc))))


def row_seed(job: int, id: str) -> int:
    """The seed of a row, in [0, 2^53): the same wherever and whenever it is decoded."""
    digest = hashlib.blake2b(f"{job} {id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 11


def _head(row: Row, fields: Record) -> Record:
    id = identity(fields, row.number)
    named = {"id": f"row-{row.number}", "custom_id": id} if is_openai(fields) else {"id": id}
    return {"row": row.number, **named, **({"carried": row.carried} if row.carried else {})}


def _failed(row: Row, exc: DecodekitError) -> Record:
    fields = row.fields
    assert not isinstance(fields, InputError)
    response = {"response": None} if is_openai(fields) else {}
    return _head(row, fields) | response | {"error": row_error(exc, row)}


def row_error(exc: DecodekitError, row: Row) -> Record:
    """What a record says of a row that failed."""
    return {"code": exc.code, "message": " ".join(str(exc).split()), "line": row.line}


def _plain(completions: Sequence[Completion], *, many: bool) -> Record:
    each = [_said(completion) for completion in completions]
    usage = {
        "prompt_tokens": completions[0].usage.prompt_tokens,
        "completion_tokens": sum(c.usage.completion_tokens for c in completions),
    }
    answer = {"choices": each} if many else each[0]
    return {**answer, "seed": completions[0].seed, "usage": usage}


def _said(completion: Completion) -> Record:
    said: Record = {
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "stopped_by": completion.stopped_by,
    }
    if completion.logprobs_at:
        said["logprobs"] = [
            {"id": t.id, "text": t.text, "logprob": t.logprob, "top": [list(pair) for pair in t.top]}
            for t in completion.tokens
        ]
    if completion.prompt_logprobs:
        said["prompt_logprobs"] = [token.to_json() for token in completion.prompt_logprobs]
    return said
