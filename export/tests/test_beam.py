"""Beam search finds what transformers' beam search finds, with the same scores."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

import decodekit
from decodekit import Decoder
from decodekit_export.bundle import export_bundle
from decodekit_export.checkpoint import open_checkpoint

ARCHITECTURES = {"Llama": "in_place", "Qwen2": "concatenating", "GPT2": "in_place"}
PROMPTS = [[9], [40, 77, 120, 33, 250], [int(i) for i in np.random.default_rng(0).integers(5, 299, 40)]]
ENDS = [int(i) for i in np.random.default_rng(1).choice(300, 60, replace=False)]  # a fifth of all tokens ends

SHARED = Path(os.environ.get("DECODEKIT_SHARED", Path(__file__).parents[3] / "shared"))
STORIES = SHARED / "models" / "stories260k"

Pair = tuple[PreTrainedModel, Decoder]


@pytest.fixture(scope="module")
def pair(checkpoint, tmp_path_factory) -> Callable[[str], Pair]:
    """A model of that architecture and a decoder of its bundle."""

    @cache
    def make(architecture: str) -> Pair:
        source, kind = checkpoint(architecture), ARCHITECTURES[architecture]
        place = tmp_path_factory.mktemp("bundles") / architecture
        bundle = export_bundle(source, place, cache=kind, prompts=2)
        return open_checkpoint(source).load_model(), decodekit.load(bundle.path)

    return make


def transformers_beams(
    model: PreTrainedModel, prompt: list[int], ends: list[int], n: int, **options: Any
) -> list[tuple[list[int], float]]:
    """Generated ids and score of each, best first."""
    given = torch.tensor([prompt])
    told = model.generate(
        given,
        attention_mask=torch.ones_like(given),
        num_return_sequences=n,
        do_sample=False,
        eos_token_id=ends or None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    found = []
    for row, score in zip(told.sequences[:, len(prompt) :].tolist(), told.sequences_scores.tolist()):
        end = next((i for i, id in enumerate(row) if id in ends), len(row) - 1)
        found.append((row[: end + 1], score))
    return found


def agree(
    pair: Pair, prompt: list[int], *, n: int, ends: list[int] = ENDS, room: int = 12, **rules: Any
) -> list[tuple[int, ...]]:
    """The answers' ids, after comparing ids and scores."""
    model, decoder = pair
    options = {"max_new_tokens": room} | rules
    expected = transformers_beams(model, prompt, ends, n, **options)
    chain = [f"repetition_penalty={t}"] if (t := options.pop("repetition_penalty", None)) else None
    options["beams"] = options.pop("num_beams")
    found = decoder.beam(prompt, chain, n=n, stop_token_ids=ends, ignore_eos=True, **options)
    assert [list(beam.ids) for beam in found] == [ids for ids, _ in expected]
    assert [beam.score for beam in found] == pytest.approx([score for _, score in expected], abs=1e-4)
    return [beam.ids for beam in found]


@pytest.mark.parametrize("penalty", [-0.5, 0.0, 1.0, 1.7])
@pytest.mark.parametrize(
    ("architecture", "beams"), [("Llama", 2), ("Llama", 4), ("Llama", 7), ("Qwen2", 4), ("GPT2", 4)]
)
def test_the_beams_are_those_of_transformers(pair, architecture, beams, penalty):
    for prompt, stopping in product(PROMPTS, [False, True, "never"]):
        agree(
            pair(architecture),
            prompt,
            n=beams,
            num_beams=beams,
            length_penalty=penalty,
            early_stopping=stopping,
        )


def test_answers_end_early_and_early_stopping_matters(pair):
    """What makes the comparison above worth something."""
    found = {
        stopping: [
            agree(pair("Llama"), prompt, n=4, num_beams=4, length_penalty=1.0, early_stopping=stopping)
            for prompt in PROMPTS
        ]
        for stopping in (False, True, "never")
    }
    assert len({len(ids) for beams in found[False] for ids in beams}) >= 4
    assert found[False] != found[True] and found[False] != found["never"]


@pytest.mark.parametrize(
    "rules",
    [
        {"n": 1, "num_beams": 5},
        {"n": 3, "num_beams": 5, "early_stopping": True},
        {"n": 4, "num_beams": 4, "ends": []},
        {"n": 4, "num_beams": 4, "ends": [2]},
        {"n": 4, "num_beams": 4, "room": 1},
        {"n": 4, "num_beams": 4, "room": 2, "early_stopping": "never"},
        {"n": 4, "num_beams": 4, "min_new_tokens": 6},
        {"n": 4, "num_beams": 4, "repetition_penalty": 1.4},
        {"n": 4, "num_beams": 4, "repetition_penalty": 0.8, "min_new_tokens": 3},
        {"n": 12, "num_beams": 12, "room": 30},
    ],
    ids=str,
)
@pytest.mark.parametrize("architecture", ["Llama", "Qwen2"])
def test_other_settings_mean_the_same_too(pair, architecture, rules):
    for prompt in PROMPTS:
        agree(pair(architecture), prompt, **rules)


@pytest.mark.skipif(
    not STORIES.is_dir(),
    reason="no models/stories260k under DECODEKIT_SHARED or in ../shared of the repository",
)
def test_the_beams_of_a_real_model(tmp_path):
    source, bundle = open_checkpoint(STORIES), export_bundle(STORIES, tmp_path / "stories", prompts=2)
    stories = source.load_model(), decodekit.load(bundle.path)
    point = source.tokenizer.encode("The cat sat.")[-1]
    words = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    for start, ends in product(range(4), [[2], [2, point]]):
        prompt = [1, *source.tokenizer.encode(" ".join(words.split()[start : start + 5]))]
        for beams, penalty, stopping in [
            (4, 1.0, False),
            (3, 0.0, "never"),
            (5, 2.0, True),
            (4, 1.0, "never"),
        ]:
            agree(
                stories,
                prompt,
                ends=ends,
                n=beams,
                room=30,
                num_beams=beams,
                length_penalty=penalty,
                early_stopping=stopping,
            )
