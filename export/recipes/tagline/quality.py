"""
Quality: count what a model's taglines are worth, by a check that can fail.

The measure is `fits`. It is worth something only if it says no, so the report
carries a control: the same taglines given to wrong kinds must rarely fit.

    python export/recipes/tagline/quality.py ANSWERS.jsonl --train train.jsonl [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from fitting import fits

# Bars, as shares of the answers.
MIN_ENDED = 0.98
MAX_EMPTY = 0.0
MIN_FITTING = 0.90
MAX_CONTROL = 0.25

Row = Mapping[str, str]  # prompt, kind, completion, finish_reason


@dataclass(frozen=True, slots=True)
class Report:
    """What was counted among the answers.

    answers   how many there are
    ended     the model said stop by itself
    empty     hold no word
    fitting   fit the kind they were asked for
    control   fit a wrong kind, drawn by a fixed shuffle
    distinct  different completions
    copies    stand word for word among the training completions
    """

    answers: int
    ended: int
    empty: int
    fitting: int
    control: int
    distinct: int
    copies: int

    @property
    def verdicts(self) -> dict[str, bool]:
        """Which bars are met, by the name of the count."""
        return {
            "ended": self.ended >= MIN_ENDED * self.answers,
            "empty": self.empty <= MAX_EMPTY * self.answers,
            "fitting": self.fitting >= MIN_FITTING * self.answers,
            "control": self.control <= MAX_CONTROL * self.answers,
        }

    @property
    def passed(self) -> bool:
        return all(self.verdicts.values())


def report(rows: Sequence[Row], training: Collection[str] = frozenset(), *, seed: int = 0) -> Report:
    """Count what the answers `rows` are worth; `training` holds the training completions."""
    completions = [row["completion"].strip() for row in rows]
    return Report(
        answers=len(rows),
        ended=sum(row["finish_reason"] == "stop" for row in rows),
        empty=completions.count(""),
        fitting=sum(fits(row["kind"], row["completion"]) for row in rows),
        control=sum(fits(kind, text) for kind, text in deranged(rows, seed)),
        distinct=len(set(completions)),
        copies=sum(text in training for text in completions),
    )


def deranged(rows: Sequence[Row], seed: int = 0) -> list[tuple[str, str]]:
    """Every completion with the kind of another row, never its own kind.

    The rows are grouped by kind, the groups shuffled, and the completions moved on
    by the size of the largest group: far enough to leave any group.
    """
    sizes = Counter(row["kind"] for row in rows)
    largest = max(sizes.values(), default=0)
    if 2 * largest > len(rows):
        raise ValueError("control: no kind may have more than half of the rows")
    kinds = sorted(sizes)
    Random(seed).shuffle(kinds)
    grouped = sorted(rows, key=lambda row: kinds.index(row["kind"]))
    moved = grouped[largest:] + grouped[:largest]
    return [(row["kind"], other["completion"]) for row, other in zip(grouped, moved, strict=True)]


def table(result: Report) -> str:
    """The report as lines of text, one count a line."""
    bars = {
        "ended": f">= {MIN_ENDED:.0%}",
        "empty": f"<= {MAX_EMPTY:.0%}",
        "fitting": f">= {MIN_FITTING:.0%}",
        "control": f"<= {MAX_CONTROL:.0%}",
    }
    lines = [f"{'':<10}{'count':>6}{'share':>8}  bar"]
    for name, count in asdict(result).items():
        verdict = {True: "met", False: "MISSED", None: ""}[result.verdicts.get(name)]
        share = count / result.answers
        lines.append(f"{name:<10}{count:>6}{share:>8.1%}  {bars.get(name, ''):<8}{verdict}".rstrip())
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the taglines that a model answered.")
    parser.add_argument("answers", type=Path, help="JSON lines: prompt, kind, completion, finish_reason")
    parser.add_argument("--train", type=Path, required=True, help="the training file, to tell copies")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    training = {row["completion"] for row in _read(args.train)}
    result = report(_read(args.answers), training)
    print(json.dumps(asdict(result) | {"passed": result.passed}) if args.json else table(result))
    return 0 if result.passed else 1


def _read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    sys.exit(main())
