"""Plain attention against attention written down for one query at a time."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decodekit_export.attention import Options, plain

HEADS, KV_HEADS, SIZE = 4, 2, 8


def test_a_query_sees_its_own_key_and_those_before():
    """One head of size 1, values 1, 2, 4: the mean of what is seen tells what was seen."""
    ones, values = torch.ones(1, 1, 3, 1), torch.tensor([1.0, 2.0, 4.0]).reshape(1, 1, 3, 1)
    output = plain(
        ones,
        ones,
        values,
        Options(scale=1.0),
        attention_mask=torch.ones(1, 3, dtype=torch.int64),
        position_ids=torch.tensor([[0, 1, 2]]),
    )
    assert torch.allclose(output.flatten(), torch.tensor([1.0, 3 / 2, 7 / 3]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    past=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    tokens=st.integers(1, 4),
    window=st.one_of(st.none(), st.integers(1, 6)),
    chunk=st.one_of(st.none(), st.integers(1, 6)),
    softcap=st.sampled_from([0.0, 2.0]),
    sinks=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_rows_of_any_length_attend_as_if_alone(past, tokens, window, chunk, softcap, sinks, seed):
    random = torch.Generator().manual_seed(seed)
    rows, places = len(past), max(past)
    sink = torch.randn(HEADS, generator=random) if sinks else None
    options = Options(scale=0.5, softcap=softcap, window=window, chunk=chunk, sinks=sink)
    query = torch.randn(rows, HEADS, tokens, SIZE, generator=random)
    key, value = torch.randn(2, rows, KV_HEADS, tokens, SIZE, generator=random)
    past_key, past_value = torch.randn(2, rows, KV_HEADS, places, SIZE, generator=random)

    lengths = torch.tensor(past)[:, None]
    mask = torch.cat([torch.arange(places) < lengths, torch.ones(rows, tokens, dtype=torch.bool)], dim=1)
    present_key, present_value = torch.cat([past_key, key], dim=2), torch.cat([past_value, value], dim=2)
    output = plain(
        query,
        present_key,
        present_value,
        options,
        attention_mask=mask.long(),
        position_ids=lengths + torch.arange(tokens),
    )
    for row in range(rows):
        keys, values = present_key[row][:, mask[row]], present_value[row][:, mask[row]]
        for token in range(tokens):
            position = past[row] + token
            first = max(0, position + 1 - window) if window else 0
            if chunk:
                first = max(first, position // chunk * chunk)
            seen = slice(first, position + 1)
            for head in range(HEADS):
                group = head // (HEADS // KV_HEADS)
                want = attend_to(
                    query[row, head, token],
                    keys[group, seen],
                    values[group, seen],
                    options,
                    None if sink is None else sink[head],
                )
                assert torch.allclose(output[row, token, head], want, atol=1e-5)


def attend_to(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    options: Options,
    sink: torch.Tensor | None,
) -> torch.Tensor:
    """Vaswani et al., 2017, equation 1, for one query; Gemma 2, 2024, section 2, for the soft cap.

    A sink is one more term of the softmax's sum: Xiao et al., 2023, arXiv:2309.17453.
    """
    scores = keys @ query * options.scale
    if options.softcap:
        scores = options.softcap * torch.tanh(scores / options.softcap)
    weights = scores.exp() / (scores.exp().sum() + (0 if sink is None else sink.exp()))
    return weights @ values
