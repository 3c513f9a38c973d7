"""What a device must prove of a bundle: the same logits, the same tokens, for long."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
from devices.agreement import agreement, compare, made, traceable

import decodekit
from decodekit.bundle import Bundle
from decodekit.gpu import cards
from decodekit.graph_sampling.reducer import Reducer
from decodekit.onnx_model import InPlaceModel, load_model
from decodekit.onnx_session import Session
from decodekit.plugins import load_plugins

BARS = {"float32": 1e-3, "float16": 5e-2, "bfloat16": 2e-1}  # of logits, over prompt and steps
PROMPTS = ["Once upon a time", "a", "The cat " * 30, "b c d e f g"]
SAMPLED = "temperature=0.9, top_k=40, top_p=0.95"
STEPS = 32


def parity(bundle: Bundle, device: str) -> dict[str, Any]:
    """The greatest differences of logits and cache to the CPU, by level of optimisation."""
    reference = load_model(bundle, device="cpu")
    prompt = np.arange(1, 25) % bundle.vocabulary
    expected = _steps(reference, prompt)
    found = {}
    for level in ("off", "basic", "all"):
        model = load_model(bundle, device=device)
        if isinstance(model, InPlaceModel):
            model = InPlaceModel(bundle, Session(bundle.graph, device=device, level=level), model.memory)
        got = _steps(model, prompt)
        found[level] = {what: float(np.abs(expected[what] - got[what]).max()) for what in expected}
    bar = BARS.get(bundle.cache.dtype, BARS["float32"])
    return {"bar": bar, "levels": found, "holds": all(one["logits"] <= bar for one in found.values())}


def _steps(model: Any, prompt: Any) -> dict[str, Any]:
    """Logits of a prompt and of forced steps behind it, and the cache after them where it can be read."""
    logits, cache = model(prompt, model.new_cache(), last=len(prompt))
    all_logits = [logits]
    for id in (np.arange(STEPS) * 7 + 3) % model.vocabulary:
        logits, cache = model(np.asarray([id]), cache)
        all_logits.append(logits)
    found = {"logits": np.concatenate(all_logits)}
    if isinstance(model, InPlaceModel):
        found["cache"] = cache.slab.save(0, 0, cache.length).astype(np.float32)
    return found


def tokens(bundle: Bundle, device: str) -> dict[str, Any]:
    """Each prompt alone is each prompt in a batch, with guesses and with the chain in a graph."""
    answers = {}
    for name, sampling, options in (
        ("alone", "host", {}),
        ("together", "host", {}),
        ("guessing", "host", {"speculate": "lookup"}),
        ("graph", "graph", {}),
    ):
        with decodekit.load(bundle.path, device=device, sampling=sampling) as decoder:
            asked = [[prompt] for prompt in PROMPTS] if name == "alone" else [PROMPTS]
            found = [
                completion
                for prompts in asked
                for completion in decoder.generate(prompts, SAMPLED, seed=4, max_new_tokens=40, **options)
            ]
            answers[name] = [[token.id for token in completion.tokens] for completion in found]
    same = {name: answers[name] == answers["alone"] for name in answers if name != "alone"}
    return {"same_as_alone": same, "holds": all(same.values())}


def strategies(device: str, chains: int, steps: int, most: int | None = None) -> dict[str, Any]:
    """Each strategy that runs in a graph, and random chains, on the device and on the host.

    most  how many strategies are tried; None: all
    """
    registry, chance = load_plugins().logits_processors, random.Random(0)
    reducer = Reducer(1000, device=device)
    names = traceable(registry, reducer, most)
    each = {}
    for name in names:
        tally = compare([[made(registry, name, chance)] for _ in range(8)], reducer, chance, steps=5)
        each[name] = tally.differing
    total = agreement(registry, names, chains, steps, device)
    return {
        "strategies": {name: not lines for name, lines in each.items()},
        "tokens": total.tokens,
        "differing": total.differing,
        "holds": total.holds and not any(each.values()),
    }


def soak(bundle: Bundle, device: str, seconds: float) -> dict[str, Any]:
    """Many requests for so long: none fails, and the same request gives the same at the end as first."""
    rng, first, done, free = random.Random(0), None, 0, list[int]()
    began = time.monotonic()
    with decodekit.load(bundle.path, device=device, sampling="graph") as decoder:
        while time.monotonic() - began < seconds or not done:
            probe = decoder.generate(PROMPTS[0], SAMPLED, seed=9, max_new_tokens=20).text
            first = probe if first is None else first
            if probe != first:
                return {"requests": done, "seconds": seconds, "holds": False}
            if device != "cpu":
                free.append(cards()[0][int(device.partition(":")[2])].free)
            prompts = [rng.choice(PROMPTS) for _ in range(rng.randint(1, 16))]
            decoder.generate(prompts, SAMPLED, max_new_tokens=rng.randint(1, 60))
            done += 1 + len(prompts)
    settled = free[
        len(free) // 4 :: max(1, len(free) - 1 - len(free) // 4)
    ]  # after a quarter, and at the end
    return {"requests": done, "seconds": seconds, "free_mib": settled, "holds": True}
