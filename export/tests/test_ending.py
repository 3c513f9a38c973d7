"""Tuned models stop: in PyTorch, in the bundle and through the engine. And what a run shows on the way."""

from __future__ import annotations

import itertools
import json

import pytest
import torch

import decodekit
from decodekit.cli import main
from decodekit.errors import ParameterError
from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.data import load
from decodekit_export.data_options import reading_of
from decodekit_export.ending import measure_ending, spread
from decodekit_export.finetune import finetune
from decodekit_export.pretrained import open_pretrained
from decodekit_export.schedule import learning_rate
from decodekit_export.settings import Settings, Watching
from decodekit_export.torch_model import TorchModel

WORDS = ["apple", "river", "stone", "cloud", "tiger", "music", "bread", "night", "green"]
PROMPTS = [" ".join(words) for words in itertools.permutations(WORDS, 3)]  # 504
HELD_OUT = (PROMPTS[::5] + PROMPTS[1::5])[:200]


def answer(prompt):
    """The first word, said again: some answers are longer than others."""
    return f" {prompt.split()[0]}!"


def rows(prompts):
    pairs = [{"prompt": f"{prompt}:", "completion": answer(prompt)} for prompt in prompts]
    return "".join(json.dumps(pair) + "\n" for pair in pairs)


@pytest.fixture(scope="module")
def files(tmp_path_factory, new_checkpoint):
    """A base that pads with its end token, rows to train on, and 200 others."""
    folder = tmp_path_factory.mktemp("ending")
    options = {"template": None, "pad_token_id": 2, "eos_token_id": 2, "initializer_range": 0.05}
    new_checkpoint(folder / "base", **options)
    (folder / "train.jsonl").write_text(rows(p for p in PROMPTS if p not in HELD_OUT))
    (folder / "held-out.jsonl").write_text(rows(HELD_OUT))
    return folder


@pytest.fixture(scope="module")
def tuned(files):
    """The record of a run that went on to a bundle."""
    words = f"finetune {files / 'base'} {files / 'train.jsonl'} --valid {files / 'held-out.jsonl'} --epochs 8"
    words += " --learning-rate 3e-3 --endings 200 --samples 2 --sample-tokens 12 --evaluate-every 50"
    words += f" --stopping 0.99 --require-stopping --out {files / 'tuned'} --export {files / 'bundle'}"
    assert main(words.split()) == 0
    return json.loads((files / "tuned" / "run.json").read_text())


def test_at_least_99_percent_of_200_held_out_prompts_are_answered_to_the_end(files, tuned):
    assert tuned["ending"]["asked"] == tuned["bundle_ending"]["asked"] == 200
    assert tuned["ending"]["ended"] >= 198  # decodekit's loop on PyTorch
    assert tuned["bundle_ending"]["ended"] >= 198  # Decoder.generate
    start = open_pretrained(files / "base")
    held_out = load(files / "held-out.jsonl", start.chat, reading_of(Settings(), start.context_length)).rows
    with decodekit.load(files / "bundle") as decoder:
        assert decoder.bundle.stop_ids == {2}
        assert measure_ending(decoder.model, held_out, (2,), 200).ended >= 198  # the loop on the graph
        together = decoder.generate([row.prompt for row in held_out], max_new_tokens=40)  # all in one engine
    assert sum(completion.finish_reason == "stop" for completion in together) >= 198
    right = [one.text == answer(prompt) for one, prompt in zip(together, HELD_OUT, strict=True)]
    assert sum(right) > 100  # it has learnt the task, not only to stop


def test_the_run_tells_how_loss_accuracy_and_answers_went(tuned):
    first, *_, last = tuned["evaluations"]
    assert first["step"] == 0 and last["loss"] < 0.5 < first["loss"]
    assert first["accuracy"] < 0.1 < 0.9 < last["accuracy"] <= 1
    (chosen,) = [e for e in tuned["evaluations"] if e["step"] == tuned["chosen_step"]]
    assert (tuned["valid_after"], tuned["valid_accuracy"]) == (chosen["loss"], chosen["accuracy"])
    assert {s["step"] for s in tuned["samples"]} == {e["step"] for e in tuned["evaluations"]}
    *_, sample = tuned["samples"]
    assert sample["finish_reason"] == "stop" and sample["answer"].strip().endswith("!")


