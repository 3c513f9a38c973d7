"""
The canary: a prompt, and what the graph answered to it where it was checked against PyTorch.

A graph is checked on one machine and runs on others, whose kernels compute in another order or,
now and then, something else. Decoding the prompt again shows which. A few logits of each step
are kept, those of the most probable tokens, and one bar for how far they may be off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from decodekit.bundle import Bundle
from decodekit.errors import BundleError
from decodekit.model import Model
from decodekit.ops import Array

STEPS = 8  # that are decoded
TOKENS = 8  # whose logits are kept at each
MOST = 64  # of prompt, steps or tokens, in a manifest that others wrote


@dataclass(frozen=True, slots=True)
class Canary:
    """
    prompt  int [T]
    ids     int [S, N], at each step the most probable tokens, best first
    logits  float32 [S, N], theirs
    bar     the largest difference of a logit that is still the same answer, > 0
    """

    prompt: Sequence[int]
    ids: Array
    logits: Array
    bar: float

    def difference(self, model: Model) -> float:
        """How far the model is off: the largest |difference| of a logit, infinite where one is no number.

        A token that overtakes the best one by twice the bar is as far off as the bar.
        """
        off = 0.0
        for now, ids, logits in zip(_answer(model, self.prompt, self.ids[:, 0]), self.ids, self.logits):
            lead = float(now.max() - now[ids[0]]) / 2
            differences = np.append(np.abs(now[ids] - logits), lead)
            off = max(off, float(np.nan_to_num(differences, nan=np.inf).max()))
        return off

    def to_json(self) -> dict[str, Any]:
        return {
            "prompt": [int(id) for id in self.prompt],
            "ids": self.ids.tolist(),
            "logits": [[float(f"{logit:.7g}") for logit in row] for row in self.logits.tolist()],
            "bar": float(f"{self.bar:.3g}"),
        }


def record(model: Model, prompt: Sequence[int], bar: float) -> Canary:
    """What a model answers now, greedily."""
    count = min(TOKENS, model.vocabulary)
    ids, logits, cache, tokens = [], [], model.new_cache(), prompt
    for _ in range(STEPS):
        rows, cache = model(np.asarray(tokens, np.int64), cache)
        best = np.argsort(-rows[0], kind="stable")[:count]
        ids.append(best)
        logits.append(rows[0][best])
        tokens = [int(best[0])]
    return Canary(prompt, np.stack(ids), np.stack(logits).astype(np.float32), bar)


def canary_of(bundle: Bundle) -> Canary | None:
    """That of the manifest; None where there is none."""
    said = bundle.manifest.get("canary")
    if said is None:
        return None
    try:
        return _parsed(said, bundle)
    except (KeyError, TypeError, ValueError) as exc:
        raise BundleError(f"{bundle.path}: the canary of the manifest is malformed ({exc})") from exc


def _parsed(said: Mapping[str, Any], bundle: Bundle) -> Canary:
    prompt, ids = np.asarray(said["prompt"]), np.asarray(said["ids"])
    logits, bar = np.asarray(said["logits"], np.float32), float(said["bar"])
    sizes = (*prompt.shape, *ids.shape)
    if (
        prompt.ndim != 1
        or ids.ndim != 2
        or ids.shape != logits.shape
        or not 0 < min(sizes) <= max(sizes) <= MOST
    ):
        raise ValueError(f"shapes {prompt.shape}, {ids.shape}, {logits.shape}")
    if {prompt.dtype.kind, ids.dtype.kind} != {"i"} or not np.isfinite(logits).all() or not 0 < bar < np.inf:
        raise ValueError("ids are no whole numbers, or logits or bar are not finite")
    if min(prompt.min(), ids.min()) < 0 or max(prompt.max(), ids.max()) >= bundle.vocabulary:
        raise ValueError(f"ids must be in [0, {bundle.vocabulary})")
    if len(prompt) + len(ids) > bundle.context_length:
        raise ValueError(f"longer than the context of {bundle.context_length} tokens")
    return Canary(prompt.tolist(), ids, logits, bar)


def _answer(model: Model, prompt: Sequence[int], tokens: Sequence[int]) -> Any:
    """Logits [V] of each step, where the given tokens come one after the other."""
    rows, cache = model(np.asarray(prompt, np.int64), model.new_cache())
    yield rows[0]
    for token, _ in pairwise(tokens):
        rows, cache = model(np.asarray([token], np.int64), cache)
        yield rows[0]
