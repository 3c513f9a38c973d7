"""
The loss: cross entropy of the trained tokens, and of nothing else.

The logits at a place predict the token at the next, so nothing predicts the first: a row
begins with a token of its prompt, which is not trained. Logits are computed only at the places that
have a trained token next; of prompts and of padding, which are most of a batch, there are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from decodekit_export.collate import IGNORED


def following(labels: torch.Tensor) -> torch.Tensor:
    """What each place predicts: the label of the next, IGNORED behind the last, int64 [B, T]."""
    return functional.pad(labels[:, 1:], (0, 1), value=IGNORED)


@contextmanager
def only_trained(model: Any, following: torch.Tensor) -> Iterator[None]:
    """Inside the block, the model computes logits where a trained token follows, [1, N, V], and nowhere else.

    They are left out before the last layer, which is the largest of a small model. A model that has no such
    layer computes all of them, [B, T, V]; `logits_of_trained` takes either.
    """
    head, places = model.get_output_embeddings(), _places(following)

    def select(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        hidden, *others = inputs
        if hidden.shape[:-1] != following.shape:
            return None
        return (hidden.flatten(0, 1).index_select(0, places.to(hidden.device))[None], *others)

    hook = head.register_forward_pre_hook(select) if head is not None else None
    try:
        yield
    finally:
        if hook:
            hook.remove()


def logits_of_trained(logits: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """Logits of the places where a trained token follows, [N, V], in their order in the batch."""
    logits, places = logits.flatten(0, -2), _places(following)
    return logits if len(logits) == len(places) else logits.index_select(0, places.to(logits.device))


def token_losses(logits: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """Cross entropy, nats, of each trained token, float32 [N].

    logits     [1, N, V] or [B, T, V]
    following  [B, T]
    """
    ids = following.flatten().index_select(0, _places(following))
    return functional.cross_entropy(
        logits_of_trained(logits, following).float(), ids.to(logits.device), reduction="none"
    )


def loss_of_trained(outputs: Any, following: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Cross entropy, nats, summed over the trained tokens of a batch and divided by `num_items_in_batch`."""
    losses = token_losses(outputs.logits, following)
    return losses.sum() / (len(losses) if num_items_in_batch is None else num_items_in_batch)


def _places(following: torch.Tensor) -> torch.Tensor:
    return (following != IGNORED).flatten().nonzero().squeeze(1)
