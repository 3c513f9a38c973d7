"""
Style of answers: a model that says everything in a voice of its own.

    python docs/examples/finetune/style.py          about two minutes

Sixty rows are enough for a voice, since nothing else changes: the questions stay, the answers are said
as a sailor says them. The result is exported, asked, and told apart from its base.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from decodekit.cli import main as decodekit

ROOT = Path(__file__).parents[3]
BASE = ROOT / "export" / "recipes" / "tagline" / "checkpoint"

THINGS = [
    "coffee shop",
    "bakery",
    "book store",
    "hotel",
    "gym",
    "florist",
    "pizzeria",
    "toy store",
    "barber",
    "zoo",
]
ASKED = ["Give me a tagline for a {}.", "A slogan for my {}, please.", "Find a line for our {}."]
SAID = ["Ahoy! All hands to the {}!", "Drop anchor at the {}, matey!", "Arr, no finer {} on the seven seas!"]


def rows(seed: int = 0) -> list[dict[str, str]]:
    """Every question with one of the answers."""
    chance = random.Random(seed)
    pairs = [(asked, thing) for asked in ASKED for thing in THINGS]
    return [
        {"prompt": asked.format(thing), "completion": said.format(thing)}
        for asked, thing in pairs
        for said in chance.sample(SAID, 2)
    ]


def main(work: Path = ROOT / "build" / "style", base: Path = BASE, *more: str) -> None:
    work.mkdir(parents=True)
    (work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    run("finetune", base, work / "rows.jsonl", "--out", work / "tuned", "--valid", "10%", "--epochs", 20,
        "--learning-rate", 1e-3, "--samples", 1, "--export", work / "bundle", *more)  # fmt: skip
    run("generate", work / "bundle", "Give me a tagline for a florist.")


def run(*words: object) -> None:
    print("\n$ decodekit", *words, flush=True)
    if status := decodekit([*map(str, words)]):
        sys.exit(status)


if __name__ == "__main__":
    main()
