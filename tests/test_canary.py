"""The canary: when it is decoded, what it finds, what is remembered; and `decodekit verify`."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import decodekit
from decodekit import first_run
from decodekit.bundle import EMBEDDED, MANIFEST, open_bundle, write_manifest
from decodekit.canary import STEPS, Canary, canary_of, record
from decodekit.errors import BundleError, CanaryError
from decodekit.onnx_model import load_model
from decodekit.testing import TableModel

FIXTURES = Path(__file__).parent / "fixtures"
PROMPT = [5, 700, 31]


@pytest.fixture(scope="module")
def sung(tmp_path_factory):
    """The embedded bundle with a canary, as checked with another onnxruntime. Do not write to it."""
    folder = tmp_path_factory.mktemp("sung") / "tagline"
    shutil.copytree(EMBEDDED / "tagline", folder)
    bundle = open_bundle(folder)
    model = load_model(bundle, device="cpu")
    canary = record(model, PROMPT, bar=1e-3).to_json()
    seal(folder, canary=canary, parity={**bundle.manifest["parity"], "onnxruntime": "1.0.0"})
    return folder


@pytest.fixture
def folder(sung, tmp_path, monkeypatch):
    """A copy of it, and an empty cache directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shutil.copytree(sung, tmp_path / "tagline")


@pytest.fixture
def runs(monkeypatch):
    """How often a canary was decoded."""
    counted, honest = [], Canary.difference

    def difference(self, model):
        counted.append(self)
        return honest(self, model)

    monkeypatch.setattr(Canary, "difference", difference)
    return counted


def seal(folder, **fields):
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["format"], manifest["files"]
    write_manifest(folder, {**manifest, **fields})


def raise_a_logit(folder, by):
    canary = json.loads((folder / MANIFEST).read_text())["canary"]
    canary["logits"][5][2] += by
    seal(folder, canary=canary)


def load(folder, **options):
    decodekit.load(folder, plugins=decodekit.plugins.load_plugins(only=()), **options).close()


def verdicts(tmp_path):
    return list((tmp_path / "cache").rglob("*.json"))


def test_a_canary_is_the_greedy_answer_and_its_best_logits():
    table = np.asarray([[0, 3, 1], [5, 0, 2], [1, 2, 9]], np.float32)
    canary = record(TableModel(table, 64), [0], bar=0.5)
    assert canary.ids[:3].tolist() == [[1, 2, 0], [0, 2, 1], [1, 2, 0]]
    assert canary.logits[:2].tolist() == [[3, 1, 0], [5, 2, 0]]
    assert len(canary.ids) == STEPS
    assert canary.difference(TableModel(table, 64)) == 0


@pytest.mark.parametrize(
    ("change", "off"),
    [
        ([[0, 0.25, 0], [0, 0, 0], [0, 0, 0]], 0.25),
        ([[0, 0, 0], [0, 0, 0], [np.nan, 0, 0]], 0),
        ([[0, 0, np.nan]] * 3, np.inf),
    ],
    ids=["a logit", "a row that is not met", "no number"],
)
def test_the_largest_difference_is_found(change, off):
    table = np.asarray([[0, 3, 1], [5, 0, 2], [1, 2, 9]], np.float32)
    canary = record(TableModel(table, 64), [0], bar=0.5)
    assert canary.difference(TableModel(table + np.asarray(change, np.float32), 64)) == off


def test_a_token_that_overtakes_the_best_is_found_though_its_logit_was_not_kept():
    table = np.zeros((20, 20), np.float32)
    table[:, :9] = np.arange(9, 0, -1)
    canary = record(TableModel(table, 64), [0], bar=0.5)
    table[:, 19] = 11
    assert canary.difference(TableModel(table, 64)) == 1.0  # 11 against 9, halved


def test_where_something_differs_it_is_decoded_once(folder, runs, tmp_path):
    load(folder)
    load(folder)
    assert len(runs) == 1
    (verdict,) = verdicts(tmp_path)
    assert json.loads(verdict.read_text())["difference"] < 1e-4


def test_where_nothing_differs_nothing_is_decoded(folder, runs, tmp_path):
    here = first_run.surroundings(load_model(open_bundle(folder), device="cpu"))
    parity = json.loads((folder / MANIFEST).read_text())["parity"]
    seal(folder, parity={**parity, **here})
    load(folder)
    assert runs == [] and verdicts(tmp_path) == []


@pytest.mark.parametrize("name", ["provider", "device"])
def test_another_provider_or_device_is_a_difference(folder, runs, name):
    here = first_run.surroundings(load_model(open_bundle(folder), device="cpu"))
    seal(folder, parity={**here, name: "another", "logits": {}, "bars": {}})
    load(folder)
    assert len(runs) == 1


