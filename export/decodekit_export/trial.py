"""
A trial: a tiny model of an architecture becomes a bundle, and the bundle is decoded.

It goes the way of every checkpoint: saved, loaded, exported, held against PyTorch by the
parity gate. Then the engine decodes rows of unequal length in one batch, and every token
must be the one that PyTorch finds most likely.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from transformers import PreTrainedModel

import decodekit
from decodekit.errors import DecodekitError
from decodekit_export.bundle import export_bundle
from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.mechanisms import mechanisms
from decodekit_export.reference import Reference
from decodekit_export.tiny import CONTEXT, VOCABULARY, tiny_model

LENGTHS = (1, 30, 7, 18)  # tokens of the prompts in the ragged batch
ANSWER = 24  # tokens of each answer


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one class and one kind of cache.

    logits      largest |difference| of a logit over all roads of the gate, `scale` the largest |logit|
    tokens      greedy tokens compared by the gate, `agreed` of them those of PyTorch
    ragged      rows of the ragged batch, `right` of them with the tokens of PyTorch
    mechanisms  what the graph has beyond plain attention
    error       why there is no bundle; empty if there is one
    """

    name: str
    cache: str
    logits: float = 0.0
    scale: float = 0.0
    tokens: int = 0
    agreed: int = 0
    ragged: int = 0
    right: int = 0
    mechanisms: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.error and self.agreed == self.tokens > 0 and self.right == self.ragged > 0


def run_trial(name: str, cache: str, *, prompts: int = 50) -> Trial:
    """Try one class of transformers, by name, with one kind of cache."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="decodekit-") as folder:
        try:
            figures = _figures(name, cache, Path(folder), prompts)
        except DecodekitError as exc:
            figures = {"error": str(exc).removeprefix(f"{Path(folder) / 'checkpoint'}: ")}
        except Exception as exc:  # a model that fails in code of its own
            figures = {"error": f"{type(exc).__name__}: {(str(exc).strip() or 'no message').splitlines()[0]}"}
    return Trial(name, cache, **figures, seconds=round(time.perf_counter() - start, 1))


def _figures(name: str, cache: str, folder: Path, prompts: int) -> dict[str, Any]:
    save_checkpoint(folder / "checkpoint", tiny_model(name))
    bundle = export_bundle(folder / "checkpoint", folder / "bundle", cache=cache, prompts=prompts)
    parity = bundle.manifest["parity"]
    right = _ragged(folder / "bundle", open_checkpoint(folder / "checkpoint").load_model())
    return {
        "logits": max(parity["logits"].values()),
        "scale": parity["scales"]["logits"],
        "tokens": parity["tokens"],
        "agreed": parity["tokens"] - len(parity["near_ties"]),
        "ragged": len(LENGTHS),
        "right": right,
        "mechanisms": mechanisms(folder / "bundle" / "model.onnx"),
    }


def save_checkpoint(folder: Path, model: PreTrainedModel) -> None:
    """Write the model with a tokenizer whose tokens are words that say their id."""
    model.save_pretrained(folder)
    words = tokenizers.models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0")
    made = tokenizers.Tokenizer(words)
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "w2"}))


def _ragged(bundle: Path, model: PreTrainedModel) -> int:
    """Rows with the tokens of PyTorch, of those that the engine decodes in one batch."""
    random = np.random.default_rng(0)
    prompts = [random.integers(3, VOCABULARY, n).tolist() for n in LENGTHS]
    decoder = decodekit.load(bundle, device="cpu", threads=1)
    answers = decoder.generate(prompts, max_new_tokens=ANSWER, ignore_eos=True)
    reference = Reference(model)
    right = 0
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens = [token.id for token in answer.tokens]
        logits, _ = reference(prompt + tokens[:-1], range(len(prompt) - 1, len(prompt) + len(tokens) - 1))
        right += len(tokens) == ANSWER and logits.argmax(-1).tolist() == tokens
    return right


assert max(LENGTHS) + ANSWER < CONTEXT
