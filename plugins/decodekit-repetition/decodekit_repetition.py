"""Strategies that keep an answer from repeating itself, or let it repeat the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np

from decodekit import LogitsProcessor, hookimpl
from decodekit.errors import ParameterError
from decodekit.ops import Array, keep
from decodekit.parameters import Real, Whole
from decodekit.strategies.penalties import repetition_penalty

MAX_BREAKERS = 64
LARGEST = 1e6  # nats that DRY takes off at most, so that nothing overflows


def followers(ids: Array, n: int) -> Array:
    """The ids that came behind an earlier occurrence of the last n - 1 of `ids`, int [K].

    ids  int [T]
    n    >= 1; at 1 these are all ids
    """
    last = len(ids) - n + 1  # where the newest n - 1 begin
    if last < 1:
        return ids[:0]
    same = np.ones(last, bool)
    for k in range(n - 1):
        same &= ids[k : last + k] == ids[last + k]
    return ids[n - 1 :][same]


def repeats(ids: Array, most: int) -> tuple[Array, Array]:
    """For every id that would go on with something said before: the id, and how long it was, int [K] each.

    Where the end of `ids` [T] occurs a second time, earlier, the id behind it goes on with it. An id
    may occur in several such places; all are given. No occurrence counts as longer than `most`.
    """
    ends = np.arange(len(ids) - 1)  # of earlier occurrences
    lengths = np.zeros(len(ids) - 1, np.int64) if len(ids) else np.zeros(0, np.int64)
    for length in range(min(most, len(ids) - 1)):
        ends = ends[ends >= length]
        ends = ends[ids[ends - length] == ids[len(ids) - 1 - length]]
        if not len(ends):
            break
        lengths[ends] = length + 1
    found = np.flatnonzero(lengths)
    return ids[found + 1], lengths[found]


@dataclass(frozen=True)
class NoRepeatNgram(LogitsProcessor):
    """Never say n tokens in a row a second time; 0 is neutral.

    formula   l[v] = -inf where (last n - 1 ids, v) already occurs
    boundary  n = 1 removes every token that occurs
    ties      none
    history   prompt and answer
    neutral   n = 0
    source    Paulus et al. 2017, section 2.5, arXiv:1705.04304; fairseq; transformers, `NoRepeatNGram`
    """

    n: Annotated[int, Whole("[0, inf)", "tokens in a row", neutral=0)]

    def process(self, logits, step, state):
        if not self.n:
            return logits
        banned = [
            np.isin(ids, followers(row.ids, self.n)) for ids, row in zip(step.ids, step.rows, strict=True)
        ]
        return keep(logits, ~np.stack(banned))


@dataclass(frozen=True)
class EncoderRepetition(LogitsProcessor):
    """Make tokens of the prompt more likely by a factor theta, so that an answer keeps to it; 1 is neutral.

    formula   l' = l * theta where l > 0, l / theta where l < 0, for tokens of the prompt
    boundary  a token counts once however often it occurs
    ties      none
    history   the prompt
    neutral   theta = 1
    source    transformers, `EncoderRepetitionPenaltyLogitsProcessor`
    """

    theta: Annotated[float, Real("(0, 1e6]", "factor; above 1 encourages", neutral=1)]

    def process(self, logits, step, state):
        if self.theta == 1:
            return logits
        asked = [np.isin(ids, row.prompt) for ids, row in zip(step.ids, step.rows, strict=True)]
        return repetition_penalty(logits, np.stack(asked).astype(int), 1 / self.theta)


@dataclass(frozen=True)
class Dry(LogitsProcessor):
    """Don't Repeat Yourself: the longer a repetition would become, the less likely is its next token.

    formula   l[v] -= multiplier * base^(n - allowed_length) where n >= allowed_length is the length of the
              longest end of the text that occurs earlier and is followed there by v
    boundary  n = allowed_length costs `multiplier`; at most 1e6 nats are taken off
    ties      of several earlier places the longest counts
    history   the last `range` tokens of prompt and answer; a repetition does not reach across a breaker
    neutral   multiplier = 0
    source    p-e-w 2024, text-generation-webui, pull request 5677; llama.cpp, pull request 9702

    A token is a breaker if its text contains one of `breakers`; so are all tokens of a place where
    a breaker is spelt by several. A breaker itself is never made less likely.
    """

    multiplier: Annotated[float, Real("[0, 100]", "nats for a repetition of the allowed length", neutral=0)]
    base: Annotated[float, Real("[1, 10]", "factor for every token more")] = 1.75
    allowed_length: Annotated[int, Whole("[1, inf)", "tokens that may be repeated")] = 2
    range: Annotated[int, Whole("[0, inf)", "newest tokens that are looked at; 0: all")] = 0
    breakers: Sequence[str] = ("\n", ":", '"', "*")

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.breakers, str) or not all(isinstance(b, str) and b for b in self.breakers):
            raise ParameterError(f"dry: breakers must be non-empty texts, got {self.breakers!r}")
        if len(self.breakers) > MAX_BREAKERS:
            raise ParameterError(f"dry: at most {MAX_BREAKERS} breakers, got {len(self.breakers)}")
        object.__setattr__(self, "breakers", tuple(self.breakers))

    def bind(self, tokenizer):
        return _BoundDry(self, tokenizer)

    def process(self, logits, step, state):
        return _penalised(self, logits, step, np.zeros(0, np.int64), ())


class _BoundDry(LogitsProcessor):
    """The same, knowing which tokens break a repetition."""

    def __init__(self, dry: Dry, tokenizer) -> None:
        self._dry = dry
        self._single, self._spelt = _breaking(tokenizer, dry.breakers)

    def process(self, logits, step, state):
        return _penalised(self._dry, logits, step, self._single, self._spelt)


@lru_cache(maxsize=16)
def _breaking(tokenizer, breakers):
    """Ids whose text contains a breaker, int [K]; and how the others are spelt by several tokens."""
    texts = tokenizer.token_bytes or [(tokenizer.token(i) or "").encode() for i in range(tokenizer.size)]
    sought = [b.encode() for b in breakers]
    single = np.asarray([i for i, text in enumerate(texts) if any(b in text for b in sought)], np.int64)
    spelt = [tuple(tokenizer.encode_plain(b)) for b in breakers]
    return single, tuple(ids for ids in spelt if len(ids) > 1)


def _penalised(dry, logits, step, single, spelt):
    if not dry.multiplier:
        return logits
    out = np.array(logits)
    for i, row in enumerate(step.rows):
        ids = row.ids[-dry.range :] if dry.range else row.ids
        costly, lengths = repeats(ids, _unbroken(ids, single, spelt))
        long = (lengths >= dry.allowed_length) & ~np.isin(costly, single)
        if not long.any():
            continue
        longest = np.zeros(int(max(costly.max(), step.ids[i].max())) + 1, np.int64)
        np.maximum.at(longest, costly[long], lengths[long])
        reach = longest[step.ids[i]]
        exponent = np.maximum(reach - dry.allowed_length, 0)
        with np.errstate(over="ignore"):
            cost = np.minimum(dry.multiplier * np.float64(dry.base) ** exponent, LARGEST)
        out[i] -= np.where(reach > 0, cost, 0.0).astype(logits.dtype)
    return out


def _unbroken(ids, single, spelt):
    """How many ids at the end are no breakers."""
    breaks = np.isin(ids, single)
    for sequence in spelt:
        size = len(sequence)
        for start in np.flatnonzero(ids[: max(0, len(ids) - size + 1)] == sequence[0]):
            if ids[start : start + size].tolist() == list(sequence):
                breaks[start : start + size] = True
    found = np.flatnonzero(breaks)
    return len(ids) - 1 - int(found[-1]) if len(found) else len(ids)


@hookimpl
def register_logits_processors(register):
    register("no_repeat_ngram", NoRepeatNgram)
    register("encoder_repetition", EncoderRepetition)
    register("dry", Dry)
