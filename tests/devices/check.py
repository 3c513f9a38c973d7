"""
Everything that a device must prove, in one command.

    PYTHONPATH=tests python -m devices.check [--device cuda] [--bundle DIR ...] [--soak 60] [--quick]
        [--out build/gpu-check]

Writes OUT.json, and OUT.md with a table for docs/devices.md. Exit status 1: something does not hold;
3: the device is not there. With `--device cpu` all of it runs without a card, which tests the command.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from devices.agreement import agreement, compare, made, traceable
from devices.timing import table, timings

import decodekit
from decodekit.bundle import Bundle, open_bundle
from decodekit.doctor import examine
from decodekit.errors import DecodekitError
from decodekit.graph_sampling.reducer import Reducer
from decodekit.inspection import placement
from decodekit.onnx_model import InPlaceModel, load_model
from decodekit.onnx_session import Session, device_of
from decodekit.plugins import load_plugins

FIXTURE = Path(__file__).parent.parent / "fixtures" / "in_place"
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


def strategies(device: str, chains: int, steps: int) -> dict[str, Any]:
    """Each strategy that traces, and random chains, in graphs on the device and on the host."""
    registry, chance = load_plugins().logits_processors, random.Random(0)
    reducer = Reducer(1000, device=device)
    names = traceable(registry, reducer)
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
    rng, first, done = random.Random(0), None, 0
    began = time.monotonic()
    with decodekit.load(bundle.path, device=device, sampling="graph") as decoder:
        while time.monotonic() - began < seconds or not done:
            probe = decoder.generate(PROMPTS[0], SAMPLED, seed=9, max_new_tokens=20).text
            first = probe if first is None else first
            if probe != first:
                return {"requests": done, "seconds": seconds, "holds": False}
            prompts = [rng.choice(PROMPTS) for _ in range(rng.randint(1, 16))]
            decoder.generate(prompts, SAMPLED, max_new_tokens=rng.randint(1, 60))
            done += 1 + len(prompts)
    return {"requests": done, "seconds": seconds, "holds": True}


def speed(bundle: Bundle, device: str, count: int) -> dict[str, Any]:
    """Tokens a second of the decoder and of a bare loop, on one graph, taking turns; the best of three."""
    best = {"decoder": 0.0, "bare": 0.0}
    with decodekit.load(bundle.path, device=device) as decoder:
        for _ in range(3):
            began = time.perf_counter()
            completion = decoder.generate([1, 2, 3], "greedy", max_new_tokens=count, ignore_eos=True)
            rate = len(completion.tokens) / (time.perf_counter() - began)
            best["decoder"] = max(best["decoder"], rate)
            best["bare"] = max(best["bare"], decoder.engine.call(lambda: _bare(decoder.model, count)))
    return {**best, "share": best["decoder"] / best["bare"]}


def _bare(model: Any, count: int) -> float:
    began = time.perf_counter()
    logits, cache = model(np.asarray([1, 2, 3]), model.new_cache())
    for _ in range(count - 1):
        logits, cache = model(np.asarray([int(logits[-1].argmax())]), cache)
    return count / (time.perf_counter() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--bundle", action="append", default=[], help="besides the one of the tests")
    parser.add_argument("--soak", type=float, default=60.0, metavar="SECONDS", help="the long form is 600")
    parser.add_argument("--quick", action="store_true", help="only prove that the command runs")
    parser.add_argument("--out", type=Path, default=Path("build/gpu-check"))
    args = parser.parse_args()
    try:
        device = device_of(args.device)
    except DecodekitError as exc:
        print(f"{exc}", file=sys.stderr)
        return exc.exit_code
    chains, steps, rounds, count = (3, 3, 1, 8) if args.quick else (200, 60, 15, 200)

    report: dict[str, Any] = {"device": device, "doctor": examine(load_plugins()).to_json(), "bundles": {}}
    holds = [_part(report, "strategies", lambda: strategies(device, chains, steps))]
    for folder in (str(FIXTURE), *args.bundle):
        bundle = open_bundle(folder)
        found: dict[str, Any] = {}
        report["bundles"][bundle.name] = found
        _part(found, "placement", lambda bundle=bundle: placement(bundle, device))
        holds += [
            _part(found, "parity", lambda bundle=bundle: parity(bundle, device)),
            _part(found, "tokens", lambda bundle=bundle: tokens(bundle, device)),
            _part(found, "soak", lambda bundle=bundle: soak(bundle, device, args.soak)),
        ]
        _part(found, "speed", lambda bundle=bundle: speed(bundle, device, count))
    report["timings"] = timings(device, rounds)
    report["holds"] = all(holds)

    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(f"{device}\n\n{table(report['timings'])}\n")
    print(f"{'all holds' if report['holds'] else 'something does not hold'}: {args.out}.json, {args.out}.md")
    return 0 if report["holds"] else 1


def _part(report: dict[str, Any], name: str, run: Callable[[], dict[str, Any]]) -> bool:
    """Whether a part holds; one that fails is told, and the others are still tried."""
    print(f"{name} ...", flush=True)
    try:
        report[name] = run()
    except (DecodekitError, RuntimeError) as exc:
        report[name] = {"error": f"{type(exc).__name__}: {exc}", "holds": False}
    held = bool(report[name].get("holds", True))
    print(f"{name}: {'holds' if held else 'DOES NOT HOLD'}", flush=True)
    return held


if __name__ == "__main__":
    raise SystemExit(main())
