"""The clock inside `generate` of transformers and of optimum, which speak the same."""

import time

import torch


class Clock:
    """A streamer: `generate` puts the prompt into it, then every token when it is there."""

    def __init__(self):
        self.times = []

    def put(self, ids):
        self.times.append(time.perf_counter())

    def end(self):
        pass


def greedy(model, prompt, tokens):
    """What `protocol.clocked` answers, of a model with a `generate`."""
    clock, began = Clock(), time.perf_counter()
    ids = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        do_sample=False,
        max_new_tokens=tokens,
        eos_token_id=None,
        pad_token_id=0,
        streamer=clock,
    )
    _, first, *_, last = clock.times
    return {"prefill": first - began, "decode": last - first, "ids": ids[0, len(prompt) :].tolist()}
