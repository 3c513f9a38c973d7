"""Packing: rows that share a window are trained as if each were alone."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decodekit.errors import ParameterError
from decodekit_export.collate import IGNORED, Collate, CollatePacked, Items
from decodekit_export.data import Row
from decodekit_export.loss import following, loss_of_trained, only_trained
from decodekit_export.packed_attention import Layout, rows_apart
from decodekit_export.packing import Packed, attends_apart, windows_of
from decodekit_export.pretrained import open_pretrained

LENGTHS = st.lists(st.integers(1, 64), max_size=200)


@given(LENGTHS, st.integers(0, 9))
def test_every_row_is_in_one_window_and_no_window_overflows(lengths, seed):
    windows = windows_of(lengths, 64, seed)
    used = [0] * (int(windows.max(initial=-1)) + 1)
    for length, window in zip(lengths, windows, strict=True):
        used[window] += length
    assert all(0 < tokens <= 64 for tokens in used)
    assert len(used) < 2 or sum(sorted(used)[:2]) > 64  # no two of them could have been one


@given(LENGTHS)
def test_one_seed_packs_in_one_way(lengths):
    assert windows_of(lengths, 64, 3).tolist() == windows_of(lengths, 64, 3).tolist()


def test_a_row_longer_than_the_window_is_refused():
    with pytest.raises(ParameterError, match="a row of 65 tokens does not fit a window of 64"):
        windows_of([3, 65], 64)


def test_a_window_begins_positions_anew_and_trains_no_first_token():
    rows = [Row(1, (5, 6, 2), (True, True, True)), Row(2, (7, 2), (False, True))]
    (window,) = Packed(rows, 8)
    batch = CollatePacked(pad_id=2)([window, {**window, **{k: window[k][:3] for k in window}}])
    assert batch["input_ids"].tolist() == [[5, 6, 2, 7, 2], [5, 6, 2, 2, 2]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 0, 1]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 2, IGNORED, 2], [IGNORED, 6, 2, IGNORED, IGNORED]]
    assert batch["lines"] == [1, 2, 1, 2]


def some_rows(count: int, vocabulary: int) -> list[Row]:
    """Rows of 2 to 20 tokens, of which the last half is trained."""
    draw = torch.Generator().manual_seed(7)
    lengths = torch.randint(2, 21, (count,), generator=draw).tolist()
    ids = [torch.randint(5, vocabulary, (length,), generator=draw).tolist() for length in lengths]
    return [
        Row(line, tuple(row), tuple(i >= (len(row) + 1) // 2 for i in range(len(row))))
        for line, row in enumerate(ids, start=1)
    ]


KINDS = [
    (architecture, attention)
    for architecture in ("Llama", "Qwen2", "Mistral", "Gemma2", "GPT2")
    for attention in ("apart", "sdpa", "eager")
    if architecture != "Gemma2" or attention == "eager"  # transformers has no other of it
    if (architecture, attention) != ("Mistral", "apart")  # it sees eight tokens
]


@pytest.mark.parametrize(("architecture", "attention"), KINDS)
def test_packed_rows_have_the_loss_and_the_gradients_of_rows_alone(checkpoint, architecture, attention):
    start = open_pretrained(checkpoint(architecture))
    rows = some_rows(16, 300)
    results = []
    for packed in (False, True):
        model = start.load_model()
        model.set_attn_implementation("sdpa" if attention == "apart" else attention)
        items = Packed(rows, 48) if packed else Items(rows)
        batch = (CollatePacked(2) if packed else Collate(2))(list(items))
        assert sorted(batch.pop("lines")) == list(range(1, 17))
        next_ids = following(batch.pop("labels"))
        apart = rows_apart(model, batch["position_ids"]) if packed and attention == "apart" else nullcontext()
        with only_trained(model, next_ids), apart:
            loss = loss_of_trained(model(**batch), next_ids)
            loss.backward()
        results.append((loss.item(), [p.grad for p in model.parameters()]))
    assert len(Packed(rows, 48)) < len(rows) / 2
    (alone, gradients), (together, packed_gradients) = results
    assert together == pytest.approx(alone, abs=1e-5)
    for one, other in zip(gradients, packed_gradients, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["Llama", "Qwen2", "Mistral", "Gemma2", "GPT2"])
def test_models_that_keep_rows_apart_may_be_packed(checkpoint, architecture):
    model = open_pretrained(checkpoint(architecture)).load_model()
    assert attends_apart(model, 48) == (architecture not in ("Gemma2", "Mistral"))
    assert attends_apart(model, 8) == (architecture != "Gemma2")  # which has an attention of its own
    assert model.config._attn_implementation in ("sdpa", "eager")


def test_the_layout_of_windows_by_hand():
    layout = Layout.of(torch.tensor([[0, 1, 2, 0], [0, 1, 0, 1]]))
    assert [group.tolist() for group in layout.groups] == [[[3]], [[4, 5], [6, 7]], [[0, 1, 2]]]
    assert layout.back.tolist() == [5, 6, 7, 0, 1, 2, 3, 4]
    (group,) = Layout.of(torch.tensor([[0, 1, 2, 3, 0, 1, 2]])).groups
    assert group.tolist() == [[0, 1, 2, 3], [4, 5, 6, 6]]


def test_a_model_whose_rows_see_each_other_is_refused(checkpoint):
    model = open_pretrained(checkpoint("Llama")).load_model()
    forward = model.forward
    model.set_attn_implementation("eager")
    model.forward = lambda position_ids=None, **others: forward(**others)
    with pytest.raises(ParameterError, match="packing: in LlamaForCausalLM the rows of a window see each"):
        attends_apart(model, 48)
