"""Hostile checkpoints, opened under watch as `decodekit export` opens them. See tests/attacks/README.md."""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from safetensors.torch import load_file
from watched import Watched

from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.gate import check_parity
from decodekit_export.stop_ids import stop_ids

Attack = Callable[..., Any]
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="session")
def attack(checkpoint) -> Iterator[Attack]:
    """Load a checkpoint as the exporter does; a report of what happened."""
    watched = Watched("export", checkpoint("Llama"), checkpoint("GPT2"))
    yield lambda path: watched("checkpoint", path)
    watched.close()


@pytest.fixture
def refused(attack) -> Attack:
    return lambda path, message, *error: attack(path).refused(message, *(error or ("CheckpointError",)))


def test_a_checkpoint_that_is_in_order_is_read_and_nothing_else_happens(attack, folder):
    assert attack(folder).accepted()[0] == "LlamaForCausalLM"


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
)
def test_m2_what_is_no_file_is_refused_without_waiting_for_it(refused, folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refused(folder, f"{name}: not a regular file")
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder, f"{name}: not a regular file")


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "a/b.safetensors", "C:\\x", "x\0"])
def test_m5_an_index_names_no_file_outside(refused, folder, name):
    (folder / INDEX).write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    refused(folder, "is not a plain file name")


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "LICENSE",
    ],
)
def test_m6_a_link_out_of_the_folder_is_not_followed(refused, folder, name):
    outside = folder.parent / "outside"
    outside.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"secret")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    refused(folder, f"{name}: a link to a place outside the folder.* cp -rL")


def test_m6_links_of_the_hubs_cache_lead_to_its_blobs_and_nowhere_else(attack, refused, folder):
    cache = folder.parent / "models--someone--tiny"
    snapshot = cache / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for i, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, cache / "blobs" / str(i))
        (snapshot / file.name).symlink_to(f"../../blobs/{i}")
    report = attack(snapshot)
    assert report.error is None and {Path(path).parent for path in report.touched} <= {cache / "blobs"}
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(folder / "config.json")
    refused(snapshot, "config.json: a link to a place outside the folder")


ACTING = {
    "auto_map": {
        "AutoModelForCausalLM": "modeling_evil.Evil",
        "AutoConfig": "someone/evil--modeling_evil.Config",
    },
    "trust_remote_code": True,
    "_attn_implementation_internal": "someone/evil",
    "_attn_implementation": "someone/evil",
    "attn_implementation": "someone/evil:kernel",
    "_experts_implementation_internal": "someone/evil",
    "custom_pipelines": {"text-generation": {"impl": "modeling_evil.Pipeline"}},
    "kernel_config": {"kernel_mapping": {"RMSNorm": "someone/evil:RMSNorm"}},
    "base_model_name_or_path": "someone/evil",
    "transformers_weights": "evil.bin",
    "backbone": "someone/evil",
    "__class__": "Evil",
}


def test_m16_r8_keys_that_act_are_dropped_with_one_warning(attack, folder, change):
    for name in ("modeling_evil.py", "tokenization_evil.py", "evil.bin"):
        (folder / name).write_text("raise SystemExit('ran')")
    change(folder / "config.json", **ACTING)
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_evil.Evil", None]})
    report = attack(folder)
    assert report.accepted()[0] == "LlamaForCausalLM"
    assert [text for text in report.warned if "ignored keys" in text] == report.warned
    assert len(report.warned) == 1 and all(key in report.warned[0] for key in ACTING)
    assert not [path for path in report.opened if "evil" in path]


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", INDEX])
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 200_000, '{"a":' * 100_000, '{"a": 1' + "0" * 5000 + "}"]
)
def test_m17_a_configuration_that_is_none_is_named(refused, folder, name, text):
    (folder / name).write_text(text)
    refused(folder, f"{name}: (cannot be read|not a JSON object)")


def test_m17_a_configuration_without_end_is_not_read(refused, folder):
    with (folder / "config.json").open("r+b") as f:
        f.truncate(1 << 30)
    refused(folder, f"config.json: cannot be read .{1 << 30} bytes; at most")


def test_m18_r10_a_pattern_of_the_tokenizer_that_never_ends_is_found(attack, folder, change):
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    change(folder / "tokenizer.json", pre_tokenizer=split)
    attack(folder).refused_after(r"regex_trial\.py$", "tokenizer.json: its pattern")


