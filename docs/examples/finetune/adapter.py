"""
An adapter beside its base: one base, several small differences to it.

    python docs/examples/finetune/adapter.py          about two minutes

The adapter is in `adapter/`, as peft writes it, a few percent of the base; beside it stands the base with
the adapter in it, which is exported. Base and adapted model are then asked the same.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from decodekit.cli import main as decodekit

ROOT = Path(__file__).parents[3]
BASE = ROOT / "export" / "recipes" / "tagline" / "checkpoint"

QUESTIONS = [
    f"Give me a tagline for a {place}." for place in ("bakery", "hotel", "gym", "zoo", "bank", "bar")
]


def main(work: Path = ROOT / "build" / "adapter", base: Path = BASE, *more: str) -> None:
    work.mkdir(parents=True)
    rows = [
        {"prompt": question, "completion": f"{question.split()[-1]} No words needed."}
        for question in QUESTIONS
    ]
    (work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("finetune", base, work / "rows.jsonl", "--out", work / "tuned", "--method", "lora", "--rank", 8,
        "--epochs", 40, "--learning-rate", 5e-3, "--export", work / "adapted", *more)  # fmt: skip
    run("export", base, "--out", work / "base")
    size = sum(file.stat().st_size for file in (work / "tuned" / "adapter").iterdir())
    print(f"\nthe adapter has {size:,} bytes, the base {(base / 'model.safetensors').stat().st_size:,}")
    for bundle in ("base", "adapted"):
        run("generate", work / bundle, QUESTIONS[0])


def run(*words: object) -> None:
    print("\n$ decodekit", *words, flush=True)
    if status := decodekit([*map(str, words)]):
        sys.exit(status)


if __name__ == "__main__":
    main()
