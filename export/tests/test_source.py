from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from hub_server import Hub, serving

from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.checkpoint_source import find_source
from decodekit_export.commands import Export
from decodekit_export.errors import CheckpointError, FetchError

NAME = "someone/tiny"


@pytest.fixture
def files(checkpoint) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in checkpoint("Llama").iterdir()}


@pytest.fixture
def hub(files, tmp_path, monkeypatch) -> Hub:
    """A hub with one model, which this process takes for the hub, and an empty cache."""
    with serving(Hub()) as hub:
        hub.add(NAME, files)
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.chdir(tmp_path)
        yield hub


def test_a_path_that_exists_wins_over_a_name_of_the_hub(hub, tmp_path):
    (tmp_path / NAME).mkdir(parents=True)
    source = find_source(NAME)
    assert (source.path, source.name, source.provenance) == (Path(NAME), "tiny", {})
    assert hub.asked == []


@pytest.mark.parametrize(
    "name", ["nowhere", "./someone/tiny", "/someone/tiny", "a/b/c", "~/tiny", "../x", "a/..", ""]
)
def test_only_what_looks_like_a_repository_is_asked_for(hub, name):
    if name == "":
        assert find_source(name).path == Path(".")  # the current folder
    else:
        with pytest.raises(CheckpointError, match="no such folder, and not the name of a repository"):
            find_source(name)
    assert hub.asked == []


def test_a_model_of_the_hub_is_fetched_pinned_and_told_in_the_manifest(hub, tmp_path, capsys):
    commit = hub.branches[NAME, "main"]
    hub.repositories[NAME][commit]["LICENSE"] = b"Share alike."
    parser, command = argparse.ArgumentParser(), Export(None)
    command.add_arguments(parser)
    words = [NAME, "--out", str(tmp_path / "bundle"), "--prompts", "1", "--json"]
    assert command.run(parser.parse_args(words)) == 0
    shown = capsys.readouterr()
    manifest = json.loads(shown.out)
    assert manifest["provenance"] == {"repository": NAME, "revision": "main", "commit": commit}
    assert (manifest["name"], manifest["license"]) == ("tiny", "Share alike.")
    assert f"{NAME} at commit {commit}" in shown.err.replace("\n", "")


def test_only_the_files_of_a_checkpoint_are_fetched(hub, files):
    commit = hub.add(
        NAME,
        files
        | {
            "modeling_evil.py": b"raise SystemExit",
            "pytorch_model.bin": b"x",
            "model.gguf": b"x",
            "onnx/model.onnx": b"x",
            "consolidated.safetensors": b"x",
            "../outside.safetensors": b"x",
            "sub/other.safetensors": b"x",
        },
    )
    source = find_source(NAME)
    assert source.provenance["commit"] == commit
    assert sorted(hub.fetched()) == sorted(files)
    assert {path.name for path in source.path.iterdir()} == files.keys()


def test_a_second_export_fetches_nothing_again(hub):
    find_source(NAME)
    hub.asked.clear()
    find_source(NAME)
    assert hub.fetched() == []


def test_a_connection_that_breaks_off_goes_on_where_it_ended(hub, files, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    size = len(files["model.safetensors"])
    hub.breaks["model.safetensors"] = size // 2
    source = find_source(NAME)
    assert (source.path / "model.safetensors").read_bytes() == files["model.safetensors"]
    ranges = [
        asked for method, path, asked in hub.asked if method == "GET" and path.endswith("/model.safetensors")
    ]
    assert ranges[0] is None and ranges[1] is not None
    assert 0 < int(ranges[1].removeprefix("bytes=").removesuffix("-")) <= size // 2


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub, files):
    first = hub.branches[NAME, "main"]
    second = hub.add(NAME, files | {"config.json": files["config.json"] + b"\n"})
    tag = hub.add(NAME, files | {"config.json": files["config.json"] + b"\n\n"}, branch="v1.0")
    assert find_source(NAME).provenance["commit"] == second
    assert find_source(f"{NAME}@v1.0").provenance["commit"] == tag
    assert find_source(NAME, revision="v1.0").provenance == {
        "repository": NAME,
        "revision": "v1.0",
        "commit": tag,
    }
    assert find_source(f"{NAME}@{first}").path.name == first
    with pytest.raises(CheckpointError, match=r"v1.0 and --revision main are two revisions"):
        find_source(f"{NAME}@v1.0", revision="main")
    with pytest.raises(
        FetchError, match="someone/tiny: has no revision 'v2'; give a branch, a tag or a commit"
    ):
        find_source(NAME, revision="v2")


