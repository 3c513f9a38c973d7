"""
Write the vectors: what the definitions, transformers and llama.cpp make of the same inputs.

    python tests/vectors/generate.py      in an environment with decodekit's peers; then page.py
"""

import json
import math
from pathlib import Path

import engines
import numpy as np
from definitions import DEFINITIONS, nudged, softmax
from differences import differs, reason

HERE = Path(__file__).parent
A, B = [1, 2, 3, 1], [2, 3, 1, 2]  # a prompt, an answer that repeats it
BREATH = [5, 6, 7, 5, 6, 8, 5, 6]
HISTORIES = [([], B), (A, []), (A, B), ([1], BREATH)]
NO_HISTORY = [([0], [])]
DRY = {"multiplier": 0.8, "base": 1.75, "allowed_length": 2}
PARAMS = {
    "temperature": [{"t": 0.5}, {"t": 2.0}],
    "dynamic_temperature": [
        {"low": 0.5, "high": 1.5, "exponent": 1.0},
        {"low": 0.25, "high": 2.25, "exponent": 2.0},
    ],
    "top_k": [{"k": 1}, {"k": 3}, {"k": 500}],
    "top_p": [{"p": 0.3}, {"p": 0.7}, {"p": 0.95}],
    "min_p": [{"p": 0.05}, {"p": 0.3}, {"p": 0.6}, {"p": 1.0}],
    "typical": [{"p": 0.2}, {"p": 0.5}, {"p": 0.9}],
    "epsilon": [{"epsilon": 0.0009}, {"epsilon": 0.05}, {"epsilon": 0.6}],
    "eta": [{"epsilon": 0.0009}, {"epsilon": 0.05}, {"epsilon": 0.6}],
    "top_n_sigma": [{"n": 0.5}, {"n": 1.0}, {"n": 2.0}],
    "top_h": [{"alpha": 0.2}, {"alpha": 0.4}, {"alpha": 0.9}],
    "xtc": [{"threshold": 0.05}, {"threshold": 0.1}, {"threshold": 0.3}],
    "repetition_penalty": [
        {"theta": 1.5, "window": None},
        {"theta": 0.7, "window": None},
        {"theta": 1.5, "window": 3},
    ],
    "frequency_penalty": [{"f": 0.5}, {"f": -0.25}],
    "presence_penalty": [{"f": 0.5}, {"f": -0.25}],
    "encoder_repetition": [{"theta": 1.5}],
    "no_repeat_ngram": [{"n": 1}, {"n": 2}, {"n": 3}],
    "dry": [DRY, {**DRY, "allowed_length": 1}, {**DRY, "base": 1.0, "allowed_length": 3}],
    "sequence_bias": [
        {"sequences": [{"tokens": [3, 1, 2, 4], "bias": 5.0}, {"tokens": [2, 4], "bias": -1.5}]},
        {"sequences": [{"tokens": [0], "bias": 2.0}, {"tokens": [6, 0], "bias": 2.0}]},
    ],
    "length_decay": [
        {"start": 2, "factor": 1.5, "ends": [0, 4]},
        {"start": 20, "factor": 1.5, "ends": [0]},
    ],
}
ROWS = ("four", "ties", "flat", "sure", "mild", "wide", "holes")
REMEMBERING = {
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "encoder_repetition",
    "no_repeat_ngram",
    "dry",
    "sequence_bias",
    "length_decay",
}
ROWS_OF = {**dict.fromkeys(REMEMBERING, ("wide", "holes")), "top_h": (*ROWS, "many")}
MIROSTAT = [{"tau": 1.0, "eta": 0.3}, {"tau": 3.0, "eta": 0.1}]


def make_logits():
    """Rows of logits by name, each a float32 number."""
    random = np.random.default_rng(20)
    rows = {
        "four": np.log([0.4, 0.3, 0.2, 0.1]),
        "ties": np.asarray([0.0, 1.0, 1.0, -1.0, 1.0, -1.0, 0.0, -2.0]),
        "flat": np.zeros(8),
        "sure": np.asarray([-2.0, 9.0, 1.0, 0.5, -3.0, 0.0]),
        "mild": random.standard_normal(12),
        "wide": random.standard_normal(16) * 3,
        "holes": np.where(random.random(16) < 0.25, -np.inf, random.standard_normal(16) * 2),
        "many": random.standard_normal(160) * 0.8,
    }
    return {name: [round(float(x), 4) for x in row] for name, row in rows.items()}


