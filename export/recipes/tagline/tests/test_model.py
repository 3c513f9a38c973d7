"""The embedded model, asked the held-out prompts through the runtime, by the written check."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

import decodekit


@pytest.fixture(scope="module")
def decoder():
    return decodekit.load("tagline", plugins=decodekit.load_plugins(only=()))


@pytest.fixture(scope="module")
def answers(decoder, split):
    completions = decoder.generate([row.prompt for row in split.heldout], max_new_tokens=40)
    return [
        asdict(row) | {"completion": c.text, "finish_reason": c.finish_reason}
        for row, c in zip(split.heldout, completions, strict=True)
    ]


def test_the_embedded_model_meets_every_bar_on_prompts_it_never_saw(recipe, answers, split, tmp_path):
    for name, rows in (("answers.jsonl", answers), ("train.jsonl", map(asdict, split.train))):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = subprocess.run(
        [
            sys.executable,
            recipe / "quality.py",
            tmp_path / "answers.jsonl",
            "--train",
            tmp_path / "train.jsonl",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_measured_figures_in_the_repository_are_those_of_the_embedded_model(recipe, answers, split):
    import quality

    measured = json.loads((recipe / "measured.json").read_text())["full"]["heldout"]
    report = quality.report(answers, {row.completion for row in split.train})
    assert {name: getattr(report, name) for name in ("answers", "ended", "empty", "fitting", "distinct")} == {
        name: measured[name] for name in ("answers", "ended", "empty", "fitting", "distinct")
    }


def test_sampled_answers_end_too(decoder, split):
    prompts = [row.prompt for row in split.heldout]
    completions = decoder.generate(prompts, "temperature=0.8, top_p=0.9", seed=0, max_new_tokens=40)
    assert sum(c.finish_reason == "stop" for c in completions) >= 98
    assert all(c.text.strip() for c in completions)


def test_the_bundle_is_small_enough_for_the_wheel(decoder):
    assert sum(f.stat().st_size for f in decoder.bundle.path.iterdir()) <= 4_000_000
