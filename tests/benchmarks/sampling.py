"""
What the choice of a token costs, beside transformers, llama.cpp and onnxruntime-genai where installed.

    python tests/benchmarks/sampling.py [--rounds 30]

One row of logits, one thread. The engines take turns within one process, round by round, so that
a noisy machine disturbs all alike. A turn is a few choices, each from the logits of the model to the
token, or without the draw where a case says "processors only". transformers' choice is its
processors, softmax and torch.multinomial; llama.cpp's begins, as in its own loop, with a list of
candidates made of the logits; onnxruntime-genai's is its generator's, without the model. Medians; the
first choice of a turn, with cold caches as after a model's step, counts apart from the others.

Prints tables and writes docs/figures/sampling.json. Ends with status 1 if a bar was missed.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from engines import ROOT
from report import machine

from decodekit import Sampler, Step
from decodekit.plugins import load_plugins
from decodekit.testing import histories

FILE = ROOT / "docs" / "figures" / "sampling.json"
VOCABULARIES = (32_000, 49_152, 151_936)
CHOICES = 6  # in a turn
SEEN = 2_000  # tokens of history, 500 of them prompt
LOGITS = {
    "peaked": lambda rng, n: -1.5 * np.log1p(rng.permutation(n)),  # a power law; 90 % are 58 tokens
    "flat": lambda rng, n: rng.standard_normal(n) * 0.5,
}
Turn = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """Strategies by their names and values; bars in ms at 151,936 peaked logits, and over two peers."""

    chain: Mapping[str, float | None]
    draws: bool = True
    at_most: float | None = None
    faster: float | None = None

    @property
    def name(self) -> str:
        name = (
            ", ".join(s if value is None else f"{s} {value:g}" for s, value in self.chain.items()) or "draw"
        )
        return name if self.draws else f"{name}; processors only"


PENALTIES = {"repetition_penalty": 1.1, "frequency_penalty": 0.2, "presence_penalty": 0.3}
CASES = (
    Case({}, at_most=1.5),
    Case({"greedy": None}),
    Case({"temperature": 0.8}),
    Case({"top_k": 50}),
    Case({"top_p": 0.9}, at_most=1.2, faster=15),
    Case({"min_p": 0.05}, at_most=0.4),
    Case({"typical": 0.9}),
    Case({"repetition_penalty": 1.1}, draws=False),
    Case(PENALTIES, draws=False, at_most=0.15),
    Case({"temperature": 0.8, "top_k": 50, "top_p": 0.9}, at_most=0.4),
    Case({**PENALTIES, "temperature": 0.8, "top_k": 50, "top_p": 0.9}),
)


def decodekit_turn(case: Case, logits: np.ndarray, ids: list[int]) -> Turn:
    """A choice by a sampler; where the draw is left out, its processors one after the other."""
    registry = load_plugins(only=()).logits_processors
    values = {name: () if value is None else (value,) for name, value in case.chain.items()}
    chain = [registry.create(name, *value) for name, value in values.items()]
    sampler = Sampler(tuple(chain))
    rows, states = histories(ids, asked=500), sampler.init(1)
    step = Step.dense(rows, logits.shape[-1])

    def process() -> np.ndarray:
        out = logits
        for processor, state in zip(chain, states, strict=True):
            out = processor.process(out, step, state)
        return out

    return (lambda: sampler.draw(logits, step, states)) if case.draws else process


def transformers_turn(case: Case, logits: np.ndarray, ids: list[int]) -> Turn | None:
    """The same by transformers; None: it lacks one of the strategies."""
    import torch
    import transformers.generation.logits_process as hf

    made = {
        "temperature": hf.TemperatureLogitsWarper,
        "top_k": hf.TopKLogitsWarper,
        "top_p": hf.TopPLogitsWarper,
        "min_p": hf.MinPLogitsWarper,
        "typical": hf.TypicalLogitsWarper,
        "repetition_penalty": hf.RepetitionPenaltyLogitsProcessor,
    }
    greedy = "greedy" in case.chain
    if not greedy and not made.keys() >= case.chain.keys():
        return None
    chain = hf.LogitsProcessorList([] if greedy else [made[n](v) for n, v in case.chain.items()])
    torch.set_num_threads(1)
    scores, history = torch.from_numpy(logits), torch.tensor([ids])

    def turn() -> Any:
        shaped = chain(history, scores)
        if not case.draws:
            return shaped
        if greedy:
            return torch.argmax(shaped, dim=-1)
        return torch.multinomial(torch.softmax(shaped, dim=-1), 1)

    return turn


def llamacpp_turn(case: Case, logits: np.ndarray, ids: list[int]) -> Turn:
    """The same by llama.cpp's samplers."""
    from llama_cpp import llama_cpp as lib

    made = {
        "temperature": lib.llama_sampler_init_temp,
        "top_k": lambda k: lib.llama_sampler_init_top_k(int(k)),
        "top_p": lambda p: lib.llama_sampler_init_top_p(p, 1),
        "min_p": lambda p: lib.llama_sampler_init_min_p(p, 1),
        "typical": lambda p: lib.llama_sampler_init_typical(p, 1),
        "greedy": lambda _: lib.llama_sampler_init_greedy(),
    }
    vocabulary, values = logits.shape[-1], dict(case.chain)
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    penalties = [values.pop(name, neutral) for name, neutral in zip(PENALTIES, (1, 0, 0), strict=True)]
    if penalties != [1, 0, 0]:
        made_of = lib.llama_sampler_init_penalties(vocabulary, len(ids), *penalties)
        lib.llama_sampler_chain_add(chain, made_of)
    for name, value in values.items():
        lib.llama_sampler_chain_add(chain, made[name](value))
    if case.draws and "greedy" not in case.chain:
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_dist(0))
    for id in ids:
        lib.llama_sampler_accept(chain, id)
    candidate = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
    candidates, every = np.zeros(vocabulary, candidate), np.arange(vocabulary)

    def turn() -> int:
        candidates["id"], candidates["logit"] = every, logits[0]
        first = candidates.ctypes.data_as(lib.llama_token_data_p)
        array = lib.llama_token_data_array(first, vocabulary, -1, False)
        lib.llama_sampler_apply(chain, ctypes.byref(array))
        return int(array.selected)

    return turn


