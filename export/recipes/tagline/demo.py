"""
The demo's part of the data: food and drink.

The early checkpoint writes lines, but seldom for what was asked. Fine-tuning it for a minute
on the pairs of some kinds mends that for these kinds, and it is for these that it is tested.
"""

from __future__ import annotations

import json
import tomllib
from functools import cache
from pathlib import Path

from kinds import LEXICON

FILES = ("eateries", "groceries", "provisions")  # of the lexicon


@cache
def food_and_drink() -> frozenset[str]:
    """The names of the demo's kinds."""
    tables = (tomllib.loads((LEXICON / f"{file}.toml").read_text(encoding="utf-8")) for file in FILES)
    return frozenset(kind for table in tables for kind in table)


def write_demo(pairs: Path, out: Path) -> None:
    """The training rows of food and drink, with nothing but prompt and completion."""
    rows = _rows(pairs / "train.jsonl")
    _write([{key: row[key] for key in ("prompt", "completion")} for row in rows], out)


def write_demo_test(pairs: Path, out: Path) -> None:
    """The rows of food and drink that are not trained, of the validation and the held-out file."""
    _write([*_rows(pairs / "valid.jsonl"), *_rows(pairs / "heldout.jsonl")], out)


def _rows(path: Path) -> list[dict[str, str]]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [row for row in rows if row["kind"] in food_and_drink()]


def _write(rows: list[dict[str, str]], out: Path) -> None:
    out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
