"""The kit for plugin authors: every law finds the strategy that breaks it; a new plugin passes at once."""

import json
import os
import random
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

from decodekit import LogitsProcessor, Stop, StoppingCriterion
from decodekit.errors import InputError
from decodekit.new_plugin import new_plugin
from decodekit.parameters import Real
from decodekit.plugin_choice import allowed, choose, read
from decodekit.schema import LABELS, labels, schema, summary
from decodekit.strategies.top_p import TopP
from decodekit.testing import check_logits_processor, check_stopping_criterion
from decodekit.testing.examination import Finding, examine

ROOT = Path(__file__).parent.parent


class Wrong(LogitsProcessor):
    """Breaks one law: `fault` is what it does."""

    kept = None

    def __init__(self, fault):
        self.fault = fault

    def init(self, batch):
        return [0.0] * batch if self.fault == "list" else np.zeros(batch)

    def process(self, logits, step, state):
        return self.fault(self, logits, step, state) if callable(self.fault) else logits

    def accept(self, logits, column, state):
        if self.fault == "in place":
            state += 1
            return state
        if self.fault == "noise":
            return state + np.random.default_rng().random()
        return logits if self.fault == "lent" else state + 1


def shape(self, logits, step, state):
    return logits[:, :-1]


def dtype(self, logits, step, state):
    return logits.astype(np.float64)


def writes(self, logits, step, state):
    logits *= 2
    return logits


def nan(self, logits, step, state):
    return np.where(step.ids == 7, np.nan, logits).astype(logits.dtype)


def empty(self, logits, step, state):
    return np.full_like(logits, -np.inf)


def revives(self, logits, step, state):
    return np.nan_to_num(logits, neginf=0.0)


def changes(self, logits, step, state):
    return logits + logits.dtype.type(np.random.default_rng().random())


def global_random(self, logits, step, state):
    np.random.random()
    return logits


def python_random(self, logits, step, state):
    return logits * logits.dtype.type(random.random())


def environment(self, logits, step, state):
    os.environ["DECODEKIT_TEST_OF_LAWS"] = str(random.Random().random())
    return logits


def errors_off(self, logits, step, state):
    np.seterr(over="ignore" if np.geterr()["over"] != "ignore" else "warn")
    return logits


def thread(self, logits, step, state):
    done = threading.Event()
    started = threading.Thread(target=done.wait, args=(0.2,), daemon=True)
    started.start()
    return logits


def neighbours(self, logits, step, state):
    return logits - np.nan_to_num(logits[:1], neginf=0.0) / 8


def columns(self, logits, step, state):
    return logits + np.arange(logits.shape[1], dtype=logits.dtype)


def dense(self, logits, step, state):
    return logits + np.zeros(257, logits.dtype)


def remembers(self, logits, step, state):
    row = bytes(step.rows[0].ids[:1])
    self.kept = row if self.kept is None else self.kept
    return logits if row == self.kept else -logits


def counts_calls(self, logits, step, state):
    self.kept = (self.kept or 0) + 1
    return np.where(step.ids == self.kept % 7, logits - 9, logits).astype(logits.dtype)


def writes_state(self, logits, step, state):
    state += 1
    return logits


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        (shape, "keeps shape and dtype"),
        (dtype, "keeps shape and dtype"),
        (writes, "never writes to its inputs"),
        (nan, "answers no NaN"),
        (empty, "leaves a candidate in every row"),
        (revives, "never brings back a removed candidate"),
        (changes, "same inputs, same output"),
        (global_random, "draws no random numbers"),
        (python_random, "same inputs, same output"),
        (environment, "changes nothing around it: the environment"),
        (errors_off, "changes nothing around it: NumPy's handling of floating-point errors"),
        (thread, "changes nothing around it: the threads"),
        (neighbours, "a row does not see its neighbours"),
        (columns, "columns are candidates, not token ids"),
        (dense, "columns that were removed may be gone"),
        (counts_calls, "same inputs, same output"),
        ("in place", "state moves by value"),
        ("noise", "same inputs, same state"),
        ("lent", "the logits are the caller's"),
        (writes_state, "same state, same output: process does not write to the state"),
        (remembers, "a row does not see its neighbours"),
    ],
)
def test_every_law_finds_who_breaks_it(fault, law, monkeypatch):
    monkeypatch.setenv("DECODEKIT_TEST_OF_LAWS", "")
    before = np.geterr()
    try:
        with np.errstate(all="ignore"), pytest.raises(AssertionError) as caught:
            check_logits_processor(Wrong(fault))
    finally:
        np.seterr(**before)
    assert str(caught.value).startswith(law)


