"""
Write docs/vectors.md from the vectors.

    python tests/vectors/page.py
"""

import json
from pathlib import Path

from differences import MEANT, TEXTS

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "vectors.md"
ENGINES = ("transformers", "llama.cpp")
HEAD = """\
# Vectors across engines

Samplers of one name do not everywhere do the same. `tests/vectors/` has, for each sampler that other engines
have, inputs and what comes out: by the definition, from transformers and from llama.cpp. The files are data
under the licence of this repository, for anyone to test another engine with. This page is written from them
by `tests/vectors/page.py`.

"""
FORMAT = """
## The files

`logits.json` has rows of logits by name; each number is taken as float32, null is -inf. `NAME.json` has the
cases of a sampler:

| field | |
|---|---|
| `logits` | name of a row |
| `params` | as decodekit's strategy of that name takes them |
| `prompt`, `generated` | ids before this step |
| `edge` | a change of logits by 5e-6, equals alike, or of parameters by 1e-5 changes who stays |
| `definition` | by `definitions.py`, float64: `kept` ids in order, and their `probabilities` |
| `transformers`, `llama.cpp` | the same, run by us; null: it has no such sampler |
| `differs` | engine -> which difference of the table it shows; {}: none |

Columns are ids. `xtc` is what is left where its chance comes up; llama.cpp was run at probability 1.
`mirostat` after some tokens is what is left when these were drawn from the same logits, one after the other.
In `dry` no token is a sequence breaker. `frequency_penalty` and `presence_penalty` have a window of 1,024
tokens in llama.cpp.

`chains/llama.cpp.json` has settings by llama.cpp's names, and what its default chain makes of them: the order
of `decodekit.presets` is held against it.

    python tests/vectors/generate.py     # in an environment with transformers and llama-cpp-python
    python tests/vectors/page.py

## Not in the vectors

| | decodekit | elsewhere |
|---|---|---|
| order of a chain | as written | transformers: temperature before truncations; llama.cpp: behind them |
| `min_p` above 1 | refused | llama.cpp keeps the best |
| `epsilon_cutoff`, `eta_cutoff` | probabilities | text-generation-webui: in units of 1e-4 |
| `xtc`, its chance | keyed by seed, sample and position | a number of a stream |
| `dry`, breakers | tokens with one in their text, or that spell one | text-generation-webui: its last token |
| `mirostat` | removes, and leaves the draw to the sampler | draws itself, so it comes last |
"""


def load(name):
    return json.loads((HERE / f"{name}.json").read_text())


def samplers():
    return sorted(path.stem for path in HERE.glob("*.json") if path.stem != "logits")


def count(cases, engine):
    """How many of the cases an engine has agree with the definition."""
    has = [case for case in cases if case[engine] is not None]
    return f"{sum(engine not in case['differs'] for case in has)} of {len(has)}" if has else "-"


def differences(name, cases):
    shown = {(engine, key) for case in cases for engine, key in case["differs"].items()}
    order = [(engine, key) for engine in ENGINES for key in MEANT.get((name, engine), ())]
    return "; ".join(f"{engine}: {key}" for engine, key in order if (engine, key) in shown)


def page():
    files = {name: load(name) for name in samplers()}
    versions = next(iter(files.values()))["versions"]
    lines = [
        f"Run with transformers {versions['transformers']} and {versions['llama.cpp']}. Cases in which an"
    ]
    lines += ["engine agrees with the definition, same candidates and probabilities to 1e-6:", ""]
    lines += ["| sampler | transformers | llama.cpp | intended differences |", "|---|---|---|---|"]
    for name, file in files.items():
        agree = " | ".join(count(file["cases"], engine) for engine in ENGINES)
        lines.append(f"| {name} | {agree} | {differences(name, file['cases'])} |")
    lines += ["", "| difference | what it is |", "|---|---|"]
    lines += [f"| {key} | {text} |" for key, text in TEXTS.items()]
    return HEAD + "\n".join(lines) + "\n" + FORMAT


if __name__ == "__main__":
    PAGE.write_text(page())
