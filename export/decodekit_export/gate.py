"""
The parity gate: does the graph compute what the PyTorch model computes?

The reference answers for one sequence alone and at once. The graph must reach the same
logits and the same keys and values by every road a decoder takes: prefill, single steps,
a chunk on top of a past, rows of unequal length in one batch, greedy decoding. What is
measured is kept with the bundle; a bundle is written only if all roads agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from transformers import PreTrainedModel

from decodekit.hardware import describe
from decodekit_export.cache import CacheShape
from decodekit_export.errors import ExportError
from decodekit_export.parity import Parity, bars
from decodekit_export.reference import Reference
from decodekit_export.rows import ROWS, Array, Feeds, Rows, no_feeds, open_session

STEPS = 32  # single-token steps on each road
BATCH = 4  # rows of a greedy batch, whose logits are all kept: 32 of a large vocabulary take 6 MB a row
LONGEST = 4200  # tokens of the road past an attention window; eager attention is quadratic


def check_parity(
    path: Path,
    model: PreTrainedModel,
    kind: str,
    shape: CacheShape,
    *,
    context_length: int,
    prompts: int = 50,
    texts: Sequence[Sequence[int]] = (),
    seed: int = 0,
    twin: PreTrainedModel | None = None,
    feeds: Feeds = no_feeds,
) -> Parity:
    """Compare the graph in `path` with `model`, which is in float32.

    kind, shape     of the graph's cache
    context_length  the most tokens a sequence may have, >= 64
    prompts         number of random greedy prompts, of 1 to 40 tokens, >= 1
    texts           ids of further greedy prompts
    twin            the model in the graph's own type, whose rounding sets the bars; None: that is float32
    feeds           what the graph is given besides
    """
    if prompts < 1:
        raise ExportError(f"prompts must be >= 1, got {prompts}")
    if context_length < 2 * STEPS:
        raise ExportError(
            f"context length must be >= {2 * STEPS} to check {STEPS} steps, got {context_length}"
        )
    gate = _Gate(model, twin, path, kind, shape, context_length, seed, feeds)
    gate.alone()
    gate.beyond_the_window()
    gate.ragged()
    gate.greedy(prompts, texts)
    return gate.verdict()


class _Gate:
    """The roads, and the largest differences met on them."""

    def __init__(
        self,
        model: PreTrainedModel,
        twin: PreTrainedModel | None,
        path: Path,
        kind: str,
        shape: CacheShape,
        context_length: int,
        seed: int,
        feeds: Feeds,
    ) -> None:
        self._reference = Reference(model)
        self._twin = None if twin is None else Reference(twin)
        self._rounding = None if twin is None else {"logits": 0.0, "cache": 0.0}
        self._session = open_session(path, shape.dtype)
        self._kind, self._shape, self._feeds = kind, shape, feeds
        self._context_length = context_length
        self._random = np.random.default_rng(seed)
        self._logits: dict[str, float] = {}
        self._cache: dict[str, float] = {}
        self._scales = {"logits": 0.0, "cache": 0.0}
        self._other_tokens: list[tuple[str, float]] = []
        self._prompts = self._tokens = 0
        window = self._reference.window
        self._window = window if window is not None and window < context_length else None
        self._window_passed = False

    def alone(self) -> None:
        """One row: prefill, single steps, then a chunk of several tokens on top of a past."""
        ids = self._ids(2 * STEPS)
        steps, chunk = len(ids) - 8 - STEPS, len(ids) - 8
        want, cached = self._ask(ids)
        rows = self._rows(1, len(ids) + 3)  # a capacity that is no length

        self._compare("prefill", rows.feed([ids[:steps]])[0], want[:steps])
        for i in range(steps, chunk):
            self._compare("steps", rows.feed([ids[i : i + 1]])[0], want[i : i + 1])
        self._compare("chunk", rows.feed([ids[chunk:]], wanted=[0, 3, 7])[0], want[chunk:][[0, 3, 7]])
        self._compare_cache("alone", rows.row(0), cached)

    def beyond_the_window(self) -> None:
        """One row longer than the attention window, where there is one."""
        if self._window is None or self._window + 24 > min(self._context_length, LONGEST):
            return
        ids = self._ids(self._window + 24)
        want, cached = self._ask(ids, wanted=range(self._window, len(ids)))
        rows = self._rows(1, len(ids))

        prefilled = range(self._window, len(ids) - 8)  # the logits that look past the window
        self._compare("window", rows.feed([ids[:-8]], wanted=prefilled)[0], want[:-8])
        self._compare("window", rows.feed([ids[-8:-4]])[0], want[-8:-4])
        for token, logits in zip(ids[-4:], want[-4:], strict=True):
            self._compare("window", rows.feed([[token]])[0], logits[None])
        self._compare_cache("window", rows.row(0), cached)
        self._window_passed = True

    def ragged(self) -> None:
        """Rows of unequal length: one right-padded prefill, then single steps in one batch."""
        lengths = [1, 9, STEPS, 17]
        sequences = [self._ids(n + STEPS) for n in lengths]
        answers = [self._ask(ids) for ids in sequences]
        rows = self._rows(len(lengths), 2 * STEPS + 1)

        logits = rows.feed([ids[:n] for ids, n in zip(sequences, lengths, strict=True)])
        for row, n in enumerate(lengths):
            self._compare("ragged prefill", logits[row, :n], answers[row][0][:n])
        for step in range(STEPS):
            logits = rows.feed([[ids[n + step]] for ids, n in zip(sequences, lengths, strict=True)])
            want = np.stack([answer[n + step] for (answer, _), n in zip(answers, lengths, strict=True)])
            self._compare("ragged steps", logits[:, 0], want)
        for row, (_, cached) in enumerate(answers):
            self._compare_cache("ragged", rows.row(row), cached)

    def greedy(self, prompts: int, texts: Sequence[Sequence[int]]) -> None:
        """The most likely token again and again, in ragged batches.

        The reference is asked about the graph's own continuation: if every token of it is
        the reference's choice after those before, the reference would have written it.
        """
        longest = min(40, self._context_length - STEPS)
        asked = [self._ids(int(n)) for n in self._random.integers(1, longest + 1, prompts)]
        asked += [list(ids)[: self._context_length - STEPS] for ids in texts if ids]
        for start in range(0, len(asked), BATCH):
            batch = asked[start : start + BATCH]
            for row, (tokens, logits) in enumerate(self._decode(batch)):
                known = len(batch[row])
                wanted = range(known - 1, known + STEPS - 1)
                want, _ = self._ask(batch[row] + tokens[:-1], wanted)
                self._compare("greedy", logits, want)
                self._compare_tokens(start + row, tokens, want)
        self._prompts = len(asked)

    def verdict(self) -> Parity:
        """Everything measured, held against the bars."""
        allowed = bars(self._scales, self._rounding)
        provider = self._session.get_providers()[0]
        failures = [
            *_above("logits", self._logits, allowed["logits"]),
            *_above("cache", self._cache, allowed["cache"]),
            *(f"greedy, {where}" for where, margin in self._other_tokens if margin > 2 * allowed["logits"]),
        ]
        return Parity(
            logits=self._logits,
            cache=self._cache,
            scales=self._scales,
            bars=allowed,
            rounding=self._rounding,
            prompts=self._prompts,
            tokens=self._tokens,
            near_ties=tuple(where for where, margin in self._other_tokens if margin <= 2 * allowed["logits"]),
            window=None if self._window is None else self._window_passed,
            provider=provider,
            device=describe(provider),
            onnxruntime=onnxruntime.__version__,
            failures=tuple(failures),
        )

    def _ask(self, ids: Sequence[int], wanted: Sequence[int] | None = None) -> tuple[Array, Array]:
        """What the model says of these tokens; its twin is asked too, and how far off it is noted."""
        answer = self._reference(ids, wanted)
        if self._twin is not None and self._rounding is not None:
            for what, rounded, true in zip(self._rounding, self._twin(ids, wanted), answer, strict=True):
                self._rounding[what] = max(self._rounding[what], _difference(rounded, true))
        return answer

    def _ids(self, length: int) -> list[int]:
        return [int(i) for i in self._random.integers(0, self._reference.vocabulary, length)]

    def _rows(self, batch: int, capacity: int) -> Rows:
        return ROWS[self._kind](self._session, self._shape, batch, capacity, self._feeds)

    def _decode(self, prompts: Sequence[list[int]]) -> Iterator[tuple[list[int], Array]]:
        """STEPS greedy tokens per prompt, and the logits [STEPS, V] that they come from."""
        rows = self._rows(len(prompts), max(map(len, prompts)) + STEPS)
        last = sorted({len(prompt) - 1 for prompt in prompts})
        logits = np.empty((len(prompts), STEPS, self._reference.vocabulary), np.float32)
        prefill = rows.feed(prompts, wanted=last)
        logits[:, 0] = [row[last.index(len(p) - 1)] for row, p in zip(prefill, prompts, strict=True)]
        for step in range(1, STEPS):
            best = logits[:, step - 1].argmax(-1)
            logits[:, step] = rows.feed(best[:, None].tolist())[:, 0]
        for row in logits:
            yield row.argmax(-1).tolist(), row

    def _compare(self, road: str, got: Array, want: Array) -> None:
        self._logits[road] = max(self._logits.get(road, 0.0), _difference(got, want))
        self._scales["logits"] = max(self._scales["logits"], float(np.abs(want).max()))

    def _compare_cache(self, road: str, got: Array, want: Array) -> None:
        self._cache[road] = max(self._cache.get(road, 0.0), _difference(got, want))
        self._scales["cache"] = max(self._scales["cache"], float(np.abs(want).max()))

    def _compare_tokens(self, prompt: int, tokens: Sequence[int], want: Array) -> None:
        self._tokens += len(tokens)
        for i, (token, logits) in enumerate(zip(tokens, want, strict=True)):
            best = int(logits.argmax())
            if token != best:
                margin = float(logits[best] - logits[token])
                where = f"prompt {prompt}, token {i}: {token}, PyTorch {best} by {margin:.1e}"
                self._other_tokens.append((where, margin))


def _above(what: str, measured: dict[str, float], bar: float) -> list[str]:
    return [
        f"{what}, {road}: differs from PyTorch by {difference:.2g}, allowed is {bar:.2g}"
        for road, difference in measured.items()
        if not difference <= bar
    ]


def _difference(got: Array, want: Array) -> float:
    """Largest |got - want|; infinite where a number is missing or none."""
    if got.shape != want.shape:
        return float("inf")
    off = got - want
    largest = float(np.abs(off, out=off).max())
    return float("inf") if math.isnan(largest) else largest
