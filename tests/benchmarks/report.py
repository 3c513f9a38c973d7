"""What was measured, as data and as a page: a record a case, always rendered the same way."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from case import Case, Figure, Taken
from engines import Failure

Record = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """What stands between two marks of a page: cases behind a heading and an introduction."""

    mark: str
    heading: str
    introduction: str


DECODING = Part(
    "decoding",
    "Decoding",
    """\
`make bench`. Engines take turns, round by round, with two threads each; medians and spread over the
rounds. The model has random weights in the shape of SmolLM2-135M: 30 layers, hidden 576, 9 heads on 3,
MLP 1,536, 49,152 ids, tied. All engines read the same weights. The bare loop is the limit: Python that
does nothing but bind, run and argmax, on the same graph, with the cache in place. llama.cpp keeps its
cache in 16 bits, the others in 32.""",
)


def record(
    case: Case, taken: Mapping[str, Taken], versions: Mapping[str, Mapping[str, str]], rounds: int
) -> Record:
    """Everything known of a case that ran, fit for JSON."""
    turns = {name: {"values": turn.values, "failure": turn.failure} for name, turn in taken.items()}
    return {
        "title": case.title,
        "about": case.about,
        "unit": case.unit,
        "date": date.today().isoformat(),
        "rounds": rounds,
        "versions": versions,
        "turns": turns,
        "figures": [_figure(figure, taken) for figure in case.figures],
    }


def failures(record: Record) -> list[str]:
    """What could not be measured, and why."""
    parts = [*record["turns"].items(), *((f["name"], f) for f in record["figures"])]
    return [f"{name}: {part['failure']}" for name, part in parts if part["failure"]]


def missed(record: Record) -> list[str]:
    """The figures that do not reach their bar."""
    return [f["name"] for f in record["figures"] if not f["failure"] and not f["holds"]]


def section(record: Record) -> str:
    """A case in Markdown."""
    rounds = record["rounds"]
    lines = [f"### {record['title']}", "", record["about"], ""]
    lines += [f"| {record['unit']}, {rounds} round{'s' * (rounds > 1)} | median | spread |", "|---|---|---|"]
    lines += [_turn_row(name, turn) for name, turn in record["turns"].items()]
    lines += ["", "| | | bar | |", "|---|---|---|---|"]
    lines += [_figure_row(figure) for figure in record["figures"]]
    return "\n".join(lines) + "\n"


def save(records: Mapping[str, Record], file: Path) -> dict[str, Record]:
    """Put records into a file in place of older ones of the same cases; all that are in it now."""
    known = json.loads(file.read_text(encoding="utf-8"))["cases"] if file.is_file() else {}
    cases = known | records
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"machine": machine(), "cases": cases}, indent=1) + "\n", encoding="utf-8")
    return cases


def write_page(cases: Mapping[str, Record], page: Path, part: Part = DECODING) -> None:
    """Replace what stands between the part's marks."""
    begin, end = f"<!-- {part.mark}: begin -->", f"<!-- {part.mark}: end -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{page}: needs the lines {begin} and {end}")
    texts = [f"## {part.heading}", part.introduction, _provenance(cases), *map(section, cases.values())]
    content = "\n\n".join(text.strip() for text in texts)
    page.write_text(f"{before}{begin}\n{content}\n{end}{after}", encoding="utf-8")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return {
        "cpu": next(line for line in lines if line.startswith("model name")).partition(": ")[2],
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
    }


def _figure(figure: Figure, taken: Mapping[str, Taken]) -> Record:
    fields = {"name": figure.name, "at_least": figure.at_least, "at_most": figure.at_most}
    try:
        value = figure.value(taken)
    except Failure as failure:
        return {**fields, "value": None, "holds": False, "failure": str(failure)}
    return {**fields, "value": value, "holds": figure.holds(value), "failure": None}


def _turn_row(name: str, turn: Record) -> str:
    values = turn["values"]
    if turn["failure"]:
        return f"| {name} | failed | {turn['failure'].replace('|', '/')} |"
    median, low, high = map(_number, (statistics.median(values), min(values), max(values)))
    return f"| {name} | {median} | {low} to {high} |"


def _figure_row(figure: Record) -> str:
    low, high = figure["at_least"], figure["at_most"]
    bar = f"at least {low:g}" if low is not None else f"at most {high:g}" if high is not None else ""
    if figure["failure"]:
        return f"| {figure['name']} | failed | {bar} | |"
    verdict = "" if not bar else "holds" if figure["holds"] else "**missed**"
    return f"| {figure['name']} | {_number(figure['value'])} | {bar} | {verdict} |"


def _number(value: float) -> str:
    if value == round(value):
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _provenance(cases: Mapping[str, Record]) -> str:
    here, engines = machine(), [e for case in cases.values() for e in case["versions"].values()]
    versions = sorted({f"{package} {version}" for e in engines for package, version in e.items()})
    dates = sorted({case["date"] for case in cases.values()})
    return (
        f"{here['cpu']}, {here['cores']} cores, {here['memory_gib']} GiB, Python {here['python']}; "
        f"{', '.join(versions)}. Measured {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}."
    )
