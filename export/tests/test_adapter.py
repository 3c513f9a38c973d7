"""Adapters: what is trained, what is written, and that merging them changes nothing."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from safetensors.torch import load_file

from decodekit.errors import ParameterError
from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.finetune import finetune
from decodekit_export.settings import Adapter, Saving, Settings, Watching

QUICK = Settings(epochs=20, batch_size=4, learning_rate=1e-2, adapter=Adapter(rank=4))


@pytest.fixture
def tune(checkpoint, tmp_path):
    data = tmp_path / "pairs.jsonl"
    pairs = [("Say yes.", "Yes."), ("a", "b"), ("Goodbye", "See you!")]
    data.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in pairs))

    def run(settings=QUICK, saving=None):
        out = tmp_path / "out"
        report = finetune(
            checkpoint("Llama"), data, out, settings, saving=saving, watching=Watching(endings=3)
        )
        return report, out

    return run


def logits(model):
    with torch.no_grad():
        return model(torch.arange(3, 40)[None]).logits


@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning")
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_the_merged_weights_are_the_base_with_the_adapter_that_stands_beside(tune, checkpoint, kind):
    report, out = tune(Settings(epochs=20, batch_size=4, learning_rate=1e-2, adapter=Adapter(kind, rank=4)))
    base = open_checkpoint(checkpoint("Llama")).load_model()
    before = logits(base)
    with_adapter = logits(peft.PeftModel.from_pretrained(base, out / "adapter").eval())
    merged = logits(open_checkpoint(out).load_model())
    torch.testing.assert_close(merged, with_adapter, atol=2e-5, rtol=1e-5)
    assert (merged - before).abs().max() > 0.1
    assert report.trained_parameters < report.parameters / 2
    config = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(checkpoint("Llama")) and config["use_dora"] == (
        kind == "dora"
    )
    assert sorted(p.name for p in (out / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_without_merging_only_the_adapter_and_the_tokenizer_are_written(tune):
    _, out = tune(saving=Saving(merge=False))
    assert {p.name for p in out.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
    }
    assert not (out / "model.safetensors").exists()


def test_only_the_named_modules_get_an_adapter(tune):
    _, out = tune(Settings(max_steps=1, adapter=Adapter(rank=2, targets=("q_proj", "v_proj"))))
    names = load_file(out / "adapter" / "adapter_model.safetensors")
    assert len(names) == 8 and all("q_proj" in name or "v_proj" in name for name in names)


def test_a_module_that_is_not_there_is_named(tune):
    with pytest.raises(ParameterError, match=r"finetune: targets: .*no_such"):
        tune(Settings(max_steps=1, adapter=Adapter(targets=("no_such",))))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "ia3"}, "finetune: method must be one of lora, dora, got 'ia3'"),
        ({"rank": 0}, "finetune: rank must be in [1, inf), got 0"),
        ({"alpha": 0}, "finetune: alpha must be in [1, inf), got 0"),
        ({"dropout": 1}, "finetune: dropout must be in [0, 1), got 1"),
    ],
)
def test_settings_are_checked(wrong, message):
    with pytest.raises(ParameterError) as error:
        Adapter(**wrong)
    assert str(error.value) == message