def test_m21_weights_that_are_no_numbers_do_not_pass_the_gate(drawn, tmp_path):
    whole = drawn("Llama")
    graph, model = onnx.load(whole.path), copy.deepcopy(whole.model)
    weight = next(w for w in graph.graph.initializer if w.name.endswith("norm.weight"))
    weight.raw_data = struct.pack("<f", math.nan) + weight.raw_data[4:]
    model.get_parameter(weight.name)[0] = math.nan
    onnx.save(graph, tmp_path / "model.onnx")
    parity = check_parity(
        tmp_path / "model.onnx",
        model,
        whole.kind,
        whole.shape,
        context_length=whole.context_length,
        prompts=1,
    )
    assert not parity.passed and "differs from PyTorch by inf" in parity.failures[0]


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ cycler.__init__.__globals__.os.system('touch ran') }}",
        "{{ 'x' * 10 ** 10 }}",
    ],
)
def test_m22_r9_a_template_of_a_checkpoint_runs_in_the_sandbox_only(folder, tmp_path, monkeypatch, template):
    monkeypatch.chdir(tmp_path)
    (folder / "chat_template.jinja").write_text(template)
    with pytest.warns(UserWarning, match="no end of turn read off the chat template: chat template"):
        assert stop_ids(open_checkpoint(folder), 300) == [2]
    assert not (tmp_path / "ran").exists()


def test_m26_an_archive_is_not_unpacked(refused, tmp_path):
    with zipfile.ZipFile(tmp_path / "checkpoint.zip", "w") as out:
        out.writestr("../escaped", "x")
    refused(tmp_path / "checkpoint.zip", "an archive, not a folder with config.json; unpack")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.zip"]


def header(**tensors: Any) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 99_999_999) + b"{",
        header(a=entry([4], 0, 16)),
        header(a=entry([2**62, 4], 0, 16)) + bytes(16),
        header(a=entry([4], 0, 2**62)) + bytes(16),
        header(a=entry([4], 0, 16), b=entry([4], 8, 24)) + bytes(24),
        header(a=entry([4], 16, 32)) + bytes(32),
        header(a=entry([-4], 0, 16)) + bytes(16),
        header(a=entry([4], 0, 16, "PICKLE")) + bytes(16),
        header(a=entry([4], 0, 16)) + bytes(16) + b"more",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
    ],
)
def test_r5_a_header_that_lies_is_refused_before_anything_is_allocated(refused, folder, content):
    (folder / "model.safetensors").write_bytes(content)
    refused(folder, "model.safetensors: not a safetensors file")


@pytest.mark.parametrize(
    ("architecture", "key", "value"),
    [
        ("Llama", "num_hidden_layers", 10**9),
        ("Llama", "hidden_size", 2**40),
        ("Llama", "head_dim", 2**34),
        ("Llama", "intermediate_size", 2**62),
        ("Llama", "vocab_size", 2**33),
        ("Llama", "max_position_embeddings", 2**50),
        ("Llama", "hidden_size", 2**20),
        ("Llama", "vocab_size", 10**7),
        ("GPT2", "n_positions", 10**6),
        ("GPT2", "n_layer", 10**6),
        ("GPT2", "n_embd", 2**20),
    ],
)
def test_r5_sizes_that_the_weights_do_not_have_are_refused(
    attack, checkpoint, tmp_path, architecture, key, value, change
):
    folder = Path(shutil.copytree(checkpoint(architecture), tmp_path / "big"))
    change(folder / "config.json", **{key: value})
    attack(folder).refused("config.json|cannot load it", "CheckpointError")


def test_r5_an_index_that_lies_about_its_files_is_refused(refused, folder):
    placed = dict.fromkeys(load_file(folder / "model.safetensors"), "model.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": placed | {"a.weight": "model.safetensors"}}))
    refused(folder, "says that 'a.weight' is in model.safetensors, which does not have it")
    (folder / INDEX).write_text(json.dumps({"weight_map": placed | {"a": "gone.safetensors"}}))
    refused(folder, r"weights are missing \(gone.safetensors\); download them")
    for empty in ({}, [], None, {"a": 7}, {"a": None}):
        (folder / INDEX).write_text(json.dumps({"weight_map": empty}))
        refused(folder, "weight_map|not a plain file name")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "model.ckpt", "x.gguf"])
def test_r6_r7_pickled_weights_are_never_opened(attack, folder, name):
    (folder / "model.safetensors").rename(folder / name)
    report = attack(folder)
    report.refused("only (pickled weights|weights of llama.cpp)", "CheckpointError")
    assert not [path for path in report.opened if path.endswith(name)]
