"""Evaluating: a row's prompt under every chain, and what each answer is worth. A kind of `Answerer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from decodekit.completion import Completion
from decodekit.errors import DecodekitError, InputError, ParameterError
from decodekit.evaluation.metrics import Metric
from decodekit.jobs.answering import Record, Running, Started, begun, row_error, row_seed
from decodekit.jobs.identities import identity
from decodekit.jobs.row import Row
from decodekit.jobs.tasks import check_names, prompt_of

if TYPE_CHECKING:
    from decodekit.decoder import Decoder

FIELDS = ("id", "prompt", "messages", "completion")


@dataclass(frozen=True)
class Evaluating:
    """Answers a row under each chain with one seed, so that chains are compared on the same luck.

    metrics   of answers, by name
    logprob   whether the wanted completion is scored too
    """

    decoder: Decoder
    points: Sequence[Sequence[str]]
    metrics: Mapping[str, Metric]
    logprob: bool
    options: Mapping[str, Any]
    seed: int

    def begin(self, row: Row) -> Started:
        return begun(row, lambda fields: self._begin(row, fields), lambda exc: _failed(row, exc))

    def _begin(self, row: Row, fields: Record) -> Started:
        head = _head(row)
        check_names(fields, FIELDS)
        prompt = prompt_of(fields)
        wanted = fields.get("completion")
        if not isinstance(wanted, str) or not wanted.strip():
            raise ParameterError(f"completion must be a text that is not empty, got {wanted!r:.40}")
        known = {}
        if self.logprob:
            score = self.decoder.score(wanted, prompt=prompt, adapter=self.options.get("adapter"))
            known = {"logprob": score.mean}
        options = {"seed": row_seed(self.seed, head["id"]), **self.options}
        started = [one for chain in self.points for one in self.decoder.begin(prompt, chain, **options)]

        def finish(completions: list[Completion]) -> Record:
            usage = {
                "prompt_tokens": completions[0].usage.prompt_tokens,
                "completion_tokens": sum(c.usage.completion_tokens for c in completions),
            }
            return head | {"choices": [self._choice(c, wanted) for c in completions], **known, "usage": usage}

        return Running(started, finish, lambda exc: _failed(row, exc))

    def _choice(self, completion: Completion, wanted: str) -> Record:
        worth = {name: metric(completion.text, wanted) for name, metric in self.metrics.items()}
        return {"text": completion.text, "finish_reason": completion.finish_reason, "worth": worth}


def _head(row: Row) -> Record:
    assert not isinstance(row.fields, InputError)
    return {"row": row.number, "id": identity(row.fields, row.number)}


def _failed(row: Row, exc: DecodekitError) -> Record:
    return _head(row) | {"error": row_error(exc, row)}
