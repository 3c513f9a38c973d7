"""Scores and perplexities of an exported model are those that transformers computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

import decodekit
from decodekit.decoder import Decoder
from decodekit_export.bundle import export_bundle
from decodekit_export.checkpoint import open_checkpoint

CLOSE = 1e-4


@pytest.fixture(scope="module", params=["in_place", "concatenating"])
def decoder(checkpoint, tmp_path_factory, request) -> Decoder:
    folder = tmp_path_factory.mktemp("bundles") / request.param
    export_bundle(checkpoint("Llama"), folder, cache=request.param, prompts=4)
    return decodekit.load(folder)


@pytest.fixture(scope="module")
def model(checkpoint) -> PreTrainedModel:
    return open_checkpoint(checkpoint("Llama")).load_model()


@pytest.fixture(scope="module")
def text() -> str:
    return Path(__file__).read_text()


def log_probabilities(model: PreTrainedModel, ids: list[int]) -> list[float]:
    """Of ids[1:]."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].double()
    return logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def perplexity(model: PreTrainedModel, ids: list[int], window: int, stride: int) -> float:
    """As in https://huggingface.co/docs/transformers/perplexity, but for means over tokens, not windows."""
    total, count, before = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        labels = torch.tensor([ids[begin:end]])
        labels[:, : -(end - before)] = -100
        with torch.no_grad():
            loss = model(torch.tensor([ids[begin:end]]), labels=labels).loss
        scored = int((labels[:, 1:] != -100).sum())
        total, count, before = total + float(loss) * scored, count + scored, end
        if end == len(ids):
            break
    return float(torch.tensor(total / count, dtype=torch.float64).exp())


def test_every_token_of_a_text_that_fits_scores_as_in_transformers(decoder, model, text):
    ids = decoder.tokenizer.encode_plain(text)[: decoder.bundle.context_length]
    score = decoder.score(ids)
    expected = log_probabilities(model, ids)
    assert [token.logprob for token in score.tokens[1:]] == pytest.approx(expected, abs=CLOSE)
    assert score.perplexity == pytest.approx(perplexity(model, ids, len(ids), len(ids)), rel=CLOSE)


def test_an_answer_scores_as_in_transformers_with_the_prompt_masked(decoder, model):
    rendered = decoder.chat.pair("What is a window?", "A part of a text.")
    given = rendered.mask.count(False)
    score = decoder.score("A part of a text.", prompt="What is a window?")
    expected = log_probabilities(model, list(rendered.ids))[given - 1 :]
    assert [token.logprob for token in score.tokens] == pytest.approx(expected, abs=CLOSE)


@pytest.mark.parametrize("stride", [1, 10, 48, 95])
def test_a_longer_text_has_the_perplexity_of_transformers_over_strided_windows(decoder, model, text, stride):
    ids = decoder.tokenizer.encode_plain(text)[: 130 if stride == 1 else 500]
    score = decoder.score(ids, stride=stride)
    assert score.windows > 1
    expected = perplexity(model, ids, decoder.bundle.context_length, stride)
    assert score.perplexity == pytest.approx(expected, rel=CLOSE)
