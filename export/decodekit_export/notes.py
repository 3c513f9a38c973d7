"""Notes: what a run learnt of itself. They outlive an interruption, in every checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from decodekit_export.evaluation import Evaluation
from decodekit_export.samples import Sample


@dataclass(slots=True)
class Notes:
    """So far:

    seconds      of steps
    trained      tokens that the loss fell on, of all processes
    evaluations  a step, nats a token and share foreseen for each
    best_step    after which the validation loss was lowest, or None
    waited       evaluations since then
    samples      what the model said on the way
    resumed      steps after which the run was gone on with
    forced       what was not as at the beginning and accepted all the same
    finished     whether nothing is left to train
    """

    seconds: float = 0.0
    trained: int = 0
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    best_step: int | None = None
    waited: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)
    forced: list[str] = field(default_factory=list)
    finished: bool = False

    def evaluated(self, step: int, found: Evaluation) -> None:
        before = [entry["loss"] for entry in self.evaluations]
        self.evaluations.append({"step": step, "loss": found.loss, "accuracy": found.accuracy})
        if not before or found.loss < min(before):
            self.best_step, self.waited = step, 0
        else:
            self.waited += 1

    def sampled(self, samples: list[Sample]) -> None:
        self.samples += [sample.to_json() for sample in samples]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
