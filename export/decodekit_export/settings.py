"""Settings: the numbers of a fine-tuning run, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from decodekit.errors import ParameterError
from decodekit.parameters import real, whole
from decodekit_export.shapes import columns_of
from decodekit_export.window import POLICIES

ORDERS = ("grouped", "shuffled")


@dataclass(frozen=True, slots=True)
class Settings:
    """How to fine-tune. Training ends at the first of `epochs`, `max_steps` and `max_seconds`.

    valid           rows to measure the loss on, before and after: a file, or a share such as "5%"
    map             "field=key" for fields of a row that stand under another key
    limit           records to take from the start of the data, or None for all
    allow_empty     accept empty prompts and completions
    refuse_special  a fault if a row holds the text of a special token; else it stays text
    skip_bad        bad records to pass over, at least 0; they are listed in NAME.bad.txt
    window          what becomes of a row that is too long: "error", "left_prompt" or "drop"
    max_length      tokens a row may have, at least 2; None: the model's context
    epochs          passes over the data, > 0
    max_steps       steps of the optimizer, at least 1, or None
    max_seconds     seconds of steps, > 0, or None
    batch_size      rows in a batch, at least 1
    accumulate      batches in a step, at least 1
    learning_rate   of AdamW at its highest, > 0
    warmup          share of the run in which the learning rate rises, in [0, 1); after it a cosine falls to 0
    weight_decay    of AdamW, at least 0
    order           "grouped": rows of like length share a batch, with little padding; "shuffled": any
    seed            of the order of rows, in [0, 2**32)
    """

    valid: Path | None = None
    map: Sequence[str] = ()
    limit: int | None = None
    allow_empty: bool = False
    refuse_special: bool = False
    skip_bad: int = 0
    window: str = "error"
    max_length: int | None = None
    epochs: float = 3.0
    max_steps: int | None = None
    max_seconds: float | None = None
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 2e-4
    warmup: float = 0.05
    weight_decay: float = 0.01
    order: str = "grouped"
    seed: int = 0

    def __post_init__(self) -> None:
        real("finetune: epochs", self.epochs, "(0, inf)")
        real("finetune: learning_rate", self.learning_rate, "(0, inf)")
        real("finetune: weight_decay", self.weight_decay, "[0, inf)")
        real("finetune: warmup", self.warmup, "[0, 1)", "it is a share of the run")
        whole("finetune: batch_size", self.batch_size, "[1, inf)")
        whole("finetune: accumulate", self.accumulate, "[1, inf)")
        whole("finetune: skip_bad", self.skip_bad, "[0, inf)")
        whole("finetune: seed", self.seed, "[0, 4294967296)")
        if self.limit is not None:
            whole("finetune: limit", self.limit, "[1, inf)")
        if self.max_steps is not None:
            whole("finetune: max_steps", self.max_steps, "[1, inf)")
        if self.max_seconds is not None:
            real("finetune: max_seconds", self.max_seconds, "(0, inf)")
        if self.max_length is not None:
            whole("finetune: max_length", self.max_length, "[2, inf)")
        for name, choices in (("window", POLICIES), ("order", ORDERS)):
            if (value := getattr(self, name)) not in choices:
                raise ParameterError(f"finetune: {name} must be one of {', '.join(choices)}, got {value!r}")
        columns_of(self.map)
