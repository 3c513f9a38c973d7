"""LoRAs: merged, or kept beside the model and chosen by each request."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import decodekit
from decodekit import batch, places
from decodekit.errors import BundleError, ParameterError
from decodekit.replay import replay
from decodekit.verify import verify
from decodekit_export import adapters, bundle
from decodekit_export.bundle import export_bundle
from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.errors import CheckpointError, ExportError, ParityError
from decodekit_export.lora import read_lora
from decodekit_export.quantization import Quantization

PROMPTS = [[5, 9, 3], [7], [11, 4, 6, 8, 2, 13, 5]]
NAMES = (None, "small", "wide")
SIZES = {"q_proj": (32, 32), "k_proj": (32, 16), "v_proj": (32, 16), "o_proj": (32, 32)}
SIZES |= {"gate_proj": (32, 48), "up_proj": (32, 48), "down_proj": (48, 32)}


def save_lora(folder, rank, targets, *, layers=(0, 1), seed=0, **config):
    """As peft writes it, with changes as large as the weights."""
    folder.mkdir(parents=True)
    random, tensors = torch.Generator().manual_seed(seed), {}
    for layer in layers:
        for target in targets:
            part = "mlp" if target in ("gate_proj", "up_proj", "down_proj") else "self_attn"
            name = f"base_model.model.model.layers.{layer}.{part}.{target}"
            inputs, outputs = SIZES[target]
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, inputs, generator=random)
            tensors[f"{name}.lora_B.weight"] = torch.randn(outputs, rank, generator=random) * 0.05
    save_file(tensors, folder / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank}
    (folder / "adapter_config.json").write_text(
        json.dumps(fields | {"target_modules": targets, "layers_to_transform": [*layers]} | config)
    )
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    return {
        "small": save_lora(root / "small", 2, ["q_proj", "v_proj"], layers=[1]),
        "wide": save_lora(root / "wide", 5, list(SIZES), seed=1, use_rslora=True),
    }


@pytest.fixture(scope="module")
def base(new_checkpoint, tmp_path_factory):
    """Heads so large that the in-place graph makes query, key and value in one product."""
    return new_checkpoint(
        tmp_path_factory.mktemp("base") / "llama", num_attention_heads=2, num_key_value_heads=1
    )


@pytest.fixture(scope="module", params=["in_place", "concatenating"])
def decoder(request, base, folders, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "bundle"
    made = export_bundle(base, out, cache=request.param, adapters=folders, prompts=4)
    rows = {name for name in made.inputs if name.startswith("adapter_rows")}
    assert rows == (
        {"adapter_rows.1", "adapter_rows.3"} if request.param == "in_place" else {"adapter_rows.1"}
    )
    with decodekit.load(out) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def models(base, folders):
    """PyTorch with each adapter merged."""
    made = {}
    for name in NAMES:
        made[name] = open_checkpoint(base).load_model()
        if name:
            read_lora(folders[name], made[name]).merge(made[name])
    return made


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def test_each_request_decodes_under_its_own_adapter_beside_others(decoder, models):
    requests = [(ids, name) for ids in PROMPTS for name in NAMES]
    streams = [
        decoder.stream(ids, max_new_tokens=12, adapter=name, ignore_eos=True) for ids, name in requests
    ]
    for (ids, name), stream in zip(requests, streams, strict=True):
        list(stream)
        own = list(stream.completion.ids)
        expected = logits(models[name], ids + own).argmax(-1)[len(ids) - 1 : -1].tolist()
        assert own == expected, name
    answers = {name: decoder.generate(PROMPTS[0], adapter=name, max_new_tokens=12).ids for name in NAMES}
    assert len(set(answers.values())) == 3


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_asks_the_model_asks_it_under_the_adapter(decoder, models, name):
    ids = PROMPTS[2]
    expected = logits(models[name], ids)
    session = decoder.session(ids, adapter=name)
    assert np.abs(session.logits() - expected[-1]).max() < 1e-4
    session.append(4)
    twin = session.fork()
    session.rewind(len(ids))
    assert np.abs(session.logits() - expected[-1]).max() < 1e-4
    assert np.abs(twin.logits() - logits(models[name], [*ids, 4])[-1]).max() < 1e-4

    scored = decoder.score(ids, adapter=name)
    said = torch.log_softmax(torch.tensor(expected), -1)[range(len(ids) - 1), ids[1:]]
    assert np.allclose([t.logprob for t in scored.tokens[1:]], said, atol=1e-4)

    (beam,) = decoder.beam(ids, beams=1, max_new_tokens=6, ignore_eos=True, adapter=name)
    plain = decoder.generate(ids, max_new_tokens=6, ignore_eos=True, adapter=name)
    assert beam.ids == plain.ids
    several = decoder.beam(ids, beams=3, n=1, max_new_tokens=5, ignore_eos=True, adapter=name)[0]
    total = sum(decoder.score([*ids, *several.ids], adapter=name).tokens[i].logprob for i in range(7, 12))
    assert total == pytest.approx(several.score * 5, abs=1e-3)


def test_a_record_names_the_adapter_and_holds_only_under_it(decoder):
    record = decoder.generate(
        PROMPTS[0], "temperature=0.9", adapter="wide", seed=3, max_new_tokens=8
    ).record()
    assert record.adapter == "wide"
    assert replay(decoder, record).holds
    assert verify(decoder, record).holds
    other = type(record).from_json(record.to_json() | {"adapter": "small"})
    assert not replay(decoder, other).holds


def test_prefixes_are_not_shared_between_adapters(decoder, monkeypatch):
    for module in (places, batch):
        monkeypatch.setattr(module, "CHUNK", 16)
    long = [3 + i % 20 for i in range(80)]
    with decodekit.load(decoder.bundle.path, prefix_bytes=1 << 24) as keeps:
        for name in ("wide", None, "small", "wide", None):
            options = {"adapter": name, "max_new_tokens": 4, "ignore_eos": True}
            assert keeps.generate(long, **options).ids == decoder.generate(long, **options).ids
        in_slots = decoder.bundle.cache.kind == "in_place"  # others save nothing
        assert keeps.engine.meter.reused == (2 * 64 if in_slots else 0)


def test_alone_or_in_company_the_same_logits(decoder):
    def decode(company):
        streams = [
            decoder.stream(PROMPTS[0], adapter=name, max_new_tokens=10, logprobs=0, ignore_eos=True)
            for name in ("small", *company)
        ]
        for stream in streams:
            list(stream)
        return [t.logprob for t in streams[0].completion.tokens]

    alone = decode([])
    assert np.allclose(alone, decode([None, "wide", "small", None]), atol=1e-5)
    assert np.allclose(alone, decode(["wide"]), atol=1e-5)


def test_rounded_weights_take_adapters_too(base, folders, tmp_path):
    made = export_bundle(
        base,
        tmp_path / "b",
        adapters=folders,
        prompts=2,
        quantization=Quantization("int8", 16),
    )
    assert made.manifest["quality"] and all(a["parity"]["passed"] for a in made.manifest["adapters"].values())
    with decodekit.load(made.path) as decoder:
        answers = {decoder.generate(PROMPTS[0], adapter=n, max_new_tokens=12).ids for n in NAMES}
        assert len(answers) == 3


def test_a_merged_adapter_is_in_the_weights(base, folders, models, tmp_path):
    made = export_bundle(base, tmp_path / "b", merge=folders["wide"], prompts=2)
    assert not made.adapters
    with decodekit.load(made.path) as decoder:
        got = decoder.session(PROMPTS[2]).logits()
    assert np.abs(got - logits(models["wide"], PROMPTS[2])[-1]).max() < 1e-4


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_peft_computes_the_same(base, folders, models):
    peft = pytest.importorskip("peft", reason="the extra lora is not installed")
    for name, folder in folders.items():
        model = open_checkpoint(base).load_model()
        config = json.loads((folder / "adapter_config.json").read_text())
        with_peft = peft.PeftModel.from_pretrained(model, folder, config=peft.LoraConfig(**config))
        with torch.no_grad():
            got = with_peft(torch.tensor([PROMPTS[2]])).logits[0].numpy()
        assert np.abs(got - logits(models[name], PROMPTS[2])).max() < 1e-4
        assert np.abs(got - logits(models[None], PROMPTS[2])).max() > 0.1


def test_an_unknown_adapter_is_refused_by_name(decoder):
    with pytest.raises(ParameterError, match=r"adapter: .* has none named 'other'; there are small, wide"):
        decoder.generate(PROMPTS[0], adapter="other")
    with pytest.raises(ParameterError, match="adapter must be a name or None, got 3"):
        decoder.generate(PROMPTS[0], adapter=3)
    with pytest.raises(ParameterError, match="none named 'other'"):
        decoder.score(PROMPTS[0], adapter="other")
    with (
        decodekit.load("tagline") as plain,
        pytest.raises(ParameterError, match="export the bundle with --adapter"),
    ):
        plain.generate("a", adapter="small")


CONFIGS = {
    "use_dora": ({"use_dora": True}, "use_dora is true, which a low-rank product cannot express"),
    "bias": ({"bias": "all"}, 'bias is "all"'),
    "modules": ({"modules_to_save": ["lm_head"]}, "modules_to_save is"),
    "kind": ({"peft_type": "IA3"}, "peft_type must be 'LORA', got 'IA3'"),
    "unheard of": ({"warp": 1}, "warp is 1"),
    "alpha": ({"lora_alpha": None}, "lora_alpha must be a number, got None"),
    "pattern": ({"alpha_pattern": {"(a+)+b": 3}}, "must be the end of a module's name"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_what_is_no_plain_lora_is_refused(case, checkpoint, tmp_path):
    changes, message = CONFIGS[case]
    folder = save_lora(tmp_path / "a", 2, ["q_proj"], **changes)
    with pytest.raises(CheckpointError, match=message):
        read_lora(folder, open_checkpoint(checkpoint("Llama")).load_model())


def test_matrices_that_do_not_fit_are_refused(checkpoint, tmp_path):
    model = open_checkpoint(checkpoint("Llama")).load_model()
    folder = save_lora(tmp_path / "a", 2, ["q_proj"])
    tensors = load_file(folder / "adapter_model.safetensors")
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    for changed, message in (
        ({f"{name}.lora_B.weight": torch.zeros(31, 2)}, r"must have A \[r, 32\] and B \[32, r\]"),
        (
            {"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": torch.zeros(2, 32)},
            "no product of",
        ),
        (
            {"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(2, 32)},
            "no matrix of a plain",
        ),
        ({f"{name}.lora_magnitude_vector": torch.zeros(32)}, "no matrix of a plain LoRA"),
    ):
        save_file(tensors | changed, folder / "adapter_model.safetensors")
        with pytest.raises(CheckpointError, match=message):
            read_lora(folder, model)
    (folder / "adapter_model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_lora(folder, model)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no adapter_model\.safetensors"):
        read_lora(folder, model)


def test_a_link_to_a_file_elsewhere_is_not_followed(checkpoint, tmp_path):
    model = open_checkpoint(checkpoint("Llama")).load_model()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        folder = save_lora(tmp_path / name, 2, ["q_proj"])
        (folder / name).rename(tmp_path / f"elsewhere-{name}")
        (folder / name).symlink_to(tmp_path / f"elsewhere-{name}")
        with pytest.raises(CheckpointError, match=f"{name}: a link to a place outside the folder"):
            read_lora(folder, model)


def test_a_product_that_takes_none_is_named(checkpoint, tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    name = "base_model.model.transformer.h.0.attn.c_attn"
    save_file(
        {f"{name}.lora_A.weight": torch.ones(1, 32), f"{name}.lora_B.weight": torch.ones(96, 1)},
        folder / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "fan_in_fan_out": True}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ExportError, match="merge it with --merge"):
        export_bundle(checkpoint("GPT2"), tmp_path / "b", adapters={"a": folder}, prompts=1)
    assert not (tmp_path / "b").exists()
    model = open_checkpoint(checkpoint("GPT2")).load_model()
    lora = read_lora(folder, model)
    with lora.applied(model):
        beside = logits(model, PROMPTS[2])
    lora.merge(model)
    assert np.abs(logits(model, PROMPTS[2]) - beside).max() < 1e-4


def test_a_wrong_adapter_file_is_refused_by_the_gate(base, folders, tmp_path, monkeypatch):
    def write(path, products, lora):
        wrong = type(lora)({n: (a, b * 1.01) for n, (a, b) in lora.changes.items()})
        adapters.write_adapter(path, products, wrong)

    monkeypatch.setattr(bundle, "write_adapter", write)
    with pytest.raises(ParityError, match="the graph under the adapter differs from the model"):
        export_bundle(base, tmp_path / "b", adapters=folders, prompts=1)
    assert not (tmp_path / "b").exists()


def test_a_file_that_is_no_adapter_of_the_graph_is_refused(decoder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(decoder.bundle.path, broken)
    file = Path("adapter-small.onnx_adapter")
    (broken / file).write_bytes((broken / "adapter-wide.onnx_adapter").read_bytes())
    with pytest.raises(BundleError, match=r"adapter-small\.onnx_adapter: (sha256 differs|\d+ bytes)"):
        decodekit.load(broken)
    manifest = json.loads((broken / "decodekit.json").read_text())
    manifest["files"][str(file)] = manifest["files"]["adapter-wide.onnx_adapter"]
    (broken / "decodekit.json").write_text(json.dumps(manifest))
    with pytest.raises(
        BundleError, match=r"must be float32 \(.*\), got float32 \(.*\); export the bundle again"
    ):
        decodekit.load(broken)
    manifest["adapters"]["small"]["rank"] = 0
    (broken / "decodekit.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"adapters\.small\.rank must be in \[1, 4096\], got 0"):
        decodekit.load(broken)