def test_a_model_that_does_not_stop_is_told_and_mended(files, tmp_path, capsys):
    words = f"finetune {files / 'base'} {files / 'train.jsonl'} --max-steps 1 --endings 4 --out"
    assert main([*words.split(), str(tmp_path / "a")]) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "0 of 4 greedy answers ended" in shown
    assert (
        "hardly learnt to stop: 0% of its answers end by a stop token, 90% are wanted; train longer" in shown
    )
    assert main([*words.split(), str(tmp_path / "b"), "--require-stopping"]) == 1
    assert (tmp_path / "b" / "model.safetensors").is_file()


def test_the_loop_of_decodekit_on_pytorch_says_what_transformers_generate_says(files, tuned):
    start, model = open_pretrained(files / "base"), open_checkpoint(files / "tuned").load_model()
    held_out = load(files / "held-out.jsonl", start.chat, reading_of(Settings(), start.context_length)).rows
    for row in spread(held_out, 5):
        prompt = torch.tensor([row.prompt])
        theirs = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=20
        )
        asked, ids = TorchModel(model, 96), list(row.prompt)
        logits, cache = asked(torch.tensor(ids).numpy(), asked.new_cache())
        while len(ids) < theirs.shape[1]:
            ids.append(int(logits[-1].argmax()))
            logits, cache = asked(torch.tensor(ids[-1:]).numpy(), cache)
        assert ids == theirs[0].tolist()
        again, _ = asked(torch.tensor(ids[5:]).numpy(), cache.keep(5), last=2)
        torch.testing.assert_close(torch.tensor(again[-1]), torch.tensor(logits[-1]), atol=1e-4, rtol=1e-4)


# The course of a run


def tune(files, tmp_path, settings, **watching):
    data = files / "train.jsonl"
    return finetune(
        files / "base", data, tmp_path / "out", settings, watching=Watching(endings=1, **watching)
    )


def test_training_ends_early_and_the_best_weights_are_kept(files, tmp_path):
    settings = Settings(
        max_steps=40,
        learning_rate=3.0,
        warmup=0.5,
        valid=files / "held-out.jsonl",
        evaluate_every=2,
        patience=3,
    )
    report = tune(files, tmp_path, settings)
    losses = {e["step"]: e["loss"] for e in report.evaluations}
    assert report.steps < 40 and report.steps == report.chosen_step + 3 * 2
    assert report.valid_after == losses[report.chosen_step] == min(losses.values())


def test_samples_are_drawn_by_any_strategy_and_repeat(files, tmp_path):
    settings = Settings(max_steps=2, evaluate_every=1)
    options = {"samples": 2, "chain": "temperature=0.8, top_p=0.9", "sample_tokens": 5}
    first = tune(files, tmp_path / "a", settings, **options).samples
    assert len(first) == 6 and first == tune(files, tmp_path / "b", settings, **options).samples
    with pytest.raises(Exception, match="no_such"):
        tune(files, tmp_path / "c", settings, samples=1, chain="no_such=1")


def test_schedules_by_hand():
    assert [learning_rate(share, 0.2, "linear") for share in (0.1, 0.2, 0.6, 1.0)] == pytest.approx(
        [0.5, 1, 0.5, 0]
    )
    assert [learning_rate(share, 0.2, "constant") for share in (0.1, 0.6, 1.0)] == pytest.approx([0.5, 1, 1])


def test_float16_needs_a_gpu(files, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParameterError, match="precision float16 needs a GPU"):
        tune(files, tmp_path, Settings(max_steps=1, precision="float16"))


def test_recomputed_activations_give_the_same_weights(files, tmp_path):
    kept = tune(files, tmp_path / "a", Settings(max_steps=3))
    again = tune(files, tmp_path / "b", Settings(max_steps=3, recompute=True))
    assert again.losses == kept.losses


def test_the_loss_is_drawn(files, tmp_path):
    pytest.importorskip("matplotlib", reason="pip install 'decodekit-export[plot]'")
    tune(files, tmp_path, Settings(max_steps=3, valid=files / "held-out.jsonl"))
    assert (tmp_path / "out" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "out" / "loss.svg").read_text()


def test_tensorboard_gets_every_figure(files, tmp_path):
    pytest.importorskip("tensorboard", reason="pip install 'decodekit-export[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tune(files, tmp_path, Settings(max_steps=3), tensorboard=tmp_path / "figures")
    figures = EventAccumulator(str(tmp_path / "figures")).Reload()
    assert {"loss", "learning_rate", "grad_norm"} <= {*figures.Tags()["scalars"]}
    assert [event.step for event in figures.Scalars("loss")] == [1, 2, 3]


def test_tensorboard_that_is_not_installed_is_named(files, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ParameterError, match=r"decodekit-export\[tensorboard\]"):
        tune(files, tmp_path, Settings(max_steps=1), tensorboard=tmp_path / "figures")
