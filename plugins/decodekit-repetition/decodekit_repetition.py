"""Strategies that keep an answer from repeating itself, or let it repeat the prompt."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np

from decodekit import LogitsProcessor, hookimpl
from decodekit.edits import Edits
from decodekit.errors import ParameterError
from decodekit.ops import Array
from decodekit.parameters import Real, Whole

MAX_BREAKERS = 64
MAX_CHARACTERS = 200  # of a breaker
LARGEST = 1e6  # nats that DRY takes off at most, so that nothing overflows


def followers(ids: Array, n: int) -> Array:
    """The ids that came behind an earlier occurrence of the last n - 1 of `ids`, int [K].

    ids  int [T]
    n    >= 1; at 1 these are all ids
    """
    places = np.arange(n - 1, len(ids))
    for back in range(1, n):
        if not len(places):
            break
        places = places[ids[places - back] == ids[-back]]
    return ids[places]


def repeats(ids: Array) -> tuple[Array, Array]:
    """For every id that would go on with something said before: the id, and how long it was, int [K] each.

    Where the end of `ids` [T] occurs a second time, earlier, the id behind it goes on with it. An id
    may occur in several such places; all are given. In O(T): the Z algorithm on the reversed ids,
    where only places that begin alike are looked at (Gusfield 1997, "Algorithms on Strings, Trees
    and Sequences", section 1.4).
    """
    back = ids[::-1]
    starts = 1 + np.flatnonzero(back[1:] == back[:1])
    newest, lengths = back.tolist(), [0] * len(ids)
    left = right = 0  # the span that reaches furthest back of those found equal to the newest ids
    for start in starts.tolist():
        length = min(lengths[start - left], right - start) if start < right else 0
        if start + length >= right:
            while start + length < len(newest) and newest[length] == newest[start + length]:
                length += 1
            left, right = start, start + length
        lengths[start] = length
    return back[starts - 1], np.asarray(lengths, np.int64)[starts]


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

    def edits(self, row, state):
        return Edits(followers(row.ids, self.n), add=-np.inf) if self.n else None


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

    theta: Annotated[float, Real("[1e-6, 1e6]", "factor; above 1 encourages", neutral=1)]

    def edits(self, row, state):
        return Edits(row.prompt, factor=1 / self.theta) if self.theta != 1 else None


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

    A breaker is found in the text, however tokens spell it: a repetition begins behind the last
    token that has a part of it. A token whose own text contains a breaker is never made less
    likely. Special tokens are spelt by their names. No breakers are known before `bind`.
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
        if len(self.breakers) > MAX_BREAKERS or any(len(b) > MAX_CHARACTERS for b in self.breakers):
            raise ParameterError(
                f"dry: at most {MAX_BREAKERS} breakers of {MAX_CHARACTERS} characters each, "
                f"got {len(self.breakers)} of up to {max(map(len, self.breakers))}"
            )
        object.__setattr__(self, "breakers", tuple(self.breakers))
        object.__setattr__(self, "_breakers", Breakers())

    def bind(self, tokenizer):
        bound = copy.copy(self)
        object.__setattr__(bound, "_breakers", _known(tokenizer, self.breakers))
        return bound

    def edits(self, row, state):
        if not self.multiplier or not (costs := self.costs(row.ids)):
            return None
        return Edits(np.fromiter(costs, np.int64), add=-np.fromiter(costs.values(), np.float64))

    def costs(self, ids: Array) -> dict[int, float]:
        """What is taken off the logit of each id that would go on with a repetition, nats."""
        if self.range:
            ids = ids[-self.range :]
        going_on, lengths = repeats(ids)
        long = lengths >= self.allowed_length
        if not long.any():
            return {}
        most = self._breakers.unbroken(ids, int(lengths.max()))
        longest: dict[int, int] = {}
        for id, length in zip(going_on[long].tolist(), lengths[long].tolist(), strict=True):
            longest[id] = max(longest.get(id, 0), min(length, most))
        return {
            id: self.cost(length)
            for id, length in longest.items()
            if length >= self.allowed_length and not self._breakers.inside(id)
        }

    def cost(self, length: int) -> float:
        """What going on with a repetition of `length` tokens costs, nats."""
        exponent = length - self.allowed_length
        if exponent * math.log(self.base) >= math.log(LARGEST) - math.log(self.multiplier):
            return LARGEST
        return self.multiplier * self.base**exponent


class Breakers:
    """Where a text breaks, by its tokens.

    spelt   the text of each token, by id
    sought  the texts that break
    """

    def __init__(self, spelt: Sequence[bytes] = (), sought: Sequence[bytes] = ()) -> None:
        self.spelt, self.sought = spelt, sought
        self.alone = frozenset(id for id, text in enumerate(spelt) if any(b in text for b in sought))
        self.reach = max(map(len, sought), default=1) - 1  # bytes of a breaker in the tokens before its last

    def inside(self, id: int) -> bool:
        """Whether the text of one token contains a breaker."""
        return id in self.alone

    def unbroken(self, ids: Array, most: int) -> int:
        """How many of the newest `most` ids lie behind the last token that has a part of a breaker."""
        pieces: list[bytes] = []  # from the end, as far back as a breaker of interest may begin
        wanted, before = most, 0  # tokens; bytes of those in front of them
        for id in reversed(ids.tolist()):
            if len(pieces) >= wanted and before >= self.reach:
                break
            piece = self.spelt[id] if id < len(self.spelt) else b""
            before += len(piece) if len(pieces) >= wanted else 0
            pieces.append(piece)
            if id in self.alone:
                wanted = min(wanted, len(pieces))
        text = b"".join(reversed(pieces))
        broken = max((at + len(b) for b in self.sought if (at := text.rfind(b)) >= 0), default=0)
        start = len(text)
        for count, piece in enumerate(pieces[:most]):
            start -= len(piece)
            if start < broken:
                return count
        return most


@lru_cache(maxsize=8)
def _known(tokenizer, breakers):
    """The breakers of a vocabulary, which takes a while to read."""
    texts = tokenizer.token_bytes or [b""] * tokenizer.size
    spelt = [text or _spelt(tokenizer.token(id)) for id, text in enumerate(texts)]
    return Breakers(spelt, [b.encode() for b in breakers])


def _spelt(token: str | None) -> bytes:
    """As the vocabulary does, which has names for special tokens."""
    return (token or "").replace("\u2581", " ").encode()


@hookimpl
def register_logits_processors(register):
    register("no_repeat_ngram", NoRepeatNgram)
    register("encoder_repetition", EncoderRepetition)
    register("dry", Dry)
