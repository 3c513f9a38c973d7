"""Strategies that push, ban, allow or force tokens, and sequences of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from decodekit import LogitsProcessor, hookimpl
from decodekit.errors import ParameterError
from decodekit.ops import Array, keep
from decodekit.parameters import Real, Whole, known_ids, real, token_ids

MAX_SEQUENCES = 1000


def pushed(history: Array, ids: Array, sequences: Mapping[tuple[int, ...], float]) -> Array:
    """What to add to each candidate, float64 [N].

    history    int [T], ids so far
    ids        int [N], token id of each candidate
    sequences  ids of a sequence -> what its last id gets where the ones before are the end of the history
    """
    added: dict[int, float] = {}
    for sequence, bias in sequences.items():
        *before, last = sequence
        if len(before) <= len(history) and history[len(history) - len(before) :].tolist() == before:
            added[last] = added.get(last, 0.0) + bias
    named = np.asarray(sorted(added), np.int64)
    if not len(named):
        return np.zeros(ids.shape)
    place = np.searchsorted(named, ids).clip(max=len(named) - 1)
    return np.where(named[place] == ids, np.asarray([added[i] for i in named.tolist()])[place], 0.0)


@dataclass(frozen=True)
class SequenceBias(LogitsProcessor):
    """Push the last token of a sequence where the ones before it were just said; [] is neutral.

    formula   l[v] += bias where (end of the ids, v) is a sequence; several sequences add up
    boundary  a sequence of one token is always pushed
    ties      none
    history   prompt and answer
    neutral   sequences = []
    source    transformers, `SequenceBiasLogitsProcessor`

    A sequence is {"tokens": [ids], "bias": nats} or {"text": text, "bias": nats}, bias in [-100, 100]; a
    text is the tokens that spell it by itself.
    """

    sequences: Sequence[Mapping[str, Any]]

    def __post_init__(self) -> None:
        if isinstance(self.sequences, str | Mapping) or len(self.sequences) > MAX_SEQUENCES:
            raise ParameterError(f"sequence_bias: sequences is a list of at most {MAX_SEQUENCES} objects")
        for i, entry in enumerate(self.sequences):
            place = f"sequence_bias: sequences[{i}]"
            if not isinstance(entry, Mapping) or entry.keys() not in ({"tokens", "bias"}, {"text", "bias"}):
                raise ParameterError(
                    f'{place} must be {{"tokens" or "text": ..., "bias": nats}}, got {entry!r:.80}'
                )
            real(f"{place}.bias", entry["bias"], "[-100, 100]")
            _check_sequence(place, entry.get("tokens", entry.get("text")))
        object.__setattr__(self, "sequences", tuple(self.sequences))

    def bind(self, tokenizer):
        sequences: dict[tuple[int, ...], float] = {}
        for entry in self.sequences:
            ids = _ids("sequence_bias", entry.get("tokens", entry.get("text")), tokenizer)
            sequences[ids] = sequences.get(ids, 0.0) + entry["bias"]
        return _Pushing(sequences)

    def process(self, logits, step, state):
        return _Pushing({tuple(e["tokens"]): e["bias"] for e in self.sequences}).process(logits, step, state)


@dataclass(frozen=True)
class BadWords(LogitsProcessor):
    """Never complete one of some words, as their tokens; [] is neutral.

    formula   l[v] = -inf where (end of the ids, v) is a word
    boundary  a word of one token is never said
    ties      none
    history   prompt and answer
    neutral   words = []
    source    transformers, `NoBadWordsLogitsProcessor`; vLLM, `bad_words`

    A word is a text, banned as it is spelt by itself and behind a space, or a list of ids. The
    same text spelt by other tokens goes through; decodekit-banned-phrases bans the text.
    """

    words: Sequence[str | Sequence[int]]

    def __post_init__(self) -> None:
        if isinstance(self.words, str) or len(self.words) > MAX_SEQUENCES:
            raise ParameterError(
                f"bad_words: words is a list of at most {MAX_SEQUENCES} texts or lists of ids"
            )
        for i, word in enumerate(self.words):
            _check_sequence(f"bad_words: words[{i}]", word)
        object.__setattr__(self, "words", tuple(self.words))

    def bind(self, tokenizer):
        spelt = [_ids("bad_words", word, tokenizer) for word in self.words]
        spelt += [_ids("bad_words", " " + word, tokenizer) for word in self.words if isinstance(word, str)]
        return _Pushing(dict.fromkeys(spelt, -np.inf))

    def process(self, logits, step, state):
        return _Pushing(dict.fromkeys(map(tuple, self.words), -np.inf)).process(logits, step, state)


class _Pushing(LogitsProcessor):
    """Sequences of ids, and what to add to the last of each."""

    def __init__(self, sequences: Mapping[tuple[int, ...], float]) -> None:
        self._sequences = sequences

    def process(self, logits, step, state):
        if not self._sequences:
            return logits
        rows = zip(step.rows, step.ids, strict=True)
        added = np.stack([pushed(row.ids, ids, self._sequences) for row, ids in rows])
        return logits + added.astype(logits.dtype)


@dataclass(frozen=True)
class AllowedTokens(LogitsProcessor):
    """Remove every token but some.

    formula   l[v] = -inf where v is none of `ids`
    boundary  an end token is allowed only if it is among them; where none of them is left, an error
    ties      none
    history   none
    neutral   none
    source    vLLM, `allowed_token_ids`; transformers, `prefix_allowed_tokens_fn`
    """

    ids: Collection[int]

    def __post_init__(self) -> None:
        token_ids("allowed_tokens: ids", self.ids)
        if not self.ids:
            raise ParameterError("allowed_tokens: ids is empty, so nothing could be said; give at least one")
        object.__setattr__(self, "ids", tuple(sorted(set(self.ids))))

    def bind(self, tokenizer):
        known_ids("allowed_tokens", self.ids, tokenizer.size)
        return self

    def process(self, logits, step, state):
        return keep(logits, np.isin(step.ids, self.ids))


@dataclass(frozen=True)
class SuppressAtBegin(LogitsProcessor):
    """Remove some tokens at the first place of an answer; [] is neutral.

    formula   l[v] = -inf where v is one of `ids` and nothing was generated yet
    boundary  the first token only
    ties      none
    history   the length of the answer
    neutral   ids = []
    source    transformers, `SuppressTokensAtBeginLogitsProcessor`
    """

    ids: Collection[int]

    def __post_init__(self) -> None:
        token_ids("suppress_at_begin: ids", self.ids)
        object.__setattr__(self, "ids", tuple(sorted(set(self.ids))))

    def bind(self, tokenizer):
        known_ids("suppress_at_begin", self.ids, tokenizer.size)
        return self

    def process(self, logits, step, state):
        first = np.asarray([[not len(row.generated)] for row in step.rows])
        if not self.ids or not first.any():
            return logits
        return keep(logits, ~(first & np.isin(step.ids, self.ids)))


@dataclass(frozen=True)
class ForcedPrefix(LogitsProcessor):
    """Let every answer begin with a text, or with some ids; "" is neutral.

    formula   l[v] = -inf where v is not the next id of the prefix
    boundary  behind the prefix nothing is removed
    ties      none
    history   the length of the answer
    neutral   prefix = "" or []
    source    transformers, `ForceTokensLogitsProcessor`

    Its tokens are known ahead, so speculation reads them in one call.
    """

    prefix: str | Sequence[int]

    def __post_init__(self) -> None:
        if self.prefix not in ("", [], ()):
            _check_sequence("forced_prefix: prefix", self.prefix)

    def bind(self, tokenizer):
        if not self.prefix:
            return self
        return replace(self, prefix=_ids("forced_prefix", self.prefix, tokenizer))

    def process(self, logits, step, state):
        wanted = [self.forced(row, state)[:1] for row in step.rows]
        if not any(wanted):
            return logits
        kept = [
            np.isin(ids, one) if one else np.ones(ids.shape, bool)
            for ids, one in zip(step.ids, wanted, strict=True)
        ]
        return keep(logits, np.stack(kept))

    def forced(self, row, state):
        return tuple(self.prefix[len(row.generated) :])


@dataclass(frozen=True)
class LengthDecay(LogitsProcessor):
    """Make the end of an answer more likely with every token behind the first `start`; factor 1 is neutral.

    formula   l[e] += |l[e]| * (factor^(n - start) - 1) for end tokens e, n > start tokens generated
    boundary  nothing at n = start; the factor's power is at most 1e6
    ties      none
    history   the length of the answer
    neutral   factor = 1
    source    transformers, `ExponentialDecayLengthPenalty`
    """

    start: Annotated[int, Whole("[0, inf)", "tokens before it begins")]
    factor: Annotated[float, Real("(0, 100]", "for every token more", neutral=1)] = 1.0
    ends: Collection[int] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        token_ids("length_decay: ends", self.ends)
        object.__setattr__(self, "ends", tuple(sorted(set(self.ends))))

    def bind(self, tokenizer):
        known_ids("length_decay", self.ends, tokenizer.size)
        ends = self.ends or tokenizer.stop_ids
        if not ends:
            raise ParameterError(
                "length_decay: this model has no stop token; name some with length_decay.ends"
            )
        return replace(self, ends=tuple(ends))

    def process(self, logits, step, state):
        over = np.asarray([[max(0, len(row.generated) - self.start)] for row in step.rows])
        if self.factor == 1 or not over.any():
            return logits
        power = np.exp(np.minimum(over * np.log(self.factor), np.log(1e6)))
        ends = np.isin(step.ids, self.ends) & np.isfinite(logits)
        gain = np.where(ends, np.abs(np.where(ends, logits, 0.0)) * (power - 1), 0.0)
        return logits + gain.astype(logits.dtype)


def _check_sequence(place: str, sequence: Any) -> None:
    if isinstance(sequence, str):
        if not sequence:
            raise ParameterError(f"{place} is empty; give at least one character")
        return
    token_ids(place, sequence)
    if not sequence:
        raise ParameterError(f"{place} is empty; give at least one token id")


def _ids(name: str, sequence: str | Sequence[int], tokenizer: Any) -> tuple[int, ...]:
    if isinstance(sequence, str):
        return tuple(tokenizer.encode_plain(sequence))
    known_ids(name, sequence, tokenizer.size)
    return tuple(sequence)


@hookimpl
def register_logits_processors(register):
    register("sequence_bias", SequenceBias)
    register("bad_words", BadWords)
    register("allowed_tokens", AllowedTokens)
    register("suppress_at_begin", SuppressAtBegin)
    register("forced_prefix", ForcedPrefix)
    register("length_decay", LengthDecay)
