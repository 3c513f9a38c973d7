"""decodekit through its public interface, and the meter of its engine."""

import time
from functools import cache

import protocol

import decodekit


class Decodekit(protocol.Worker):
    packages = ("decodekit", "onnxruntime", "numpy")

    def load(self, folder, prefix_bytes=0, **options):
        """Without kept prefixes, so that every round reads its prompts again."""
        threads = protocol.THREADS
        self._decoder = decodekit.load(folder, threads=threads, prefix_bytes=prefix_bytes, **options)

    def stream(self, prompt, tokens, chain="greedy", **options):
        """Every token is a piece of text, so the pieces tell the time of the tokens."""
        pieces = self._decoder.stream(
            prompt, chain, max_new_tokens=tokens, ignore_eos=True, seed=0, **options
        )
        return protocol.clocked(pieces) | {"ids": pieces.completion.ids}

    def stream_own_text(self, prompt, own, tokens, **options):
        """As `stream`, behind the prompt and the `own` tokens that follow it greedily."""
        return self.stream([*prompt, *self._own_text(tuple(prompt), own)], tokens, **options)

    def batch(self, prompts, tokens):
        """All prompts at once: the seconds, and the tokens, of the time when all of them are decoding."""
        stamps = Stamps()
        completions = self._generate(prompts, tokens, criteria=[stamps])
        began = max(moment for moment, length in stamps.stamps if length == 1)
        ended = min(moment for moment, length in stamps.stamps if length == tokens)
        if ended <= began:
            raise RuntimeError("the prompts were never all decoding")
        counted = sum(began < moment <= ended for moment, _ in stamps.stamps)
        return {"decode": ended - began, "tokens": counted, "ids": [c.ids for c in completions]}

    def overhead(self, prompts, tokens):
        """Microseconds of Python a step: neither in onnxruntime nor in the chain."""
        meter = self._decoder.engine.meter
        meter.reset()
        self._generate(prompts, tokens)
        return {"microseconds": 1e6 * (meter.seconds - meter.graph - meter.chain) / meter.steps}

    def answer_and_memory(self, prompts, tokens):
        self._generate(prompts, tokens)
        return self.memory()

    def _generate(self, prompts, tokens, **options):
        return self._decoder.generate(prompts, "greedy", max_new_tokens=tokens, ignore_eos=True, **options)

    @cache  # noqa: B019 - a worker lives as long as its process
    def _own_text(self, prompt, tokens):
        return self.stream(prompt, tokens)["ids"]


class Stamps(decodekit.StoppingCriterion):
    """Never stops a sequence; notes when each token came, and the how manyth of its sequence it was."""

    def __init__(self):
        self.stamps = []

    def check(self, progress):
        self.stamps.append((time.perf_counter(), len(progress.history.generated)))


if __name__ == "__main__":
    protocol.serve(Decodekit())
