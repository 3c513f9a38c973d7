"""
Extraction to JSON: a model that reads an order and answers with an object.

    python docs/examples/finetune/extract_json.py          about three minutes

The rows are drawn here, as many as wanted; in practice they are a few hundred of yours, written by hand.
What counts is not the loss but how many answers to orders it has not seen are the right object.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import decodekit
from decodekit.cli import main as command

ROOT = Path(__file__).parents[3]
BASE = ROOT / "export" / "recipes" / "tagline" / "checkpoint"

NAMES = ["Ann", "Bob", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal"]
ITEMS = ["tea", "cake", "bagel", "coffee", "salad", "pizza"]
SAID = ["{name} wants {count} {item}.", "{count} {item} for {name}, please.", "Bring {name} {count} {item}."]


def orders(count: int, seed: int) -> list[dict[str, str]]:
    """So many orders, and the object that each asks for."""
    chance, made = random.Random(seed), []
    for _ in range(count):
        order = {"name": chance.choice(NAMES), "count": chance.randint(1, 9), "item": chance.choice(ITEMS)}
        made.append({"prompt": chance.choice(SAID).format(**order), "completion": json.dumps(order)})
    return made


def right(bundle: Path, asked: list[dict[str, str]]) -> float:
    """The share of orders whose answer is the object."""
    with decodekit.load(bundle) as model:
        answers = model.generate([row["prompt"] for row in asked], max_new_tokens=48)
    return sum(
        _object(a.text) == json.loads(r["completion"]) for a, r in zip(answers, asked, strict=True)
    ) / len(asked)


def _object(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def main(work: Path = ROOT / "build" / "extract", base: Path = BASE, *more: str) -> float:
    work.mkdir(parents=True)
    for name, rows in (("train", orders(1000, seed=0)), ("valid", orders(50, seed=1))):
        (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["finetune", base, work / "train.jsonl", "--valid", work / "valid.jsonl", "--out", work / "tuned",
             "--epochs", 8, "--learning-rate", 2e-3, "--export", work / "bundle", *more]  # fmt: skip
    print("$ decodekit", *words, flush=True)
    if status := command([*map(str, words)]):
        sys.exit(status)
    share = right(work / "bundle", orders(100, seed=2))
    print(f"{share:.0%} of 100 other orders became the right object")
    return share


if __name__ == "__main__":
    main()