def test_memory_outside_the_state_is_found():
    class Leaky(LogitsProcessor):
        """Counts the tokens of all sequences together."""

        count = 0

        def process(self, logits, step, state):
            return np.where(step.ids == self.count % 3, -99, logits).astype(logits.dtype)

        def accept(self, logits, column, state):
            Leaky.count += 1
            return state

    with pytest.raises(AssertionError, match="memory is in the state|going back|same state, same output"):
        check_logits_processor(Leaky())


class Ends(StoppingCriterion):
    def __init__(self, fault):
        self.fault, self.calls = fault, 0

    def check(self, progress):
        self.calls += 1
        return self.fault(self, progress)

    def pending(self, text):
        return -1 if self.fault is None else 0


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        (lambda self, progress: True, "answers a Stop or None"),
        (lambda self, progress: Stop("stop") if self.calls % 2 else None, "same progress, same verdict"),
        (lambda self, progress: Stop(""), "gives a reason"),
        (lambda self, progress: Stop("stop", keep=len(progress.text) + 1), "keeps a part of the text"),
        (
            lambda self, progress: Stop("stop", keep=0) if len(progress.text) > 5 else None,
            "text that a verdict cuts off was held back before",
        ),
        (
            lambda self, progress: os.environ.update(DECODEKIT_TEST_OF_LAWS=str(len(progress.text))),
            "changes nothing around it: the environment",
        ),
    ],
)
def test_every_law_of_criteria_finds_who_breaks_it(fault, law, monkeypatch):
    monkeypatch.setenv("DECODEKIT_TEST_OF_LAWS", "")
    with pytest.raises(AssertionError) as caught:
        check_stopping_criterion(Ends(fault))
    assert str(caught.value).startswith(law)


@dataclass(frozen=True)
class Loose(LogitsProcessor):
    """Takes every p, and at the one it calls neutral it changes something."""

    p: Annotated[float, Real("[0, 1]", "a share", neutral=0)] = 0.5

    def __post_init__(self):
        pass

    def process(self, logits, step, state):
        return logits * 2


def test_what_a_schema_promises_is_tried(tokenizer):
    found = {f.law: f for f in examine(Loose, Loose(), {}, tokenizer)}
    assert found["parameters outside their domain are refused"].why.startswith("p=-5e-324 is outside")
    assert found["neutral parameters change nothing"] == Finding(
        "neutral parameters change nothing", False, ""
    )
    assert all(f.holds for f in examine(TopP, TopP(0.5), {"p": 0.5}, tokenizer))


def test_check_reports_every_law(run, tmp_path):
    badge = tmp_path / "badge.svg"
    status, out, _ = run("plugins", "check", "top_p", "-o", "p=0.7", "--json", "--badge", str(badge))
    report = json.loads(out)["top_p"]
    assert status == 0 and report["passed"] and report["options"] == {"p": 0.7}
    assert set(report["laws"].values()) == {True} and len(report["laws"]) == 20
    assert report["microseconds"].keys() == {"32000", "49152", "151936"}
    assert "contract kept" in badge.read_text()
    status, out, _ = run("plugins", "check", "stop_strings", "-o", 'strings=["a"]')
    assert status == 0 and "held back before" in " ".join(out.split())


def test_check_names_what_is_missing(run):
    status, _, err = run("plugins", "check", "logit_bias")
    assert status == 2 and "logit_bias needs bias; give it with -o bias=VALUE" in err
    status, _, err = run("plugins", "check", "topp")
    assert status == 2 and "did you mean 'top_p'?" in err


