"""The loss: logits where a token is trained and nowhere else, and the sums of the rows by themselves."""

from __future__ import annotations

import pytest
import torch
from conftest import ARCHITECTURES
from test_packing import some_rows
from torch.nn import functional

from decodekit_export.collate import IGNORED, Collate, Items
from decodekit_export.loss import following, loss_of_trained, only_trained
from decodekit_export.pretrained import open_pretrained


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradients_are_those_of_all_logits_of_each_row_alone(checkpoint, architecture):
    start, rows = open_pretrained(checkpoint(architecture)), some_rows(8, 300)
    model = start.load_model()
    trained = sum(sum(row.mask) for row in rows)
    expected = 0.0
    for row in rows:  # by hand: no padding, every logit, one token after the other
        logits = model(torch.tensor([row.ids]), use_cache=False).logits[0].log_softmax(-1)
        loss = -sum(logits[i - 1, row.ids[i]] for i in range(len(row.ids)) if row.mask[i]) / trained
        loss.backward()
        expected += loss.item()
    gradients = [p.grad.clone() for p in model.parameters()]

    model.zero_grad()
    batch = Collate(2)(Items(rows))
    next_ids = following(batch["labels"])
    with only_trained(model, next_ids):
        outputs = model(batch["input_ids"], use_cache=False)
    assert outputs.logits.shape == (1, trained, model.config.vocab_size)
    loss = loss_of_trained(outputs, next_ids)
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-5)


def test_a_model_that_cannot_leave_logits_out_has_the_same_loss(checkpoint, monkeypatch):
    model = open_pretrained(checkpoint("Llama")).load_model()
    batch = Collate(2)(Items(some_rows(4, 300)))
    next_ids = following(batch["labels"])
    with only_trained(model, next_ids):
        few = loss_of_trained(model(batch["input_ids"]), next_ids)
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    with only_trained(model, next_ids):
        outputs = model(batch["input_ids"])
    assert outputs.logits.shape[:2] == next_ids.shape
    assert loss_of_trained(outputs, next_ids).item() == pytest.approx(few.item(), abs=1e-6)
    everywhere = functional.cross_entropy(
        outputs.logits.flatten(0, 1), next_ids.flatten(), ignore_index=IGNORED
    )
    assert few.item() == pytest.approx(everywhere.item(), abs=1e-6)


def test_outside_the_block_all_logits_are_there_again(checkpoint):
    model = open_pretrained(checkpoint("Llama")).load_model()
    ids = torch.tensor([[5, 6, 7, 8]])
    with only_trained(model, torch.tensor([[IGNORED, IGNORED, 8, IGNORED]])):
        assert model(ids).logits.shape[:2] == (1, 1)
    assert model(ids).logits.shape[:2] == (1, 4)
