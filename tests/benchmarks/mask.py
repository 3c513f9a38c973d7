"""
What a step under a JSON schema costs, with a vocabulary of 151,936 tokens.

    python tests/benchmarks/mask.py [--answers 40]

The tokenizer is byte-level BPE whose merges are made up, of letters, digits and JSON's marks. Answers
are drawn at random under the schema. Prints milliseconds of a step at percentiles: the mask, beside its bar
of 0.15 at the median, and with its effect on the logits. Ends with status 1 if the bar was missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from decodekit import Sampler
from decodekit.history import Sequence
from decodekit.plugins import load_plugins
from decodekit.processors import Step
from decodekit.tokenizer import Tokenizer

SIZE = 151_936
BAR = 0.15  # ms
WITHIN = 60  # steps of an answer
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 5},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
            "required": ["street", "zip"],
        },
    },
    "required": ["name", "age", "tags", "address"],
    "additionalProperties": False,
}


def made_up_tokenizer(folder: Path) -> Tokenizer:
    """Bytes, then merges of pieces until there are SIZE - 1, then the end token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", *'{}[]:,".-', "\u0120"]
    rng, pieces, merges = np.random.default_rng(0), dict.fromkeys(alphabet), []
    parts = list(letters)
    while len(pieces) < SIZE - 1:
        left, right = parts[rng.integers(len(parts))], parts[rng.integers(len(letters))]
        if len(left + right) > 12 or left + right in pieces:
            continue
        pieces[left + right] = None
        merges.append((left, right))
        parts.append(left + right)
    bpe = tokenizers.Tokenizer(models.BPE({piece: id for id, piece in enumerate(pieces)}, merges))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens(["<|end|>"])
    path = folder / "tokenizer.json"
    bpe.save(str(path))
    return Tokenizer(path, [bpe.token_to_id("<|end|>")])


def steps(tokenizer: Tokenizer, answers: int) -> tuple[list[float], list[float]]:
    """Milliseconds of masks alone, in every other answer, and of masks and what they do to the logits."""
    schema = load_plugins().logits_processors.create("json_schema", SCHEMA).bind(tokenizer)
    sampler, rng = Sampler((schema,)), np.random.default_rng(1)
    masks, both = list[float](), list[float]()
    for seed in range(answers):
        sequence, states = Sequence([0], seed=seed), sampler.init(1)
        for _ in range(WITHIN):
            logits = rng.standard_normal((1, SIZE)).astype(np.float32)
            step = Step.dense((sequence.history(),), SIZE)
            if seed % 2:
                masks.append(_milliseconds(partial(schema.mask, step.rows[0], states[0]))[0])
            took, (_, left, shaped) = _milliseconds(partial(sampler.shape, logits, step, states))
            if not seed % 2:
                both.append(took)
            id = int(shaped.ids[0, left.argmax()])
            if id in tokenizer.stop_ids:
                break
            sequence.append(id)
    return masks, both


def _milliseconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return (time.perf_counter() - began) * 1e3, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--answers", type=int, default=40)
    answers = parser.parse_args().answers
    with tempfile.TemporaryDirectory() as folder:
        masks, both = steps(made_up_tokenizer(Path(folder)), answers)
    for name, times in (("the mask", masks), ("with its effect", both)):
        p50, p90, p99 = np.percentile(times, (50, 90, 99))
        print(f"{name}: {p50:.3f} ms at p50, {p90:.3f} at p90, {p99:.3f} at p99 of {len(times)} steps")
    missed = bool(np.median(masks) > BAR)
    print(f"bar of the mask at p50, {BAR}: {'missed' if missed else 'holds'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
