"""The record of a run: everything needed to repeat it, and what came of it. `run.json` beside the weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from decodekit_export.data import Counts
from decodekit_export.ending import Ending

RECORD = "run.json"
POINTS = 200  # of the loss curve, at most


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did.

    began           settings by name, digests of base and data, versions, processes, device
    example         the first row as the model saw it, trained tokens between ⟦ and ⟧
    parameters      of the model, and how many of them were trained
    tokens_per_second  of prompts and completions together
    losses          (step, nats per trained token), thinned evenly
    evaluations     step, nats per trained token and share of tokens foreseen, on the validation file
    valid_before    nats per trained token of the validation file, or None
    chosen_step     after which the weights are those of the result
    ending          of greedy answers, as the model gave them in PyTorch
    bundle_ending   as the exported bundle gave them, or None
    resumed         steps after which the run was gone on with
    forced          what was then not as at the beginning, and accepted
    """

    base: str
    data: str
    began: dict[str, Any]
    counts: Counts
    example: str
    stop_ids: tuple[int, ...]
    parameters: int
    trained_parameters: int
    steps: int
    epochs: float
    seconds: float
    trained_tokens: int
    tokens_per_second: int
    trained_tokens_per_second: int
    losses: tuple[tuple[int, float], ...]
    evaluations: Sequence[dict[str, Any]]
    valid_before: float | None
    valid_after: float | None
    valid_accuracy: float | None
    chosen_step: int
    samples: Sequence[dict[str, Any]]
    resumed: Sequence[int]
    forced: Sequence[str]
    ending: Ending
    bundle_ending: Ending | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def save(self, folder: Path) -> None:
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False)
        (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def thinned(history: Sequence[dict[str, Any]]) -> tuple[tuple[int, float], ...]:
    """(step, loss) of at most POINTS steps of a trainer's history, the last one among them."""
    points = [(entry["step"], round(entry["loss"], 7)) for entry in history if "loss" in entry]
    every = -(-len(points) // POINTS) or 1
    return tuple(points[::-1][::every][::-1])