def genai_turn(case: Case, logits: np.ndarray, ids: list[int]) -> Turn | None:
    """The same by onnxruntime-genai; None: it lacks a strategy, or takes the best where none cuts."""
    import genai_sampler

    cuts = {"greedy", "top_k", "top_p"} & case.chain.keys()
    known = {"greedy", "temperature", *genai_sampler.CUTS} >= case.chain.keys()
    return genai_sampler.Choice(case.chain, logits) if cuts and known and case.draws else None


ENGINES = {
    "decodekit": decodekit_turn,
    "transformers": transformers_turn,
    "llama-cpp-python": llamacpp_turn,
    "onnxruntime-genai": genai_turn,
}


def measured(turns: Mapping[str, Turn], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of the first choice of a turn and of the others, medians over all rounds but one."""
    times: dict[str, list[list[float]]] = {name: [] for name in turns}
    for _ in range(rounds + 1):
        for name, turn in turns.items():
            times[name].append([_milliseconds(turn) for _ in range(CHOICES)])
    return {
        name: {
            "first": round(statistics.median(each[0] for each in values[1:]), 4),
            "others": round(statistics.median(t for each in values[1:] for t in each[1:]), 4),
        }
        for name, values in times.items()
    }


def _milliseconds(turn: Turn) -> float:
    getattr(turn, "prepare", tuple)()
    began = time.perf_counter()
    turn()
    return (time.perf_counter() - began) * 1e3


def rows_beside_singles(rounds: int, count: int = 32) -> dict[str, float]:
    """Rows with settings of their own, one after the other as the engine takes them, beside single rows.

    Warm: each repeats itself, with its logits in the processor's caches. After a model's step: behind
    a pass over much memory, which is what a step leaves behind, one row or all.
    """
    vocabulary, rng = VOCABULARIES[-1], np.random.default_rng(0)
    turns = []
    for i in range(count):
        case = Case({"temperature": 0.5 + i / count, "top_k": 20 + i, "top_p": 0.8 + i / count / 8})
        turns.append(
            decodekit_turn(case, _logits("peaked", vocabulary, i), rng.integers(0, vocabulary, SEEN).tolist())
        )
    singles = [measured({"": turn}, rounds)[""]["others"] for turn in turns]
    together = measured({"": lambda: [turn() for turn in turns]}, rounds)[""]["others"]
    weights, after = np.ones(256 << 20, np.uint8), []
    for _ in range(max(3, rounds // 5)):
        alone = sum(_behind(weights, turn) for turn in turns)
        after.append((_behind(weights, lambda: [turn() for turn in turns]), alone))
    return {
        "milliseconds": together,
        "of the singles": round(together / sum(singles), 3),
        "milliseconds after a step": round(statistics.median(all for all, _ in after), 3),
        "of the singles after a step": round(statistics.median(all / alone for all, alone in after), 3),
    }


def _behind(weights: np.ndarray, turn: Turn) -> float:
    weights.sum(dtype=np.uint8)
    return _milliseconds(turn)


def keep_memory() -> None:
    """Give 31 MiB back, as loading a model does: from then on the C library keeps what is freed.

    Until then every array of a row's size is new memory, which costs more than the arithmetic on it.
    """
    np.ones(31 << 20, np.uint8)


def _logits(shape: str, vocabulary: int, seed: int = 0) -> np.ndarray:
    return LOGITS[shape](np.random.default_rng(seed), vocabulary).astype(np.float32)[None]


def _installed() -> dict[str, str]:
    versions = {}
    for package in ENGINES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            print(f"{package} is not installed")
    return versions


def _bars(case: Case, times: Mapping[str, Mapping[str, float]]) -> list[tuple[str, bool]]:
    """What a case has to reach, and whether it does."""
    own = times["decodekit"]["others"]
    bars = []
    if case.at_most is not None:
        bars.append((f"at most {case.at_most} ms", own <= case.at_most))
    for peer in ("transformers", "onnxruntime-genai"):
        if case.faster is not None and peer in times:
            faster = times[peer]["others"] / own
            bars.append((f"at least {case.faster:g} x {peer}", faster >= case.faster))
    return bars


def _row(record: Mapping[str, Any]) -> str:
    times = record["milliseconds"]
    own = times["decodekit"]["others"]
    peers = [times.get(name, {}).get("others") for name in list(ENGINES)[1:]]
    cells = [f"{t:.3f} ({t / own:.1f} x)" if t else "" for t in peers]
    verdicts = [f"{bar} {'holds' if holds else '**missed**'}" for bar, holds in record["bars"]]
    return (
        " | ".join(
            [
                f"| {record['case']}",
                f"{own:.3f}",
                f"{times['decodekit']['first']:.3f}",
                *cells,
                ", ".join(verdicts),
            ]
        )
        + " |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    keep_memory()
    versions, records = _installed(), []
    for vocabulary in VOCABULARIES:
        for shape in LOGITS:
            print(f"\n{vocabulary:,} {shape} logits, ms (ratio to decodekit)\n")
            peers = " | ".join(list(ENGINES)[1:])
            print(f"| | decodekit | first | {peers} | bars |\n|---|---|---|---|---|---|")
            judged = (vocabulary, shape) == (VOCABULARIES[-1], "peaked")
            logits = _logits(shape, vocabulary)
            ids = np.random.default_rng(1).integers(0, vocabulary, SEEN).tolist()
            for case in CASES:
                made = {name: ENGINES[name](case, logits, ids) for name in versions}
                times = measured({name: turn for name, turn in made.items() if turn}, rounds)
                record = {"case": case.name, "vocabulary": vocabulary, "logits": shape, "milliseconds": times}
                records.append(record | {"bars": _bars(case, times) if judged else []})
                print(_row(records[-1]), flush=True)
    together = rows_beside_singles(rounds)
    print(f"\n32 rows with 32 settings: {together}")
    content = {
        "machine": machine(),
        "versions": versions,
        "rounds": rounds,
        "cases": records,
        "32 rows": together,
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if all(holds for record in records for _, holds in record["bars"]) else 1


if __name__ == "__main__":
    sys.exit(main())
