"""
Trained tokens per second and memory, beside TRL's SFTTrainer with its loss on the completions only.

    make bench-training                    all of it, and writes docs/finetune.md
    python export/benchmarks/training.py --quick    only proves that it runs

Same weights, same rows (the ids that decodekit makes of them), same rows in a step, same optimizer,
float32, the same threads. Every measurement is a process of its own, and its first steps are not measured.
Engines take turns, in one order and then in the other, and what counts is the median of the ratios within
a round, by the clock and by seconds of the processor, which other programs on the machine hardly change.
Memory is the highest resident size while training, less that before the first step. The status is 1 if a
bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path

from subject import SHAPES, save_rows

PAGE = Path(__file__).parents[2] / "docs" / "finetune.md"
BEGIN, END = "<!-- training: begin -->", "<!-- training: end -->"
THREADS = 2

Found = dict[str, float]


@dataclass(frozen=True)
class Turn:
    """What an engine trains."""

    engine: str
    data: str
    packed: bool

    def __str__(self) -> str:
        engine = "TRL" if self.engine == "trl" else self.engine
        return f"{engine}, {self.data}{', packed' * self.packed}"


@dataclass(frozen=True)
class Bar:
    """A ratio of two turns of a round: of `value`, which is at least or at most the bar, if there is one."""

    one: Turn
    other: Turn
    value: str
    least: float | None = None
    most: float | None = None

    def holds(self, ratio: float) -> bool:
        return ratio >= (self.least or 0.0) and (self.most is None or ratio <= self.most)


OURS, THEIRS = (Turn(engine, "short pairs", False) for engine in ("decodekit", "trl"))
PACKED, THEIRS_PACKED = (Turn(engine, "short pairs", True) for engine in ("decodekit", "trl"))
MIXED, THEIRS_MIXED = (Turn(engine, "mixed lengths", False) for engine in ("decodekit", "trl"))
SPEEDS = ("trained tokens a second", "trained tokens a CPU second")
SHORT_BARS = [
    *(Bar(OURS, THEIRS, speed, least=1.0) for speed in SPEEDS),
    *(Bar(PACKED, THEIRS, speed, least=1.5) for speed in SPEEDS),
    *(Bar(PACKED, THEIRS_PACKED, speed) for speed in SPEEDS),
    Bar(OURS, THEIRS, "memory", most=1.0),
    Bar(PACKED, THEIRS_PACKED, "memory", most=1.0),
]
MIXED_BARS = [
    *(Bar(MIXED, THEIRS_MIXED, speed, least=1.0) for speed in SPEEDS),
    Bar(MIXED, THEIRS_MIXED, "memory", most=1.0),
]
BARS = {"small": SHORT_BARS + MIXED_BARS, "third": SHORT_BARS}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", choices=SHAPES, action="append", help="may be repeated; else all")
    parser.add_argument("--quick", action="store_true", help="a round of three steps, and no page")
    parser.add_argument("--no-page", action="store_true", help="leave docs/finetune.md as it is")
    args = parser.parse_args()
    rounds = 1 if args.quick else args.rounds
    sections, missed = [], 0
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        save_rows(work)
        for shape in args.shape or SHAPES:
            SHAPES[shape].save_base(work / shape)
            found = measured(shape, work, rounds, args.quick)
            sections.append(section(shape, found))
            missed += sum(not bar.holds(ratio(bar, found)) for bar in BARS[shape])
    content = "\n\n".join([introduction(rounds), *sections])
    print(content)
    if not (args.quick or args.no_page):
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{content}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return bool(missed) and not args.quick


def measured(shape: str, work: Path, rounds: int, quick: bool) -> dict[Turn, list[Found]]:
    """What each turn gave, round by round; the order of the turns is turned round from one to the next."""
    turns = list(dict.fromkeys(turn for bar in BARS[shape] for turn in (bar.other, bar.one)))
    found: dict[Turn, list[Found]] = {turn: [] for turn in turns}
    for number in range(rounds):
        for turn in turns[:: -1 if number % 2 else 1]:
            found[turn].append(one := take(turn, shape, work, quick))
            print(f"{shape} {number + 1}/{rounds} {turn}: {json.dumps(one)}", file=sys.stderr, flush=True)
    return found


def take(turn: Turn, shape: str, work: Path, quick: bool) -> Found:
    """A turn, in a new process."""
    steps = ["1", "2"] if quick else [str(SHAPES[shape].warm), str(SHAPES[shape].steps)]
    packed = "packed" if turn.packed else "rows"
    worker = Path(__file__).with_name("engine.py")
    command = [sys.executable, worker, turn.engine, shape, turn.data, packed, work, *steps]
    threads = {"OMP_NUM_THREADS": str(THREADS), "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    if not lines:
        sys.exit(f"{turn}: {done.stderr[-3000:]}")
    raw = json.loads(lines[0].removeprefix("FOUND "))
    by_clock, by_processor = (raw["trained"] / raw[seconds] for seconds in ("seconds", "cpu"))
    return {SPEEDS[0]: by_clock, SPEEDS[1]: by_processor, "memory": raw["memory"]}


def ratio(bar: Bar, found: dict[Turn, list[Found]]) -> float:
    return statistics.median(ratios(bar, found))


def ratios(bar: Bar, found: dict[Turn, list[Found]]) -> list[float]:
    pairs = zip(found[bar.one], found[bar.other], strict=True)
    return [one[bar.value] / other[bar.value] for one, other in pairs]


def introduction(rounds: int) -> str:
    names = ("trl", "transformers", "torch", "accelerate")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    return (
        f"`make bench-training`, {date.today()}: {versions}, {platform.machine()}, {THREADS} threads.\n"
        f"Medians of {rounds} rounds; a ratio is that of two turns of one round, with the least and the most."
    )


def section(shape: str, found: dict[Turn, list[Found]]) -> str:
    """What was measured of a shape, in Markdown."""
    about = SHAPES[shape]
    lines = [f"#### {about.about}", ""]
    lines += [f"{about.batch} rows a step, {about.steps} steps after {about.warm} that are not measured.", ""]
    lines += ["| | trained tokens/s | by CPU second | memory of the steps, MiB |", "|---|---|---|---|"]
    for turn, values in found.items():
        middle = [statistics.median(one[value] for one in values) for value in (*SPEEDS, "memory")]
        lines.append(f"| {turn} | {middle[0]:,.0f} | {middle[1]:,.0f} | {middle[2]:,.0f} |")
    lines += ["", "| beside TRL | | ratio | spread | bar | |", "|---|---|---|---|---|---|"]
    for bar in BARS[shape]:
        all_of_them, middle_one = ratios(bar, found), ratio(bar, found)
        wanted = f"at least {bar.least}" if bar.least else f"at most {bar.most}" if bar.most else ""
        verdict = ("holds" if bar.holds(middle_one) else "**missed**") if wanted else ""
        spread = f"{min(all_of_them):.2f} to {max(all_of_them):.2f}"
        beside = " beside packed" if bar.other.packed else ""
        what = f"{bar.one.data}{', packed' * bar.one.packed}{beside}"
        lines.append(f"| {what} | {bar.value} | {middle_one:.2f} | {spread} | {wanted} | {verdict} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