def result(left):
    """What is left, as the file tells it: ids, and probabilities to 8 places."""
    if left is None:
        return None
    ids = sorted(left)
    p = softmax([left[i] for i in ids])
    return {"kept": ids, "probabilities": [round(x, 8) for x in p]}


def defined(name, *given):
    return {i: x for i, x in enumerate(DEFINITIONS[name](*given)) if x > -math.inf}


def at_an_edge(name, logits, params, prompt, generated):
    """Whether a change as small as float32 rounding, the same for equals, changes who stays."""
    kept = defined(name, logits, params, prompt, generated).keys()
    random = np.random.default_rng(0)
    for step in (-1e-5, 1e-5) * 8:
        noise = dict(zip(logits, random.standard_normal(len(logits)).tolist(), strict=True))
        near = [x + 5e-6 * noise[x] for x in logits]
        if defined(name, near, nudged(params, step), prompt, generated).keys() != kept:
            return True
    return False


def case(name, row, logits, params, prompt, generated, peers):
    given = (logits, params, prompt, generated)
    one = {
        "logits": row,
        "params": params,
        "prompt": prompt,
        "generated": generated,
        "edge": at_an_edge(name, *given),
        "definition": result(defined(name, *given)),
        **{engine: result(left) for engine, left in peers.items()},
    }
    one["differs"] = {
        engine: reason(name, engine, one, logits)
        for engine in peers
        if one[engine] is not None and differs(one["definition"], one[engine])
    }
    return one


def cases(name, rows):
    for row, logits in rows.items():
        for params in PARAMS[name]:
            for prompt, generated in HISTORIES if name in REMEMBERING else NO_HISTORY:
                if row not in ROWS_OF.get(name, ROWS):
                    continue
                given = (logits, params, prompt, generated)
                peers = {
                    "transformers": engines.transformers(name, *given),
                    "llama.cpp": engines.llama(name, *given),
                }
                yield case(name, row, *given, peers)


def mirostat_cases(rows):
    for row in ("mild", "wide", "sure"):
        for params in MIROSTAT:
            chosen = []
            for left, token in engines.llama_mirostat(rows[row], params, steps=4):
                peers = {"transformers": None, "llama.cpp": left}
                yield case("mirostat", row, rows[row], params, [], list(chosen), peers)
                chosen.append(token)


def chain_cases(rows, count=40):
    """Settings by llama.cpp's names, drawn at random, and what its chain makes of them."""
    random = np.random.default_rng(3)
    for number in range(count):
        settings = {
            "temperature": round(random.uniform(0.3, 1.5), 2),
            "dynatemp_range": round(random.uniform(0.1, 0.5), 2) if number % 3 == 0 else 0.0,
            "top_k": int(random.integers(0, 60)),
            "top_p": round(random.uniform(0.5, 1.0), 2),
            "min_p": round(random.uniform(0.0, 0.1), 2),
            "typ_p": round(random.uniform(0.6, 1.0), 2),
            "top_n_sigma": round(random.uniform(1.0, 3.0), 2) if number % 4 == 0 else -1.0,
            "repeat_penalty": round(random.uniform(1.0, 1.5), 2),
            "repeat_last_n": int(random.integers(-1, 8)),
        }
        left = engines.llama_chain(settings, rows["many"], [*A, *BREATH])
        yield {"settings": settings, "logits": "many", "prompt": A, "generated": BREATH, **result(left)}


def write(name, content):
    (HERE / f"{name}.json").write_text(content + "\n")


def main():
    rows = {
        name: [-math.inf if x == -math.inf else float(np.float32(x)) for x in row]
        for name, row in make_logits().items()
    }
    spelt = {name: [None if x == -math.inf else x for x in row] for name, row in make_logits().items()}
    write("logits", json.dumps(spelt, separators=(", ", ": ")).replace("], ", "],\n"))
    chains = ",\n".join(map(json.dumps, chain_cases(rows)))
    write("chains/llama.cpp", f'{{"versions": {json.dumps(engines.VERSIONS)}, "cases": [\n{chains}\n]}}')
    for name in (*PARAMS, "mirostat"):
        found = list(mirostat_cases(rows) if name == "mirostat" else cases(name, rows))
        lines = ",\n".join(json.dumps(one) for one in found)
        head = json.dumps({"sampler": name, "versions": engines.VERSIONS})[:-1]
        write(name, f'{head}, "cases": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()
