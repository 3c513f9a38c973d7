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
MODELS = {  # and the runs that made them
    "early": ("early-trained",),
    "demo": ("demo",),
    "full": ("full-trained", "more-trained"),
}
NAMES = {"early": "early checkpoint", "demo": "after the demo", "full": "embedded model"}
TESTS = {"heldout": "held-out", "demo_test": "food and drink"}
COUNTS = ("answers", "ended", "empty", "fitting", "control", "distinct", "novel")
BEGIN, END = "<!-- measured quality: filled in by the recipe -->", "<!-- end of measured quality -->"
SAMPLES = 10  # the first of the held-out file

Json = dict[str, Any]


def measure(work: Path) -> Json:
    """Training and held-out quality of each model in the work folder of the recipe."""
    figures: Json = {}
    for model, stages in MODELS.items():
        runs = [json.loads((work / stage / "run.json").read_text(encoding="utf-8")) for stage in stages]
        files = {"pairs/train.jsonl", *map(_data, runs)}  # every model has seen the first
        trained = {row["completion"] for file in files for row in read_rows(work / file)}
        answers = read_rows(work / f"{model}-answers.jsonl")
        bundle = open_bundle(work / f"{model}-bundle")
        figures[model] = {
            "parameters": runs[-1]["parameters"],
            "bundle_bytes": sum(entry["size"] for entry in bundle.manifest["files"].values()),
            "training": [_training_of(run) for run in runs],
            "heldout": _judge(answers, trained),
            "demo_test": _judge(read_rows(work / f"{model}-demo-answers.jsonl"), trained),
            "samples": [{key: row[key] for key in ("prompt", "completion")} for row in answers[:SAMPLES]],
        }
    return figures | {"versions": runs[-1]["versions"]}


def _data(run: Json) -> str:
    """The file a run was trained on, within the work folder."""
    name = Path(run["data"]).name
    return f"pairs/{name}" if name == "train.jsonl" else name


def _training_of(run: Json) -> Json:
    counts = {key: run["counts"][key] for key in ("rows", "trained_tokens")}
    keys = ("steps", "epochs", "seconds", "tokens_per_second", "valid_before", "valid_after")
    return {"data": _data(run)} | counts | {key: run[key] for key in keys}


def _judge(answers: list[Json], training: set[str]) -> Json:
    report = quality.report(answers, training)
    return asdict(report) | {"novel": report.answers - report.copies, "passed": report.passed}


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
        f"The model has {full['parameters']:,} parameters, its bundle {full['bundle_bytes']:,} bytes. It is",
        "trained on the training file, then on many more pairs of the same combinations, since the file",
        "alone is learnt by heart. The early checkpoint has seen the file for a short while.",
        "",
        "| Model | Trained on | Passes | Steps | Seconds | Loss before | Loss after |",
        "|---|---|---|---|---|---|---|",
        *(_training_row(NAMES[m], run) for m in MODELS for run in figures[m]["training"]),
        "",
        "Losses are nats per trained token of `valid.jsonl`; for the demo, of its own test. The demo",
        "fine-tunes the early checkpoint on the pairs of food and drink alone, and forgets other kinds over",
        "it. Its test is what the validation and the held-out file ask about food and drink. All answers",
        "are greedy, and come through the bundle. A novel answer stands in no file of the model's training.",
        "",
        "| Asked | Model | " + " | ".join(COUNTS) + " |",
        "|---" * (len(COUNTS) + 2) + "|",
        *(_quality_row(asked, NAMES[m], figures[m][key]) for key, asked in TESTS.items() for m in MODELS),
        "",
        f"The first {SAMPLES} answers of the embedded model, in the order of the held-out file:",
        "",
        "| Prompt | Answer |",
        "|---|---|",
        *(f"| {row['prompt']} | {row['completion']} |" for row in full["samples"]),
    ]
    return "\n".join(lines)


def _training_row(model: str, run: Json) -> str:
    losses = f"{run['valid_before']:.3f} | {run['valid_after']:.3f}"
    return (
        f"| {model} | {run['data']}, {run['rows']:,} rows | {run['epochs']:.3g} | {run['steps']:,} "
        f"| {run['seconds']:,.0f} | {losses} |"
    )


def _quality_row(asked: str, model: str, counts: Json) -> str:
    return f"| {asked} | {model} | " + " | ".join(str(counts[name]) for name in COUNTS) + " |"


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
