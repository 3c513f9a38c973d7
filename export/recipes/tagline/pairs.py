"""
Pairs: prompts with taglines that answer them, made from a seed.

A combination is a kind with a tone. Some combinations are held out: no row of the
training or validation file has one, although each kind and each tone is trained.
What the model says to a held-out combination it cannot have learnt by heart.

    python export/recipes/tagline/pairs.py --out DIR [--seed 0] [--count 26000]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random

from kinds import load_kinds
from prompts import write_prompt
from taglines import write_tagline
from tones import load_tones

HELDOUT_SHARE = 0.08  # of the combinations
HELDOUT_ROWS = 100
VALID_ROWS = 600
NEUTRAL_WEIGHT = 3  # most prompts name no tone

Combination = tuple[str, str]  # kind, tone


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of the data: what is asked, one good answer, and the combination."""

    prompt: str
    completion: str
    kind: str
    tone: str


# The first row of the training file, whatever the seed: the example of the manual.
FIRST = Pair(
    "Give me a tagline for a new coffee shop.", "Your daily dose of happiness.", "coffee shop", "neutral"
)


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of the three files."""

    train: list[Pair]
    valid: list[Pair]
    heldout: list[Pair]


def make_split(seed: int = 0, count: int = 26000) -> Split:
    """`count` distinct pairs: some held out, some for validation, the rest for training."""
    random = Random(seed)
    trained, heldout = _split_combinations(random)
    weighted = [c for c in trained for _ in range(NEUTRAL_WEIGHT if c[1] == "neutral" else 1)]
    least = len(trained) + 1
    if count < least + VALID_ROWS + HELDOUT_ROWS:
        raise ValueError(f"count must be at least {least + VALID_ROWS + HELDOUT_ROWS}, got {count}")

    pairs = dict.fromkeys([FIRST, *(_pair(c, random) for c in trained)])  # each combination once
    while len(pairs) < count - HELDOUT_ROWS:
        pairs[_pair(random.choice(weighted), random)] = None

    rows = list(pairs)
    valid = set(random.sample(rows[least:], VALID_ROWS))
    return Split(
        train=[pair for pair in rows if pair not in valid],
        valid=[pair for pair in rows if pair in valid],
        heldout=[_pair(c, random) for c in islice(_kinds_first(heldout), HELDOUT_ROWS)],
    )


def _split_combinations(random: Random) -> tuple[list[Combination], list[Combination]]:
    combinations = [(kind, tone) for kind in load_kinds() for tone in load_tones()]
    random.shuffle(combinations)
    combinations.remove((FIRST.kind, FIRST.tone))
    size = round(HELDOUT_SHARE * len(combinations))
    return [(FIRST.kind, FIRST.tone), *combinations[size:]], combinations[:size]


def _pair(combination: Combination, random: Random) -> Pair:
    kind, tone = load_kinds()[combination[0]], load_tones()[combination[1]]
    return Pair(write_prompt(kind, tone, random), write_tagline(kind, tone, random), *combination)


def _kinds_first(combinations: list[Combination]) -> Iterator[Combination]:
    """One combination of every kind, then the others."""
    firsts = {kind: (kind, tone) for kind, tone in combinations}
    yield from firsts.values()
    yield from (c for c in combinations if firsts[c[0]] != c)


def write(split: Split, folder: Path) -> str:
    """Write the three files; return a table of what they hold."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{'file':<14}{'rows':>7}{'prompts':>9}{'completions':>13}{'kinds':>7}{'tones':>7}"]
    for name in ("train", "valid", "heldout"):
        rows = [asdict(pair) for pair in getattr(split, name)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
        prompts, completions, kinds, tones = (len({row[key] for row in rows}) for key in rows[0])
        lines.append(f"{name + '.jsonl':<14}{len(rows):>7}{prompts:>9}{completions:>13}{kinds:>7}{tones:>7}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the pairs of the embedded model as JSON lines.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the three files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=26000, help="rows of the three files together")
    args = parser.parse_args()
    print(write(make_split(args.seed, args.count), args.out))


if __name__ == "__main__":
    main()
