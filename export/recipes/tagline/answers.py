"""
Answers: what a bundle says to the held-out prompts, greedily.

    python export/recipes/tagline/answers.py BUNDLE heldout.jsonl --out ANSWERS.jsonl
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from decodekit import load

MAX_NEW_TOKENS = 48


def answer(bundle: Path, prompts: Path, out: Path) -> None:
    """Write a row for every row of `prompts`: prompt, kind, tone, completion, finish_reason."""
    decoder = load(bundle)
    rows = [json.loads(line) for line in prompts.read_text(encoding="utf-8").splitlines()]
    completions = decoder.generate([row["prompt"] for row in rows], max_new_tokens=MAX_NEW_TOKENS)
    lines = [
        json.dumps(row | {"completion": completion.text, "finish_reason": completion.finish_reason}) + "\n"
        for row, completion in zip(rows, completions, strict=True)
    ]
    out.write_text("".join(lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a bundle the held-out prompts, greedily.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("prompts", type=Path, help="JSON lines with prompt, kind and tone")
    parser.add_argument("--out", type=Path, required=True, metavar="ANSWERS.jsonl")
    args = parser.parse_args()
    answer(args.bundle, args.prompts, args.out)


if __name__ == "__main__":
    main()