def test_a_folder_has_no_revision(checkpoint):
    with pytest.raises(
        CheckpointError, match="--revision main: .* is no repository of the hub; leave it out"
    ):
        find_source(checkpoint("Llama"), revision="main")


def test_a_repository_that_is_not_there_or_not_open_says_how_to_get_it(hub):
    with pytest.raises(
        FetchError, match="someone/other: no such folder, and no such repository .* `hf auth login`"
    ):
        find_source("someone/other")
    hub.gated.add(NAME)
    with pytest.raises(FetchError, match="someone/tiny: its terms must be accepted on its page .* HF_TOKEN"):
        find_source(NAME)


def test_a_hub_that_is_down_is_an_error_and_not_an_older_state(hub, monkeypatch):
    find_source(NAME)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match="cannot be fetched .* take what is in the cache with --offline"):
        find_source(NAME)
    assert find_source(NAME, offline=True).path.is_dir()


def test_offline_takes_what_is_in_the_cache_and_names_what_is_not(hub, monkeypatch):
    with pytest.raises(
        FetchError, match="tiny at main: not in the cache .*drop --offline .* hf download someone/tiny"
    ):
        find_source(NAME, offline=True)
    fetched = find_source(NAME)
    hub.asked.clear()
    assert find_source(NAME, offline=True).provenance == fetched.provenance
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert find_source(NAME) == fetched
    (fetched.path / "model.safetensors").unlink()
    with pytest.raises(FetchError, match=r"not whole, model.safetensors missing, in the cache"):
        find_source(NAME)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["pytorch_model.bin"], r"only pickled weights \(pytorch_model.bin\), which run code when loaded"),
        (["model.q4.gguf"], r"only weights of llama.cpp \(model.q4.gguf\).*export the checkpoint"),
        ([], "has no safetensors weights"),
    ],
)
def test_a_repository_without_safetensors_is_refused_before_anything_is_fetched(hub, names, message):
    hub.add(NAME, {"config.json": b"{}", **dict.fromkeys(names, b"\x80\x04")})
    with pytest.raises(CheckpointError, match=message):
        find_source(NAME)
    assert hub.fetched() == []


def test_code_of_a_repository_never_comes_here_and_never_runs(hub, files, tmp_path):
    config = json.loads(files["config.json"])
    config |= {
        "auto_map": {
            "AutoModelForCausalLM": "someone/evil--modeling_evil.Evil",
            "AutoConfig": "modeling_evil.C",
        },
        "_attn_implementation_internal": "someone/evil",
        "trust_remote_code": True,
    }
    evil = {"modeling_evil.py": b"open('ran', 'w')", "config.json": json.dumps(config).encode()}
    hub.add(NAME, files | evil)
    with pytest.warns(UserWarning, match="ignored keys that describe no model"):
        model = open_checkpoint(find_source(NAME).path).load_model()
    assert type(model).__module__.startswith("transformers.models.llama")
    assert not any("evil" in path for _, path, _ in hub.asked) and not (tmp_path / "ran").exists()


def test_the_environment_may_name_another_hub_and_switch_it_off(hub, tmp_path):
    code = f"from decodekit_export.checkpoint_source import find_source; print(find_source({NAME!r}))"

    def ask(**environment: str) -> subprocess.CompletedProcess[str]:
        here = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
        environment = {**os.environ, **here, **environment}
        words = [sys.executable, "-c", code]
        return subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment)

    refused = ask(HF_HUB_OFFLINE="1")
    assert refused.returncode == 1 and "offline nothing is fetched" in refused.stderr and hub.asked == []
    assert ask().stdout == f"{NAME} at commit {hub.branches[NAME, 'main']}\n"
    assert ask(HF_HUB_OFFLINE="1").stdout == f"{NAME} at commit {hub.branches[NAME, 'main']}\n"
