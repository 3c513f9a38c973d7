from __future__ import annotations

import importlib.machinery
import json
import sys
import types

import pytest
import torch
from safetensors.torch import load_file, save_file

import decodekit_export.checkpoint
from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.errors import CheckpointError


def test_a_model_is_loaded_as_it_was_saved(folder):
    model = open_checkpoint(folder).load_model()
    saved = load_file(folder / "model.safetensors")
    assert model.dtype == torch.float32 and not model.training
    assert all(torch.equal(weight, saved[name]) for name, weight in model.named_parameters() if name in saved)


def test_half_precision_weights_come_as_float32(folder, change):
    weights = {name: weight.half() for name, weight in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    change(folder / "config.json", dtype="float16")
    assert {p.dtype for p in open_checkpoint(folder).load_model().parameters()} == {torch.float32}


def test_a_checkpoint_has_no_vote_on_code(folder, change):
    (folder / "modeling_evil.py").write_text("raise SystemExit('ran')")
    (folder / "evil.pth").write_bytes(b"")
    change(
        folder / "config.json",
        auto_map={"AutoModelForCausalLM": "modeling_evil.Evil", "AutoConfig": "modeling_evil.Config"},
        _attn_implementation_internal="someone/kernel",
        trust_remote_code=True,
    )
    named = "ignored keys that describe no model: auto_map, _attn_implementation_internal, trust_remote_code"
    with pytest.warns(UserWarning, match=named):
        source = open_checkpoint(folder)
    model = source.load_model()
    assert type(model).__module__.startswith("transformers.models.llama")
    assert not any("evil" in name for name in sys.modules)


def test_loading_opens_no_socket_and_runs_no_foreign_code(folder):
    opened: list[str] = []

    def watch(event: str, arguments: tuple) -> None:
        if event in ("socket.connect", "subprocess.Popen", "os.system"):
            opened.append(event)

    source = open_checkpoint(folder)
    sys.addaudithook(watch)
    source.load_model()
    assert opened == []


def test_an_environment_in_which_a_checkpoint_could_run_code_is_refused(folder, monkeypatch):
    monkeypatch.setattr(decodekit_export.checkpoint.transformers, "__version__", "4.57.6")
    kernels = types.ModuleType("kernels")
    kernels.__spec__ = importlib.machinery.ModuleSpec("kernels", None)
    monkeypatch.setitem(sys.modules, "kernels", kernels)
    with pytest.raises(CheckpointError, match=r"CVE-2026-4372.*transformers>=5.3.*uninstall kernels"):
        open_checkpoint(folder)


def test_pickled_weights_are_refused_with_the_way_out(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"only pickled weights \(pytorch_model.bin\).*save_pretrained"):
        open_checkpoint(folder)


def test_missing_weights_are_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"weights are missing \(model.safetensors\); download them"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.bin", 7, ["a"]]
)
def test_an_index_cannot_point_out_of_the_folder(folder, name):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match=r"is not a plain file name"):
        open_checkpoint(folder)


def test_sharded_weights_are_loaded(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(weights)}
    for shard in set(shards.values()):
        save_file(
            {n: w for n, w in weights.items() if shards[n] == shard},
            folder / shard,
            metadata={"format": "pt"},
        )
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    source = open_checkpoint(folder)
    assert len(source.weights) == 2
    assert torch.equal(source.load_model().model.norm.weight, weights["model.norm.weight"])


def test_a_missing_weight_is_an_error_and_not_a_random_one(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights missing, such as model.norm.weight"):
        open_checkpoint(folder).load_model()


def test_a_weight_nobody_uses_is_told(folder):
    weights = {**load_file(folder / "model.safetensors"), "spare.weight": torch.ones(1)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(UserWarning, match=r"weights that the model does not use: spare.weight"):
        open_checkpoint(folder).load_model()


def test_weights_of_another_shape_are_refused(folder, change):
    change(folder / "config.json", intermediate_size=64)
    with pytest.raises(CheckpointError, match=r"config.json|cannot load it"):
        open_checkpoint(folder).load_model()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"model_type": "llama"', b"[" * 100_000]
)
def test_a_broken_configuration_is_one_line_that_names_the_file(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config.json: (cannot be read|not a JSON object)") as error:
        open_checkpoint(folder)
    assert "\n" not in str(error.value)


def test_an_unknown_architecture_is_refused(folder, change):
    change(folder / "config.json", model_type="nonesuch")
    with pytest.raises(CheckpointError, match=r"transformers cannot load it: .*nonesuch"):
        open_checkpoint(folder).load_model()


def test_truncated_weights_are_refused(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model.safetensors: not a safetensors file .*download it"):
        open_checkpoint(folder)


def test_an_adapter_must_be_merged_first(folder):
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"holds an adapter; merge it"):
        open_checkpoint(folder)


def test_quantised_weights_are_refused(folder, change):
    change(folder / "config.json", quantization_config={"quant_method": "gptq"})
    with pytest.raises(CheckpointError, match=r"weights are quantised"):
        open_checkpoint(folder)


def test_a_folder_without_configuration_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"no config.json, so no checkpoint"):
        open_checkpoint(tmp_path)


def test_a_checkpoint_without_tokenizer_json_says_how_to_write_one(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer.json; write one with .*save_pretrained"):
        _ = open_checkpoint(folder).tokenizer


def test_the_chat_template_comes_from_any_of_its_places(folder, change):
    change(folder / "tokenizer_config.json", chat_template=None)
    assert open_checkpoint(folder).chat_template is None
    change(folder / "tokenizer_config.json", chat_template="one")
    assert open_checkpoint(folder).chat_template == "one"
    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "two"}]
    change(folder / "tokenizer_config.json", chat_template=several)
    assert open_checkpoint(folder).chat_template == "two"
    (folder / "chat_template.jinja").write_text("three")
    assert open_checkpoint(folder).chat_template == "three"


def test_the_licence_of_the_weights_is_found(folder):
    assert open_checkpoint(folder).license is None
    (folder / "LICENSE.md").write_text("free")
    assert open_checkpoint(folder).license == "free"
