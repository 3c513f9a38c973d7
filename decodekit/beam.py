"""
Beams: beam search over a model, in slots of its own beside the engine's.

A step of all running answers is one call of the model on the engine's thread, so requests that
run beside it go on. An answer that goes on from another's row gets a copy of what the model
remembers there, from where the ids of the two rows first differ.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from decodekit.answer import Token
from decodekit.completion import Usage
from decodekit.engine import Engine
from decodekit.errors import ContextError, ParameterError
from decodekit.ops import Array
from decodekit.places import CHUNK
from decodekit.preparation import Prepared
from decodekit.record import Entry
from decodekit.sampling import Sampler
from decodekit.search import Path, Rules, Search
from decodekit.slots import Slots
from decodekit.stopping import Stop
from decodekit.strategies.end_tokens import EndTokens


@dataclass(frozen=True, slots=True)
class Beam:
    """One answer that beam search found.

    text           what belongs to the answer; an end token does not
    tokens         all of them; `logprob` is what each adds to the sum, nats
    score          the sum by length, see `search`
    finish_reason  "stop" or "length"
    recipe         what gives the same again
    """

    text: str
    tokens: tuple[Token, ...]
    score: float
    finish_reason: str
    usage: Usage
    recipe: Mapping[str, Any]

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the tokens."""
        return tuple(token.id for token in self.tokens)

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `json.dumps`."""
        return {
            "text": self.text,
            "score": self.score,
            "finish_reason": self.finish_reason,
            "usage": asdict(self.usage),
            "tokens": [{"id": t.id, "text": t.text, "logprob": t.logprob} for t in self.tokens],
            "recipe": dict(self.recipe),
        }


def search_beams(prepared: Prepared, rules: Rules, engine: Engine, *, chained: bool) -> list[Beam]:
    """The answers that beam search finds, best first: `beams` of them, or all there are.

    chained  whether a chain was asked for; without one, nothing changes the log-probabilities
    """
    ends = next(c.strategy.ids for c in prepared.criteria if isinstance(c.strategy, EndTokens))
    slots, longest = engine.slots(rules.beams), len(prepared.ids) + prepared.room
    if not slots.fits(rules.beams, longest):
        raise ContextError(
            f"a cache for {rules.beams} beams of {longest} tokens does not fit into the memory allowed; "
            "lower beams or max_new_tokens, or load the model with more cache_bytes"
        )
    sampler = _sampler(prepared, chained)
    search = Search(prepared.ids, sampler, rules, room=prepared.room, ends=ends)
    rows = Rows(slots, engine, prepared.settings.adapter)
    logits = rows.read(prepared.ids)
    while True:
        search.turn(logits)
        if search.over:
            break
        logits = rows.step(search.running)
    return [_beam(prepared, rules, path, search.score(path), ends, chained) for path in search.ended]


class Rows:
    """Which path's tokens are in which slot."""

    def __init__(self, slots: Slots, engine: Engine, adapter: str | None = None) -> None:
        self._slots, self._engine, self._adapter = slots, engine, adapter
        self._rows = [0]  # of each running path
        self._ids: dict[int, Array] = {}  # of the tokens in each row

    def read(self, prompt: Sequence[int]) -> Array:
        """What follows the prompt, float32 [1, V]; a chunk a call, as the engine reads it."""
        logits = np.zeros((1, 0))
        for start in range(0, len(prompt), CHUNK):
            logits = self._engine.call(partial(self._read, prompt[start : start + CHUNK], start))
        self._ids[0] = np.asarray(prompt)
        return logits

    def step(self, paths: Sequence[Path]) -> Array:
        """What follows paths that go on from those of the step before, float32 [R, V]."""
        return self._engine.call(lambda: self._step(paths))

    def _read(self, chunk: Sequence[int], start: int) -> Array:
        self._slots.reserve(1, start + len(chunk))
        if not start:
            self._slots.open(0, self._adapter)
        return self._slots.read(0, chunk, last=1)

    def _step(self, paths: Sequence[Path]) -> Array:
        read = len(paths[0].ids) - 1
        sources = [self._rows[path.parent] for path in paths]
        targets = assign(sources)
        self._slots.reserve(len(paths), read + 1)
        for path, source, target in zip(paths, sources, targets):
            if source != target:
                same = common(self._ids.get(target, path.ids[:0]), path.ids[:read])
                self._slots.copy(source, target, read, same)

        tokens = [0] * len(paths)
        for path, row in zip(paths, targets):
            tokens[row], self._ids[row] = int(path.ids[-1]), path.ids
        self._rows = targets
        return self._slots.step(tokens)[targets]


def assign(sources: Sequence[int]) -> list[int]:
    """A row of 0 to R - 1 for each of R paths, given the row that each goes on from.

    The first path that goes on from a row stays there, where it may; so no row that another
    path goes on from is written to.
    """
    free, stays = set(range(len(sources))), []
    for source in sources:
        stays.append(source in free)
        free.discard(source)
    return [source if stay else free.pop() for source, stay in zip(sources, stays)]


def common(one: Array, other: Array) -> int:
    """How many ids at the start of both are the same."""
    size = min(len(one), len(other))
    differ = np.flatnonzero(one[:size] != other[:size])
    return int(differ[0]) if len(differ) else size


def _sampler(prepared: Prepared, chained: bool) -> Sampler:
    processors = prepared.sampler.processors if chained else prepared.sampler.processors[:-1]
    if any(processor.keeps_best for processor in processors):
        raise ParameterError("a chain for beam search must leave more than the best; leave out greedy")
    if prepared.second is not None:
        raise ParameterError("a chain for beam search has no second prompt; leave out what does")
    if prepared.sampler.takes_back:
        raise ParameterError("a chain for beam search must take no token back; leave out what does")
    return Sampler(processors)


def _beam(
    prepared: Prepared, rules: Rules, path: Path, score: float, ends: Collection[int], chained: bool
) -> Beam:
    preparer, ids = prepared.preparer, path.ids[len(prepared.ids) :].tolist()
    stop = Stop("stop", by=f"token {ids[-1]}") if ids[-1] in ends else Stop("length", by=f"{len(ids)} tokens")
    detokenizer = preparer.detokenizer()
    texts = [detokenizer.push(id) for id in ids]
    tokens = tuple(
        Token(id, text, logprob=logprob, stop=stop if i == len(ids) else None)
        for i, (id, text, logprob) in enumerate(zip(ids, texts, path.logprobs), start=1)
    )
    recipe = {
        **preparer.origin,
        "beam": asdict(rules),
        "adapter": prepared.settings.adapter,
        "chain": [Entry.of(link).to_json() for link in prepared.links] if chained else [],
        "criteria": [Entry.of(link).to_json() for link in prepared.criteria],
        "prompt": list(prepared.ids),
        "ids": ids,
    }
    text = "".join(texts[:-1] if stop.reason == "stop" else texts) + detokenizer.flush()
    return Beam(text, tokens, score, stop.reason, Usage(len(prepared.ids), len(ids)), recipe)
