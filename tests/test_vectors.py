"""
Vectors across engines: decodekit does what the definitions say; where an engine does not, it is known why.

The files in vectors/ were written with the peers at hand; nothing here needs them.
"""

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from decodekit.chain import parse
from decodekit.plugins import load_plugins
from decodekit.presets import chain_from
from decodekit.processors import LogitsProcessor, Step
from decodekit.sampling import Sampler
from decodekit.testing import histories

VECTORS = Path(__file__).parent / "vectors"
PAGE = Path(__file__).parent.parent / "docs" / "vectors.md"
NAMES = sorted(path.stem for path in VECTORS.glob("*.json") if path.stem != "logits")
ENGINES = ("transformers", "llama.cpp")
ROWS = {
    name: [-math.inf if x is None else float(np.float32(x)) for x in row]
    for name, row in json.loads((VECTORS / "logits.json").read_text()).items()
}


def module(name):
    """A script beside the data; it imports its neighbours by name."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, VECTORS / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


definitions, differences = module("definitions"), module("differences")
PLUGINS = load_plugins()
CHAINS = json.loads((VECTORS / "chains" / "llama.cpp.json").read_text())["cases"]


def read(name):
    file = json.loads((VECTORS / f"{name}.json").read_text())
    assert file["sampler"] == name
    return file["cases"]


def close(a, b):
    return a["kept"] == b["kept"] and a["probabilities"] == pytest.approx(b["probabilities"], abs=1e-6)


def result(logits):
    ids = [i for i, x in enumerate(logits) if x > -math.inf]
    return {"kept": ids, "probabilities": definitions.softmax([float(logits[i]) for i in ids])}


def ours(name, case, dtype):
    """What decodekit's strategy leaves, after the tokens that came before."""
    if name not in PLUGINS.logits_processors.entries:
        pytest.skip(f"no plugin with {name} is installed")
    chance = {"probability": 1.0} if name == "xtc" else {}
    strategy = PLUGINS.logits_processors.create(name, **case["params"], **chance)
    logits, prompt, generated = np.asarray([ROWS[case["logits"]]], dtype), case["prompt"], case["generated"]
    state = strategy.init(1)
    for count, token in enumerate(generated):
        step = Step.dense(histories([*prompt, *generated[:count]], asked=len(prompt)), logits.shape[-1])
        state = strategy.accept(strategy.process(logits, step, state), np.asarray([token]), state)
    step = Step.dense(histories([*prompt, *generated], asked=len(prompt)), logits.shape[-1])
    return strategy.process(logits, step, state)[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_strategy_is_what_the_definition_says(name):
    for case in read(name):
        for dtype in (np.float64, np.float32):
            if not case["edge"]:
                assert close(result(ours(name, case, dtype)), case["definition"]), (case, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_at_an_edge_it_leaves_what_some_parameter_next_to_it_would(name):
    for case in (one for one in read(name) if one["edge"]):
        left = result(ours(name, case, np.float32))["kept"]
        near = [definitions.nudged(case["params"], step) for step in (-1e-5, 0.0, 1e-5)]
        given = ROWS[case["logits"]], case["prompt"], case["generated"]
        define = definitions.DEFINITIONS[name]
        assert left in [result(define(given[0], params, *given[1:]))["kept"] for params in near], case


@pytest.mark.parametrize("name", NAMES)
def test_the_file_holds_what_the_definition_gives(name):
    for case in read(name):
        given = ROWS[case["logits"]], case["params"], case["prompt"], case["generated"]
        again = result(definitions.DEFINITIONS[name](*given))
        assert again["kept"] == case["definition"]["kept"]
        assert again["probabilities"] == pytest.approx(case["definition"]["probabilities"], abs=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_agrees_or_shows_a_difference_that_is_meant(name):
    for case in read(name):
        for engine in ENGINES:
            if case[engine] is None or close(case[engine], case["definition"]):
                assert engine not in case["differs"]
            else:
                reason = differences.reason(name, engine, case, ROWS[case["logits"]])
                assert reason is not None and case["differs"][engine] == reason, case


def test_every_difference_that_is_meant_shows_in_some_case():
    shown = {
        (name, engine, reason)
        for name in NAMES
        for case in read(name)
        for engine, reason in case["differs"].items()
    }
    meant = {(*place, reason) for place, reasons in differences.MEANT.items() for reason in reasons}
    assert shown == meant


def test_every_definition_has_vectors_and_every_case_a_peer():
    assert set(NAMES) == set(definitions.DEFINITIONS)
    for name in NAMES:
        assert all(any(case[engine] is not None for engine in ENGINES) for case in read(name))


def test_a_vector_tells_strategies_apart():
    """Most cases remove or move something: a strategy that did nothing would fail them."""
    for name in NAMES:
        changed = [not close(result(ROWS[case["logits"]]), case["definition"]) for case in read(name)]
        assert sum(changed) >= len(changed) / 4, name


@pytest.mark.parametrize("case", CHAINS, ids=lambda case: str(case["settings"]["temperature"]))
def test_a_preset_of_llama_cpp_is_its_chain(case):
    preset = chain_from(case["settings"], "llama.cpp", plugins=PLUGINS)
    links = parse(preset.chain, PLUGINS.logits_processors, LogitsProcessor)
    rows = histories([*case["prompt"], *case["generated"]], asked=len(case["prompt"]))
    logits = np.asarray([ROWS[case["logits"]]], np.float32)
    sampler = Sampler(tuple(link.strategy for link in links))
    _, left, step = sampler.shape(logits, Step.dense(rows, logits.shape[-1]), sampler.init(1))
    found = np.full(logits.shape[-1], -np.inf)
    found[step.ids[0]] = left[0]
    assert close(result(found), case)


def test_the_page_is_written_from_the_files():
    assert module("page").page() == PAGE.read_text(), "run python tests/vectors/page.py"


def test_the_data_is_small():
    assert sum(path.stat().st_size for path in VECTORS.rglob("*.json")) < 300_000
