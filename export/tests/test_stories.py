"""A real pretrained model: stories260K by Andrej Karpathy, trained on TinyStories."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import decodekit
from decodekit.bundle import Bundle
from decodekit_export.bundle import export_bundle
from decodekit_export.cache import CacheShape
from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.precision import Precision
from decodekit_export.quality import Text, compare
from decodekit_export.quantization import Quantization
from decodekit_export.reference import Reference

SHARED = Path(os.environ.get("DECODEKIT_SHARED", Path(__file__).parents[3] / "shared"))
STORIES = SHARED / "models" / "stories260k"

pytestmark = pytest.mark.skipif(
    not STORIES.is_dir(),
    reason="no models/stories260k under DECODEKIT_SHARED or in ../shared of the repository",
)

PROMPT = "Once upon a time, there was a little girl"
CONTINUATION = (
    " named Lily. She loved to play outside in the park. One day, she saw a big, red ball. "
    "She wanted to play with it, but it was too high."
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return export_bundle(STORIES, tmp_path_factory.mktemp("bundles") / "stories")


def test_the_graph_is_the_model(bundle):
    parity = bundle.manifest["parity"]
    assert parity["passed"] and parity["tokens"] == 1600
    assert max(parity["logits"].values()) < 1e-4  # at logits up to 22
    assert bundle.manifest["stop_ids"] == [2]


def test_the_published_story_is_told_word_for_word(bundle):
    decoder = decodekit.load(bundle.path)
    assert decoder.generate(PROMPT, max_new_tokens=60).text.startswith(CONTINUATION)


def test_greedy_tokens_are_those_of_transformers(bundle, answers):
    decoder = decodekit.load(bundle.path)
    for prompt, want in answers:
        assert list(decoder.generate(prompt, max_new_tokens=64).ids) == want


@pytest.fixture(scope="module")
def answers() -> list[tuple[list[int], list[int]]]:
    """50 prompts in the words of the story, and transformers' greedy 64 tokens after each."""
    source = open_checkpoint(STORIES)
    model, words, random = source.load_model(), (PROMPT + CONTINUATION).split(), np.random.default_rng(0)
    pairs = []
    for _ in range(50):
        start, length = int(random.integers(len(words) - 10)), int(random.integers(1, 10))
        prompt = [1, *source.tokenizer.encode(" ".join(words[start : start + length]))]
        given = torch.tensor([prompt])
        told = model.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=64, do_sample=False
        )
        pairs.append((prompt, told[0, len(prompt) :].tolist()))
    return pairs


@pytest.fixture(scope="module")
def lines(tmp_path_factory) -> Path:
    """200 lines of questions that the model never saw."""
    rows = (SHARED / "data" / "gsm8k-train.jsonl").read_text(encoding="utf-8").splitlines()[-200:]
    path = tmp_path_factory.mktemp("texts") / "lines.txt"
    path.write_text("\n".join(json.loads(row)["question"] for row in rows), encoding="utf-8")
    return path


def test_the_perplexity_of_the_lines_is_that_of_pytorch(bundle, lines):
    """Measured: 34.9378, and a difference of 2e-8."""
    source = open_checkpoint(STORIES)
    text = Text.of(source.tokenizer.encode(lines.read_text(encoding="utf-8")), "lines", bundle.context_length)
    shape = CacheShape(bundle.cache.layers, bundle.cache.kv_heads, bundle.cache.head_dim)
    quality = compare(Reference(source.load_model()), text, bundle.graph, bundle.cache.kind, shape)
    before, after = quality.perplexity
    assert quality.tokens > 4000
    assert abs(before - after) < 1e-4
    assert quality.agreement == 1


def test_in_float16_nearly_nothing_is_lost(lines, tmp_path):
    """Measured: perplexity 5e-4 off, divergence 1e-5 nats a token, the same best token at 99.75%."""
    quality = export_bundle(
        STORIES, tmp_path / "halves", precision=Precision("float16"), text=lines, prompts=4
    ).manifest["quality"]
    before, after = quality["perplexity"].values()
    assert abs(before - after) < 0.03
    assert quality["divergence"] < 1e-4 and quality["agreement"] > 0.995


@pytest.mark.parametrize(("dtype", "worse", "divergence"), [("int8", 1.005, 4e-3), ("int4", 1.2, 0.3)])
def test_rounded_weights_tell_nearly_the_same(lines, tmp_path, dtype, worse, divergence):
    """Measured: perplexity 34.94 -> 34.92 at 8 bits, 39.21 at 4; divergence 0.0018 and 0.21 nats a token."""
    place = tmp_path / dtype
    quality = export_bundle(STORIES, place, quantization=Quantization(dtype), text=lines, prompts=4).manifest[
        "quality"
    ]
    before, after = quality["perplexity"].values()
    assert quality["tokens"] > 4000
    assert after < before * worse
    assert quality["divergence"] < divergence
