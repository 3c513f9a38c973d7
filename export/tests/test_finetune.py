"""Fine-tuning: the loss and its equalities, the stops, what a run shows and what it leaves."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from decodekit.cli import main
from decodekit.errors import NumericalError, ParameterError
from decodekit_export import finetune as finetuning
from decodekit_export import trainer
from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.checks import check_rows
from decodekit_export.collate import IGNORED, Collate, Items
from decodekit_export.data import Row
from decodekit_export.evaluation import Evaluation, sums
from decodekit_export.faults import DataError
from decodekit_export.finetune import finetune
from decodekit_export.loss import following, loss_of_trained, only_trained, token_losses
from decodekit_export.pretrained import open_pretrained
from decodekit_export.progress import Display, spell
from decodekit_export.schedule import learning_rate
from decodekit_export.settings import Settings, Watching
from decodekit_export.stop_ids import stop_ids
from decodekit_export.trainer import CompletionTrainer

SHARED = Path(os.environ.get("DECODEKIT_SHARED", Path(__file__).parents[3] / "shared"))
STORIES = SHARED / "models" / "stories260k"
GSM8K = SHARED / "data" / "gsm8k-train.jsonl"

PAIRS = [
    ("What is the capital of France?", "Paris"),
    ("Name a colour.", "Blue, like the sky on a clear day."),
    ("Say yes.", "Yes."),
    ("Count to five.", "One, two, three, four, five."),
    ("Who wrote Hamlet?", "Shakespeare did."),
    ("a", "b"),
    ("Is water wet?", "That depends on whom you ask, and why."),
    ("Goodbye", "See you!"),
]
QUICK = Settings(epochs=2, batch_size=4, learning_rate=1e-3, warmup=0.1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in PAIRS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def base(checkpoint):
    return checkpoint("Llama")


@pytest.fixture
def screen():
    return io.StringIO()


@pytest.fixture
def display(screen):
    return Display(Console(file=screen, width=100))


@pytest.fixture
def tune(base, data, tmp_path, display):
    """Run, and give report and folder."""

    def run(settings=QUICK, *, base=base, data=data, name="out", endings=1):
        watching = Watching(endings=endings)
        report = finetune(base, data, tmp_path / name, settings, watching=watching, display=display)
        return report, tmp_path / name

    return run


def rows_of(lengths: list[tuple[int, int]]) -> list[Row]:
    """Rows of so many prompt and completion tokens, of ids that never repeat within a row."""
    return [
        Row(n, tuple(range(10, 10 + asked + answered)), (False,) * asked + (True,) * answered)
        for n, (asked, answered) in enumerate(lengths, start=1)
    ]


# The loss


def test_labels_are_the_ids_where_the_mask_says_so():
    batch = Collate(pad_id=0)(
        Items([Row(1, (5, 6, 7, 2), (False, False, True, True)), Row(2, (5, 9), (False, True))])
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7, 2], [5, 9, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 7, 2], [IGNORED, 9, IGNORED, IGNORED]]


def test_a_padding_id_that_is_the_stop_id_changes_neither_loss_nor_gradient(base):
    start = open_pretrained(base)
    stop = start.stop_ids[0]
    rows = [replace(row, ids=(*row.ids[:-1], stop)) for row in rows_of([(3, 2), (4, 9), (1, 1)])]
    results = []
    for pad_id in (0, stop, 77):
        model, batch = start.load_model(), Collate(pad_id)(Items(rows))
        assert (batch["labels"] == stop).sum() == 3  # the stop token is trained in every row, padding never
        next_ids = following(batch["labels"])
        with only_trained(model, next_ids):
            loss = loss_of_trained(model(batch["input_ids"]), next_ids)
        loss.backward()
        results.append((loss.item(), [p.grad for p in model.parameters()]))
    for loss, gradients in results[1:]:
        assert loss == pytest.approx(results[0][0], abs=1e-6)
        for gradient, first in zip(gradients, results[0][1], strict=True):
            torch.testing.assert_close(gradient, first, atol=1e-6, rtol=0)


def test_an_embedding_that_the_model_calls_padding_is_trained_all_the_same(new_checkpoint, tmp_path):
    folder = new_checkpoint(
        tmp_path / "pad-is-eos", pad_token_id=2, eos_token_id=2, tie_word_embeddings=False
    )
    model = open_pretrained(folder).load_model()
    logits = model(torch.tensor([[5, 2, 6, 7]])).logits
    token_losses(logits, following(torch.tensor([[IGNORED, IGNORED, 6, 7]]))).sum().backward()
    assert model.get_input_embeddings().weight.grad[2].abs().max() > 0


def test_the_loss_is_the_mean_over_trained_tokens_by_hand():
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [1.0, 1.0, 1.0]]]))
    labels = torch.tensor([[1, 1, IGNORED]])
    outputs = type("Outputs", (), {"logits": logits})
    expected = -(torch.tensor(0.25).log() + torch.tensor(0.8).log()) / 2
    assert loss_of_trained(outputs, labels) == pytest.approx(expected.item(), rel=1e-6)
    assert loss_of_trained(outputs, labels, num_items_in_batch=8) == pytest.approx(
        expected.item() / 4, rel=1e-6
    )


def test_a_padded_batch_has_the_loss_of_its_rows_alone(base):
    model = open_pretrained(base).load_model()
    rows = rows_of([(3, 2), (4, 9), (1, 1), (7, 5)])
    apart = sum(Evaluation.of(sums(model, [row], 1)).loss * sum(row.mask) for row in rows) / 17
    for batch_size in (2, 3, 4):
        assert Evaluation.of(sums(model, rows, batch_size)).loss == pytest.approx(apart, abs=1e-6)


@pytest.mark.parametrize("accumulate", [2, 4, 8])
def test_accumulated_batches_have_loss_and_gradient_of_one_large_batch(tune, monkeypatch, accumulate):
    def first_step(settings, name):
        seen = []

        def keep(trainer, *_):
            seen.extend(p.grad.clone() for p in trainer.model.parameters())

        monkeypatch.setattr(CompletionTrainer, "_clip_grad_norm", keep)
        report, _ = tune(replace(settings, max_steps=1), name=name)
        return report.losses[0][1], seen

    loss, gradient = first_step(replace(QUICK, batch_size=8), "large")
    parts_loss, parts_gradient = first_step(
        replace(QUICK, batch_size=8 // accumulate, accumulate=accumulate), "parts"
    )
    assert parts_loss == pytest.approx(loss, rel=1e-6)
    for part, whole in zip(parts_gradient, gradient, strict=True):
        torch.testing.assert_close(part, whole, atol=1e-6, rtol=1e-6)


def test_several_steps_of_accumulated_batches_end_at_the_same_weights(tune):
    settings = replace(QUICK, epochs=4, batch_size=4)
    report, out = tune(settings, name="large")
    parts, parts_out = tune(replace(settings, batch_size=1, accumulate=4), name="parts")
    assert [loss for _, loss in parts.losses] == pytest.approx([loss for _, loss in report.losses], rel=1e-6)
    for whole, part in zip(_weights(out), _weights(parts_out), strict=True):
        torch.testing.assert_close(part, whole, atol=1e-5, rtol=0)


def test_packed_rows_end_at_the_same_weights_apart_or_by_a_mask(tune, monkeypatch):
    settings = replace(QUICK, epochs=4, batch_size=2, pack=90)
    entered = []
    rows_apart = trainer.rows_apart
    monkeypatch.setattr(trainer, "rows_apart", lambda *given: entered.append(1) or rows_apart(*given))
    apart, out = tune(settings, name="apart")
    assert len(entered) == apart.steps
    monkeypatch.setattr(finetuning, "attends_apart", lambda *_: False)
    masked, masked_out = tune(settings, name="masked")
    assert len(entered) == apart.steps == masked.steps
    for one, other in zip(_weights(out), _weights(masked_out), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def _weights(folder: Path) -> list[torch.Tensor]:
    return list(open_checkpoint(folder).load_model().parameters())


# A run


def test_a_tuned_model_says_the_completions_and_stops(tune, data):
    report, _ = tune(replace(QUICK, max_steps=120, learning_rate=3e-3, valid=data), endings=8)
    assert report.valid_after < 0.05 < report.valid_before
    assert (report.ending.ended, report.ending.asked) == (8, 8)
    assert report.losses[-1][1] < report.losses[0][1]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tune):
    first, again, other = (
        _weights(tune(replace(QUICK, seed=seed), name=name)[1])
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert not all(torch.equal(x, y) for x, y in zip(first, other, strict=True))


def test_rows_may_be_shuffled_freely(tune):
    report, _ = tune(replace(QUICK, order="shuffled"))
    assert report.steps == 4


def test_the_result_is_a_checkpoint_with_every_stop_id(tune, base):
    report, out = tune()
    result, before = open_checkpoint(out), open_checkpoint(base)
    assert (out / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert result.chat_template == before.chat_template == (out / "chat_template.jinja").read_text()
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [2, 4]
    assert stop_ids(result, 300) == list(report.stop_ids) == [2, 4]  # </s> and <|im_end|>
    assert result.load_model().config.use_cache


def test_the_record_tells_how_the_result_came_about(tune, data):
    report, out = tune(replace(QUICK, valid=data))
    record = json.loads((out / "run.json").read_text())
    assert record == json.loads(json.dumps(report.to_json()))
    assert record["began"]["learning_rate"] == 1e-3
    assert record["counts"]["rows"] == 8
    assert record["steps"] == 4 and [step for step, _ in record["losses"]] == [1, 2, 3, 4]
    assert record["example"].endswith("<|im_start|>assistant\n⟦Paris<|im_end|>⟧")
    assert record["began"]["version of torch"] == torch.__version__


def test_training_ends_when_the_time_is_over(tune):
    report, _ = tune(replace(QUICK, epochs=10_000, max_seconds=1.0))
    assert 1.0 <= report.seconds < 3.0
    assert report.epochs < 10_000


def test_the_learning_rate_rises_in_a_line_and_falls_in_a_cosine():
    assert [learning_rate(share, 0.2) for share in (0.0, 0.1, 0.2)] == pytest.approx([0.0, 0.5, 1.0])
    assert [learning_rate(share, 0.2) for share in (0.6, 1.0, 1.5)] == pytest.approx([0.5, 0.0, 0.0])
    assert learning_rate(0.0, 0.0) == 1.0


# What is refused


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"learning_rate": 0}, "finetune: learning_rate must be in (0, inf), got 0"),
        ({"learning_rate": float("nan")}, "finetune: learning_rate must be in (0, inf), got nan"),
        ({"epochs": 0}, "finetune: epochs must be in (0, inf), got 0"),
        ({"batch_size": 0}, "finetune: batch_size must be in [1, inf), got 0"),
        ({"accumulate": 1.5}, "finetune: accumulate must be a whole number in [1, inf), got 1.5"),
        ({"warmup": 1}, "finetune: warmup must be in [0, 1), got 1; it is a share of the run"),
        ({"max_seconds": -1}, "finetune: max_seconds must be in (0, inf), got -1"),
        ({"max_steps": 0}, "finetune: max_steps must be in [1, inf), got 0"),
        ({"limit": 0}, "finetune: limit must be in [1, inf), got 0"),
        ({"max_length": 1}, "finetune: max_length must be in [2, inf), got 1"),
        ({"window": "cut"}, "finetune: window must be one of error, left_prompt, drop, got 'cut'"),
        ({"map": ("completion=a", "prompt=a")}, "map: two fields are read from one key"),
    ],
)
def test_settings_are_checked_before_anything_is_loaded(wrong, message):
    with pytest.raises(ParameterError) as error:
        Settings(**wrong)
    assert str(error.value).startswith(message)


def test_a_window_beyond_the_context_is_refused(tune):
    with pytest.raises(
        ParameterError, match=r"max_length must be in \[2, 96\], which the model can read, got 97"
    ):
        tune(replace(QUICK, max_length=97))


def test_a_folder_that_holds_something_is_not_written_to(tune, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("keep")
    with pytest.raises(ParameterError, match="out exists and is not an empty folder; choose another --out"):
        tune()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_an_empty_folder_is_written_to(tune, tmp_path):
    (tmp_path / "out").mkdir()
    _, out = tune()
    assert (out / "model.safetensors").is_file()


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_nothing(tune, tmp_path):
    with pytest.raises(
        NumericalError, match=r"^step \d+: loss is nan at learning rate .*e\+\d+, in a batch of lines \d"
    ):
        tune(replace(QUICK, learning_rate=1e30, warmup=0, epochs=10))
    assert list(tmp_path.iterdir()) == []


def test_rows_that_do_not_end_with_a_stop_token_are_refused(base):
    start = open_pretrained(base)
    row = Row(7, (5, 6, 8), (False, False, True))
    with pytest.raises(
        DataError, match=r"line 7: the last trained token is .* and no stop token of the model \('</s>'"
    ):
        check_rows([row], start)


def test_a_row_that_begins_with_the_begin_token_twice_is_refused(tune, new_checkpoint, tmp_path):
    template = "<s><s>{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    folder = new_checkpoint(tmp_path / "twice", template=template)
    with pytest.raises(DataError, match="line 1: the row begins with '<s>' twice; mend the chat template"):
        tune(base=folder)


# What a run shows


def test_the_first_row_is_shown_with_its_trained_tokens_marked(tune, screen):
    tune()
    assert (
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n⟦Paris<|im_end|>⟧"
        in screen.getvalue()
    )
    assert "pairs.jsonl: 8 rows" in screen.getvalue()
    assert "0 rows truncated, 0 dropped" in screen.getvalue()


def test_a_character_that_the_boundary_cannot_split_is_spelled_whole(base):
    start = open_pretrained(base)
    rendered = start.chat.pair("é", "ü猫")
    assert spell(Row(1, rendered.ids, rendered.mask), start.tokenizer).endswith("⟦ü猫<|im_end|>⟧")


def test_pairs_that_are_in_both_files_are_pointed_out(tune, screen, data):
    tune(replace(QUICK, valid=data))
    assert "8 pairs are in both files, so the loss on pairs.jsonl flatters" in screen.getvalue()


# The command line


def test_the_verb_trains_and_prints_the_record(base, data, tmp_path, capsys):
    out = tmp_path / "tuned"
    status = main(["finetune", str(base), str(data), "--out", str(out), "--max-steps", "2", "--json"])
    shown = capsys.readouterr()
    assert status == 0
    assert json.loads(shown.out) == json.loads((out / "run.json").read_text())
    assert "of 8 greedy answers ended" in shown.err


def test_the_verb_lists_every_bad_line_and_ends_with_status_2(base, tmp_path, capsys):
    data = tmp_path / "bad.jsonl"
    data.write_text('{"prompt": "a", "completion": ""}\n' * 2)
    status = main(["finetune", str(base), str(data), "--out", str(tmp_path / "tuned")])
    lines = capsys.readouterr().err.splitlines()
    assert status == 2
    assert lines[0] == "bad.jsonl:1: 'completion' is empty - remove the row or set allow_empty"
    assert lines[1].startswith("bad.jsonl:2: ")
    assert lines[2].startswith("error[E_DATA]: bad.jsonl:1: ") and lines[2].endswith("(and 1 more bad row)")


# A real model and real data


@pytest.mark.skipif(
    not (STORIES.is_dir() and GSM8K.is_file()),
    reason="no models/stories260k and data/gsm8k-train.jsonl under DECODEKIT_SHARED or in ../shared",
)
def test_a_pretrained_model_without_a_template_learns_from_real_answers(tune):
    settings = Settings(
        map=("prompt=question", "completion=answer"),
        limit=500,
        window="drop",
        max_steps=6,
        batch_size=8,
        learning_rate=2e-3,
    )
    report, out = tune(settings, base=STORIES, data=GSM8K)
    assert (report.counts.rows, report.counts.dropped) == (429, 71)
    assert report.losses[-1][1] < report.losses[0][1] - 1
    assert report.example.startswith("<s>Natalia sold clips to 48 of her friends")
    assert open_pretrained(out).stop_ids == (2,)
