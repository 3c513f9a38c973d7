"""Settings: the numbers of a fine-tuning run, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from decodekit.errors import ParameterError
from decodekit.parameters import real, whole
from decodekit_export.schedule import DECAYS
from decodekit_export.shapes import columns_of
from decodekit_export.window import POLICIES

ORDERS = ("grouped", "shuffled")
SCHEDULES = tuple(DECAYS)
PRECISIONS = ("float32", "bfloat16", "float16")
KINDS = ("lora", "dora")
CHOICES = ("best", "last")


@dataclass(frozen=True, slots=True)
class Adapter:
    """What is trained instead of the weights: a difference of low rank to some of them.

    kind     "lora", or "dora": direction and size apart
    rank     of the difference, at least 1
    alpha    the difference is scaled by alpha / rank, at least 1
    dropout  share of inputs that are left out in training, in [0, 1)
    targets  names of the modules, such as "q_proj"; (): every linear one but the last
    """

    kind: str = "lora"
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _one_of("method", self.kind, KINDS)
        whole("finetune: rank", self.rank, "[1, inf)")
        whole("finetune: alpha", self.alpha, "[1, inf)")
        real("finetune: dropout", self.dropout, "[0, 1)")


@dataclass(frozen=True, slots=True)
class Settings:
    """How to fine-tune: all that decides which weights come of it.

    Training ends at the first of `epochs`, `max_steps` and `max_seconds`.

    valid           rows to measure the loss on, before, during and after: a file, or a share such as "5%"
    map             "field=key" for fields of a row that stand under another key
    limit           records to take from the start of the data, or None for all
    allow_empty     accept empty prompts and completions
    refuse_special  a fault if a row holds the text of a special token; else it stays text
    skip_bad        bad records to pass over, at least 0; they are listed in NAME.bad.txt
    window          what becomes of a row that is too long: "error", "left_prompt" or "drop"
    max_length      tokens a row may have, at least 2; None: the model's context
    pack            tokens of a window that several rows share, at least 2, or None; a batch is of windows
    adapter         what to train instead of all weights, or None
    epochs          passes over the data, > 0
    max_steps       steps of the optimizer, at least 1, or None
    max_seconds     seconds of steps, > 0, or None
    batch_size      rows in a batch of one process, at least 1
    accumulate      batches in a step, at least 1
    learning_rate   of AdamW at its highest, > 0
    warmup          share of the run in which the learning rate rises, in [0, 1)
    schedule        how it falls after that: "cosine" or "linear" to 0, or "constant", not at all
    weight_decay    of AdamW, at least 0
    clip            the most the norm of a gradient may be, > 0
    order           "grouped": rows of like length share a batch, with little padding; "shuffled": any
    precision       "float32"; "bfloat16" or "float16": weights stay float32, most products are shorter
    recompute       forget activations and compute them again for the gradient: slower, in less memory
    shard           processes hold a part of the weights each, instead of all of them
    evaluate_every  steps between two evaluations of `valid`, at least 1; None: a tenth of the run
    patience        evaluations without a lower loss after which training ends, at least 1, or None
    choose          where there is `valid`, whose weights are kept: of the "best" evaluation or the "last"
    seed            of the order of rows and of dropout, in [0, 2**32)
    """

    valid: Path | None = None
    map: Sequence[str] = ()
    limit: int | None = None
    allow_empty: bool = False
    refuse_special: bool = False
    skip_bad: int = 0
    window: str = "error"
    max_length: int | None = None
    pack: int | None = None
    adapter: Adapter | None = None
    epochs: float = 3.0
    max_steps: int | None = None
    max_seconds: float | None = None
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 2e-4
    warmup: float = 0.05
    schedule: str = "cosine"
    weight_decay: float = 0.01
    clip: float = 1.0
    order: str = "grouped"
    precision: str = "float32"
    recompute: bool = False
    shard: bool = False
    evaluate_every: int | None = None
    patience: int | None = None
    choose: str = "best"
    seed: int = 0

    def __post_init__(self) -> None:
        real("finetune: epochs", self.epochs, "(0, inf)")
        real("finetune: learning_rate", self.learning_rate, "(0, inf)")
        real("finetune: weight_decay", self.weight_decay, "[0, inf)")
        real("finetune: clip", self.clip, "(0, inf)")
        real("finetune: warmup", self.warmup, "[0, 1)", "it is a share of the run")
        whole("finetune: batch_size", self.batch_size, "[1, inf)")
        whole("finetune: accumulate", self.accumulate, "[1, inf)")
        whole("finetune: skip_bad", self.skip_bad, "[0, inf)")
        whole("finetune: seed", self.seed, "[0, 4294967296)")
        for name in ("limit", "max_steps", "evaluate_every", "patience"):
            if (number := getattr(self, name)) is not None:
                whole(f"finetune: {name}", number, "[1, inf)")
        if self.max_seconds is not None:
            real("finetune: max_seconds", self.max_seconds, "(0, inf)")
        for name in ("max_length", "pack"):
            if (tokens := getattr(self, name)) is not None:
                whole(f"finetune: {name}", tokens, "[2, inf)")
        for name, choices in (
            ("window", POLICIES),
            ("order", ORDERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
            ("choose", CHOICES),
        ):
            _one_of(name, getattr(self, name), choices)
        columns_of(self.map)
        if self.patience and not self.valid:
            raise ParameterError("finetune: patience counts evaluations, which need a validation file")


@dataclass(frozen=True, slots=True)
class Saving:
    """What is saved on the way; no weight depends on it.

    every   steps between two checkpoints, at least 1; there is one after each evaluation and at the end too
    keep    checkpoints that are kept while training goes on, at least 1, besides the best one
    resume  go on with the run that is there; without one, begin
    force   go on although settings or data are not those it began with
    merge   whether a trained adapter is added to the weights of its base; it is saved by itself in any case
    """

    every: int = 500
    keep: int = 2
    resume: bool = False
    force: bool = False
    merge: bool = True

    def __post_init__(self) -> None:
        whole("finetune: save_every", self.every, "[1, inf)")
        whole("finetune: keep", self.keep, "[1, inf)")


@dataclass(frozen=True, slots=True)
class Watching:
    """What is shown of a run and asked of its model; no weight depends on it.

    samples        prompts that are answered at each evaluation, at least 0
    chain          how: strategies, as for `decodekit generate -p`
    sample_tokens  tokens of such an answer at most, at least 1
    endings        prompts that are answered greedily at the end, to see whether the answers stop, at least 1
    stopping       share of these answers that should, in [0, 1]
    tensorboard    a folder for TensorBoard's figures, or None
    """

    samples: int = 0
    chain: str = "greedy"
    sample_tokens: int = 64
    endings: int = 16
    stopping: float = 0.9
    tensorboard: Path | None = None

    def __post_init__(self) -> None:
        whole("finetune: samples", self.samples, "[0, inf)")
        whole("finetune: sample_tokens", self.sample_tokens, "[1, inf)")
        whole("finetune: endings", self.endings, "[1, inf)")
        real("finetune: stopping", self.stopping, "[0, 1]")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ParameterError(f"finetune: {name} must be one of {', '.join(choices)}, got {value!r}")
