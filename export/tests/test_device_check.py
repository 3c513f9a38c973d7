"""`make gpu-check`, whole, on the CPU and a tiny model: every part runs and is in the report."""

import json
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2] / "tests"


@pytest.fixture
def check(monkeypatch):
    monkeypatch.syspath_prepend(str(TESTS))
    from devices import check

    return check


def test_the_check_of_a_device_runs_whole(check, monkeypatch, tmp_path):
    words = "--device cpu --quick --shapes tiny --dtype float16 --dtypes --peers onnxruntime-genai --soak 0"
    out = tmp_path / "out"
    monkeypatch.setattr(
        sys, "argv", ["check", *words.split(), "--models", str(tmp_path / "models"), "--out", str(out)]
    )
    assert check.main() == 0

    report = json.loads(out.with_suffix(".json").read_text())
    assert report["holds"] and report["strategies"]["holds"] and report["timings"]
    assert not report["absent"]
    (proved,) = report["bundles"].values()
    assert {name: part.get("holds", True) for name, part in proved.items()} == dict.fromkeys(proved, True)
    assert report["parity of tiny-float16"]["holds"]
    assert report["parity of tiny-float16"]["levels"].keys() == {"off", "basic", "all"}
    found = report["speed of tiny-float16"]
    assert found["stream"]["share"] > 0 and found["batch"]["top_p_over_greedy"] > 0
    assert found["floor"]["over_floor"] > 0 and found["peers"].keys() == {"onnxruntime-genai"}

    page = out.with_suffix(".md").read_text()
    assert "| tiny | float16 |" in page and "| tiny-in_place |" in page


def test_what_cannot_be_had_is_left_out_with_the_reason(check, tmp_path):
    from devices.models import bundle_of

    report, holds = {"absent": {}}, []
    (tmp_path / "tiny" / "checkpoint").mkdir(parents=True)
    made = check._present(report, holds, "tiny", lambda: bundle_of("tiny", "float16", tmp_path))
    assert made == [] and holds == [True] and "tiny float16" in report["absent"]["tiny"]

    def disagrees():
        raise RuntimeError("logits differ")

    assert check._present(report, holds, "other", disagrees) == [] and holds == [True, False]
