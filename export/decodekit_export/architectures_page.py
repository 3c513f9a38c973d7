"""The page of all architectures: what was tried, and what came of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from decodekit_export.trial import Trial

HEAD = """# Architectures

Written by `make architectures`; do not edit. `decodekit architectures` makes a tiny random model of every
causal language model class of transformers, exports it, holds it against PyTorch by the parity gate, and
decodes a ragged batch of it with the engine.

transformers {transformers}, onnxruntime {onnxruntime}, torch {torch}: **{green} classes pass**,
of {tried} that were tried and {all} that there are.

- *logits* is the largest difference from PyTorch over prefill, 32 single steps, a chunk on top of a past, a
  ragged prefill, ragged steps and greedy decoding, float32; *of* is the largest logit.
- *greedy* is how many greedy tokens are those of PyTorch.
- *ragged* is how many rows of a batch of prompts with 1, 30, 7 and 18 tokens, decoded in the engine, have
  the tokens of PyTorch.
- *in the graph* is what the model has beyond plain attention over a cache.
"""
GREEN = ("class", "model types", "cache", "logits", "of", "greedy", "ragged", "in the graph")
RED = ("class", "model types", "cache", "why not")
OTHERS = """
## Not exported

`decodekit export` refuses these with the sentence in the table. `--engine optimum` has exporters of its own
for some of them.
"""


def page(trials: Sequence[Trial], types: Mapping[str, Sequence[str]], versions: Mapping[str, str]) -> str:
    """Markdown. A class passes if one kind of cache does; the kinds that do not are left out."""
    by_name: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        by_name[trial.name].append(trial)
    green = {name for name, tried in by_name.items() if any(trial.passed for trial in tried)}
    head = HEAD.format(**versions, green=len(green), tried=len(by_name), all=len(types))
    passed = [_passed(t, types) for t in trials if t.passed]
    refused = [_refused(t, types) for t in trials if not t.passed and t.name not in green]
    return "\n".join([head, *_table(GREEN, passed), OTHERS, *_table(RED, refused)]) + "\n"


def _passed(trial: Trial, types: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return (
        f"`{trial.name}`",
        ", ".join(types.get(trial.name, ())),
        trial.cache,
        f"{trial.logits:.1e}",
        f"{trial.scale:.2g}",
        f"{trial.agreed} of {trial.tokens}",
        f"{trial.right} of {trial.ragged}",
        ", ".join(trial.mechanisms),
    )


def _refused(trial: Trial, types: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    tokens, rows = trial.tokens - trial.agreed, trial.ragged - trial.right
    reason = trial.error or f"{tokens} greedy tokens and {rows} rows differ from PyTorch"
    return (
        f"`{trial.name}`",
        ", ".join(types.get(trial.name, ())),
        trial.cache,
        reason.removeprefix(f"{trial.name}: ").replace("|", "\\|"),
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