def test_another_answer_is_an_error_every_time(folder, runs, tmp_path):
    raise_a_logit(folder, 0.01)
    for _ in range(2):
        with pytest.raises(
            CanaryError,
            match=r"off by 0\.01, allowed is 0\.001, onnxruntime \S+ instead of 1\.0\.0; install onnxruntime "
            r"1\.0\.0, choose .* canary=False",
        ):
            load(folder)
    assert len(runs) == 2 and verdicts(tmp_path) == []


def test_who_asks_for_it_decodes_all_the_same(folder, runs):
    raise_a_logit(folder, 0.01)
    load(folder, canary=False)
    assert runs == []


def test_a_verdict_is_of_one_bundle(folder, runs):
    load(folder)
    raise_a_logit(folder, 1e-5)
    load(folder)
    assert len(runs) == 2


def test_a_bundle_without_a_canary_loads(runs):
    load("tagline")
    assert runs == []


@pytest.mark.parametrize("what", ["a file in its place", "no sense", "a verdict that failed", "read-only"])
def test_a_cache_that_cannot_be_used_is_no_matter(folder, runs, tmp_path, what):
    load(folder)
    (verdict,) = verdicts(tmp_path)
    if what == "a file in its place":
        shutil.rmtree(tmp_path / "cache")
        (tmp_path / "cache").write_text("")
    elif what == "no sense":
        verdict.write_text("[" * 100_000)
    elif what == "a verdict that failed":
        verdict.write_text('{"difference": NaN, "bar": 1}')
    else:
        verdict.unlink()
        os.chmod(verdict.parent, 0o500)
    load(folder)
    assert len(runs) == 2


def test_old_verdicts_are_forgotten(folder, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(first_run, "REMEMBERED", 3)
    place = tmp_path / "cache" / "decodekit" / "canaries"
    place.mkdir(parents=True)
    for age in range(5):
        (place / f"{age}.json").write_text("{}")
        os.utime(place / f"{age}.json", (age, age))
    load(folder)
    assert len(list(place.iterdir())) == 3
    load(folder)
    assert len(runs) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": []},
        {"prompt": [1536]},
        {"prompt": [-1]},
        {"prompt": [1.5]},
        {"prompt": [1] * 1000},
        {"ids": [[1]]},
        {"ids": [[1], [2, 3]]},
        {"bar": 0},
        {"bar": float("inf")},
        {"logits": "many"},
        {"prompt": 10**30},
    ],
    ids=str,
)
def test_a_canary_that_is_none_is_refused(folder, change):
    seal(folder, canary=json.loads((folder / MANIFEST).read_text())["canary"] | change)
    with pytest.raises(BundleError, match="the canary of the manifest is malformed"):
        canary_of(open_bundle(folder))


def states(out):
    return {f["what"]: f["state"] for f in json.loads(out)["findings"]}


ALL = ("manifest", "files", "graph", "tokenizer", "session", "canary")


def test_verify_goes_through_everything(folder, run):
    status, out, _ = run("verify", str(folder), "--json")
    assert status == 0 and json.loads(out)["passed"]
    assert states(out) == dict.fromkeys(ALL, "ok")
    status, out, _ = run("verify", str(folder))
    assert "canary     ok: 8 steps within" in out


def test_verify_finds_another_answer(folder, run):
    raise_a_logit(folder, 0.01)
    status, out, _ = run("verify", str(folder), "--json")
    assert status == 2 and not json.loads(out)["passed"]
    assert states(out) == {**dict.fromkeys(ALL, "ok"), "canary": "failed"}


def test_verify_finds_a_changed_file_and_runs_nothing_of_it(folder, run):
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    status, out, _ = run("verify", str(folder), "--json")
    assert status == 2
    assert states(out)["files"] == "failed" and not {"session", "canary"} & states(out).keys()


def test_verify_finds_an_operator_that_is_refused(folder, run):
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes().replace(b"GroupQueryAttention", b"SnpeAttentionQuery_"))
    graph.write_bytes(graph.read_bytes().replace(b"com.microsoft", b"com.nonesuch_"))
    seal(folder)
    status, out, _ = run("verify", str(folder), "--json")
    assert status == 2
    assert (states(out)["files"], states(out)["graph"]) == ("ok", "failed")
    assert not {"session", "canary"} & states(out).keys()


def test_verify_says_what_there_is_nothing_to_compare_with(run):
    status, out, _ = run("verify", "tagline", "--json")
    assert status == 0 and states(out)["canary"] == "absent"
    status, out, _ = run("verify", str(FIXTURES / "genai"), "--json")
    assert status == 0 and (states(out)["files"], states(out)["canary"]) == ("absent", "absent")


def test_verify_of_nothing_is_an_error(run, tmp_path):
    status, out, _ = run("verify", str(tmp_path / "nowhere"), "--json")
    assert status == 2 and states(out) == {"manifest": "failed"}


def test_a_manifest_that_calls_itself_foreign_is_checked_like_any_other(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "origin": "hub"}))
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleError, match="sha256 differs"):
        open_bundle(folder)