@pytest.mark.parametrize(("kind", "name"), [("processor", "soft_pull"), ("criterion", "full_stops")])
def test_a_new_plugin_passes_at_once(tmp_path, kind, name):
    folder = new_plugin(name, kind, tmp_path / "plugin")
    site = tmp_path / "site"
    install = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    distribution = f"decodekit-{name.replace('_', '-')}"
    env = {
        **os.environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONPATH": f"{site}{os.pathsep}{ROOT}",
        "DECODEKIT_PLUGINS": name,
    }
    for words in (
        [*install, str(folder)],
        ["-m", "pytest", "-q", str(folder)],
        ["-m", "decodekit.cli", "plugins", "check", distribution],
    ):
        done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    for file in ("README.md", ".gitignore", "pyproject.toml"):
        assert "@" not in (folder / file).read_text()
    assert f"plugins check {name}" in (folder / ".github" / "workflows" / "test.yml").read_text()


def test_a_new_plugin_overwrites_nothing(tmp_path, run):
    with pytest.raises(InputError, match="already exists"):
        new_plugin("mine", "processor", tmp_path)
    status, _, err = run("plugins", "new", "My-Sampler")
    assert status == 2 and "snake_case, such as top_p, got 'My-Sampler'" in err


def test_a_plugin_is_disabled_and_enabled_again(tmp_path, monkeypatch):
    monkeypatch.delenv("DECODEKIT_PLUGINS", raising=False)
    monkeypatch.setenv("DECODEKIT_PLUGINS_FILE", str(tmp_path / "deep" / "plugins.json"))
    assert allowed() is None
    file = choose("mirostat", load=False)
    assert read(file) == ["mirostat"] and "mirostat" not in allowed() and "hello" in allowed()
    monkeypatch.setenv("DECODEKIT_PLUGINS", "mirostat")
    assert allowed() == {"mirostat"}  # the environment decides
    monkeypatch.delenv("DECODEKIT_PLUGINS")
    choose("mirostat", load=True)
    assert allowed() is None


@pytest.mark.parametrize("content", ["", "[]", '{"disabled": 7}', '{"disabled": [], "x": 1}', "{" * 5000])
def test_a_choice_that_cannot_be_read_is_an_error(tmp_path, monkeypatch, content):
    (tmp_path / "plugins.json").write_text(content)
    with pytest.raises(
        InputError, match=r"plugins.json: cannot be read as a choice of plugins .*mend or remove"
    ):
        read(tmp_path / "plugins.json")


def test_a_schema_has_domains_and_defaults():
    found = schema(Loose)
    assert found["properties"]["p"] == {
        "type": "number",
        "minimum": 0.0,
        "maximum": 1.0,
        "description": "a share",
        "x-neutral": 0,
        "default": 0.5,
    }
    assert found["required"] == [] and found["additionalProperties"] is False


def test_schemas_are_what_json_schema_knows(run):
    jsonschema = pytest.importorskip("jsonschema")
    for kind in json.loads(run("plugins", "schema")[1]).values():
        for found in kind.values():
            jsonschema.Draft202012Validator.check_schema(found)
    top_p = json.loads(run("plugins", "schema", "top_p")[1])
    validator = jsonschema.Draft202012Validator(top_p)
    assert validator.is_valid({"p": 0.9})
    assert not any(map(validator.is_valid, [{}, {"p": 1.1}, {"p": "0.9"}, {"p": 0.9, "q": 1}]))


def test_labelled_lines_are_read():
    assert labels(TopP)["neutral"] == "p = 1"
    assert labels(Loose) == {} and summary(Loose).startswith("Takes every p")


def test_every_built_in_strategy_is_defined(plugins):
    for registry in (plugins.logits_processors, plugins.stopping_criteria):
        for name, (factory, _) in registry.entries.items():
            assert set(labels(factory)) == set(LABELS), name


def test_show_and_page_tell_the_same(run):
    shown = " ".join(run("plugins", "show", "top_p")[1].split())
    assert "ICLR 2020" in shown and "neutral" in shown
    page = run("plugins", "page")[1]
    assert "### top_p" in page and "| `p` | probability mass to keep | [0, 1] |" in page


def test_the_page_in_the_documentation_is_that_of_today(run, plugins):
    """For what is built in; plugins are compared where they are installed."""
    written = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    for entry in run("plugins", "page")[1].split("\n### ")[1:]:
        assert entry.partition("\n## ")[0].strip() in written, "make docs/strategies.md again"
