"""
Figures: what the recipe measured, as JSON and as a section of the README, and its results in their places.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import quality

from decodekit.bundle import EMBEDDED, open_bundle

HERE = Path(__file__).parent
MODELS = ("early", "demo", "full")  # the early checkpoint, the demo's result, the embedded model
BEGIN, END = "<!-- measured quality: filled in by the recipe -->", "<!-- end of measured quality -->"
SAMPLES = 10  # the first of the held-out file

Json = dict[str, Any]


def measure(work: Path) -> Json:
    """Training and held-out quality of each model in the work folder of the recipe."""
    training = {row["completion"] for row in read_rows(work / "pairs/train.jsonl")}
    figures: Json = {}
    for model in MODELS:
        trained = work / (model if model == "demo" else f"{model}-trained")
        run = json.loads((trained / "run.json").read_text(encoding="utf-8"))
        answers = read_rows(work / f"{model}-answers.jsonl")
        report = quality.report(answers, training)
        bundle = open_bundle(work / f"{model}-bundle")
        figures[model] = {
            "parameters": run["parameters"],
            "bundle_bytes": sum(entry["size"] for entry in bundle.manifest["files"].values()),
            "training": {
                "rows": run["counts"]["rows"],
                "trained_tokens": run["counts"]["trained_tokens"],
                **{key: run[key] for key in ("steps", "epochs", "seconds", "valid_before", "valid_after")},
            },
            "quality": asdict(report) | {"novel": report.answers - report.copies, "passed": report.passed},
            "samples": [{key: row[key] for key in ("prompt", "completion")} for row in answers[:SAMPLES]],
        }
    return figures | {"versions": run["versions"]}


def publish(work: Path, figures: Json) -> None:
    """Put bundle, early checkpoint and demo data where the project has them, and write the figures."""
    for source, place in (("full-bundle", EMBEDDED / "tagline"), ("early", HERE / "checkpoint")):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(work / source, place)
    shutil.copyfile(work / "demo.jsonl", HERE / "demo.jsonl")
    (HERE / "measured.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    readme = HERE / "README.md"
    readme.write_text(with_section(readme.read_text(encoding="utf-8"), section(figures)), encoding="utf-8")


def section(figures: Json) -> str:
    """What is worth reading of the figures, as Markdown."""
    full = figures["full"]
    lines = [
        "## What was measured",
        "",
        f"{full['parameters']:,} parameters; the bundle has {full['bundle_bytes']:,} bytes. Greedy answers",
        "to the 100 held-out prompts, through the bundle:",
        "",
        "| | early checkpoint | after the demo's fine-tuning | embedded model |",
        "|---|---|---|---|",
        *(f"| {name} | {' | '.join(cell(figures[m]) for m in MODELS)} |" for name, cell in ROWS.items()),
        "",
        f"The first {SAMPLES} answers of the embedded model, in the order of the file:",
        "",
        "| Prompt | Answer |",
        "|---|---|",
        *(f"| {row['prompt']} | {row['completion']} |" for row in full["samples"]),
    ]
    return "\n".join(lines)


def _training(key: str, form: str) -> Any:
    return lambda figures: format(figures["training"][key], form)


def _quality(key: str) -> Any:
    return lambda figures: str(figures["quality"][key])


ROWS = {
    "steps": _training("steps", ","),
    "passes over its rows": _training("epochs", ".3g"),
    "seconds of training": _training("seconds", ".0f"),
    "loss on valid.jsonl, nats per trained token": _training("valid_after", ".3f"),
    **{name: _quality(name) for name in ("ended", "empty", "fitting", "control", "distinct", "novel")},
}


def with_section(readme: str, text: str) -> str:
    """The README with `text` behind the marker, in place of what was there."""
    before, found, rest = readme.partition(BEGIN)
    if not found:
        raise ValueError(f"README.md: no line {BEGIN!r} to put the figures at")
    _, ended, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after if ended else rest}"


def read_rows(path: Path) -> list[Json]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
