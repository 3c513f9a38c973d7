"""The recipes of docs/examples/finetune, each as it stands but on a model of a few thousand weights."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "finetune"
SOAK = pytest.mark.skipif("DECODEKIT_SOAK" not in os.environ, reason="set DECODEKIT_SOAK=1, or make soak")
LITTLE = ["--max-steps", "3", "--endings", "2", "--evaluate-every", "3"]


@pytest.mark.parametrize(
    "name", ["style", pytest.param("adapter", marks=SOAK), pytest.param("extract_json", marks=SOAK)]
)
def test_a_recipe_runs(checkpoint, tmp_path, name, capsys):
    work = tmp_path / "work"
    runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](work, checkpoint("Llama"), *LITTLE)
    assert (work / "tuned" / "run.json").is_file()
    assert list(work.glob("*/decodekit.json"))
    assert capsys.readouterr().out.strip()


def test_every_recipe_is_run_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"adapter", "style", "extract_json"}
