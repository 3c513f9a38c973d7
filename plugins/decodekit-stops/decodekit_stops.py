"""More ways to end an answer: expressions, sequences of tokens, lengths, sections, doubt."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp
from typing import Annotated, Literal

import re2

from decodekit import Progress, Stop, StoppingCriterion, hookimpl
from decodekit.errors import ParameterError
from decodekit.parameters import Real, Whole, known_ids, token_ids

MAX_PATTERN = 2000  # characters
MAX_SEQUENCES = 64


@dataclass(frozen=True)
class StopRegex(StoppingCriterion):
    """Stop at the first match of a regular expression of at most `longest` characters.

    formula   the earliest token after which the last `longest` characters and the token's own contain a match
    boundary  keep="before": the match is no part of the answer; "through": it is
    ties      of several matches the one that begins first, as RE2 finds it
    history   the answer's text
    neutral   none
    source    RE2 syntax, github.com/google/re2/wiki/Syntax; linear in the text for every pattern
    """

    pattern: str
    keep: Literal["before", "through"] = "before"
    longest: Annotated[
        int, Whole("[1, 4096]", "characters a match may have; a stream holds back as many")
    ] = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.pattern, str) or not 0 < len(self.pattern) <= MAX_PATTERN:
            raise ParameterError(
                f"stop_regex: pattern is a text of 1 to {MAX_PATTERN} characters, got {self.pattern!r:.60}"
            )
        if self.keep not in ("before", "through"):
            raise ParameterError(f"stop_regex: keep must be 'before' or 'through', got {self.keep!r}")
        options = re2.Options()
        options.log_errors = False
        try:
            expression = re2.compile(self.pattern, options)
        except re2.error as exc:
            reason = exc.args[0].decode() if isinstance(exc.args[0], bytes) else exc
            raise ParameterError(
                f"stop_regex: pattern {self.pattern!r:.60} is none of RE2: {reason}; "
                "it has no look-around and no back-references"
            ) from exc
        if expression.search("") is not None:
            raise ParameterError(
                f"stop_regex: pattern {self.pattern!r:.60} matches nothing at all; ask for a character"
            )
        object.__setattr__(self, "_expression", expression)

    def check(self, progress: Progress) -> Stop | None:
        begin = max(0, progress.start - self.longest)
        match = self._expression.search(progress.text[begin:])  # type: ignore[attr-defined]
        if match is None or match.end() - match.start() > self.longest:
            return None
        at, end = begin + match.start(), begin + match.end()
        return Stop("stop", keep=at if self.keep == "before" else end, by=f"/{self.pattern}/")

    def pending(self, text: str) -> int:
        return min(len(text), self.longest) if self.keep == "before" else 0


@dataclass(frozen=True)
class StopSequences(StoppingCriterion):
    """Stop where the newest generated tokens are one of some sequences of ids; they are kept.

    formula   the last len(s) generated ids are s, for an s of `sequences`
    boundary  ids of the prompt do not count
    ties      of several the one listed first
    history   the answer's ids
    neutral   none
    source    transformers, `StopStringCriteria` by tokens; CTranslate2, `end_token`
    """

    sequences: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        if not isinstance(self.sequences, list | tuple) or not 0 < len(self.sequences) <= MAX_SEQUENCES:
            raise ParameterError(
                f"stop_sequences: sequences are 1 to {MAX_SEQUENCES} lists of ids, got {self.sequences!r:.60}"
            )
        for i, ids in enumerate(self.sequences):
            token_ids(f"stop_sequences: sequences[{i}]", ids)
            if not ids:
                raise ParameterError(f"stop_sequences: sequences[{i}] is empty; give at least one token id")
        object.__setattr__(self, "sequences", tuple(map(tuple, self.sequences)))

    def bind(self, tokenizer):
        known_ids("stop_sequences", [i for ids in self.sequences for i in ids], tokenizer.size)
        return self

    def check(self, progress: Progress) -> Stop | None:
        generated = progress.history.generated
        for ids in self.sequences:
            if generated[-len(ids) :].tolist() == list(ids):
                return Stop("stop", by=f"tokens {list(ids)}")
        return None


@dataclass(frozen=True)
class MaxLength(StoppingCriterion):
    """Stop at n tokens, prompt and answer together.

    formula   prompt + generated >= n
    boundary  a prompt of n tokens or more gets one
    ties      none
    history   both lengths
    neutral   none
    source    transformers, `MaxLengthCriteria`
    """

    n: Annotated[int, Whole("[1, inf)", "tokens, prompt included")]

    def check(self, progress: Progress) -> Stop | None:
        done = len(progress.history.ids) >= self.n
        return Stop("length", by=f"{self.n} tokens with the prompt") if done else None


@dataclass(frozen=True)
class SectionBudget(StoppingCriterion):
    """Stop where a section of the answer, such as its thinking, has n tokens and no end.

    formula   n or more tokens began behind the last `open` of the text, and no `close` came behind it
    boundary  the token that completes `open` does not count, nor does one that completes `close`
    ties      none
    history   the answer's text and ids
    neutral   none
    source    vLLM, `thinking_token_budget`; llama.cpp, `reasoning-budget`
    """

    n: Annotated[int, Whole("[1, inf)", "tokens")]
    open: str = "<think>"
    close: str = "</think>"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("open", "close"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ParameterError(f"section_budget: {name} must be a text, got {getattr(self, name)!r}")

    def check(self, progress: Progress) -> Stop | None:
        opened = progress.text.rfind(self.open)
        if opened < 0 or self.close in progress.text[opened:]:
            return None
        count = len(progress.starts) - bisect_left(progress.starts, opened + len(self.open))
        return Stop("length", by=f"{self.n} tokens behind {self.open!r}") if count >= self.n else None


@dataclass(frozen=True)
class LowConfidence(StoppingCriterion):
    """Stop after some tokens in a row at which the model was not sure.

    formula   H > entropy, or p(token) < probability, at each of the last `tokens` places
    boundary  strict on both sides
    ties      none
    history   the model's own distributions, before every strategy
    neutral   entropy = none and probability = 0
    source    transformers, `ConfidenceCriteria`, generalised
    """

    entropy: Annotated[float | None, Real("[0, inf)", "nats, above which it is not sure")] = None
    probability: Annotated[
        float, Real("[0, 1]", "of the chosen token, below which it is not sure", neutral=0)
    ] = 0.0
    tokens: Annotated[int, Whole("[1, inf)", "places in a row")] = 1

    needs_confidence = True

    def check(self, progress: Progress) -> Stop | None:
        newest = progress.confidence[-self.tokens :]
        if len(newest) < self.tokens or not all(map(self._unsure, newest)):
            return None
        last = newest[-1]
        return Stop("confidence", by=f"entropy {last.entropy:.2f}, probability {exp(-last.surprise):.2g}")

    def _unsure(self, confidence) -> bool:
        confused = self.entropy is not None and confidence.entropy > self.entropy
        return confused or exp(-confidence.surprise) < self.probability


@dataclass(frozen=True)
class When(StoppingCriterion):
    """Stop where a function of the progress says so: True, a reason, or a Stop. From Python only.

    formula   function(progress)
    boundary  the function's
    ties      none
    history   all that `Progress` has
    neutral   a function that answers None or False
    source    transformers, `StoppingCriteria`; llama-cpp-python, `stopping_criteria`
    """

    function: Callable[[Progress], bool | str | Stop | None]

    def check(self, progress: Progress) -> Stop | None:
        answer = self.function(progress)
        if answer is None or answer is False:
            return None
        if answer is True:
            return Stop("stop", by=getattr(self.function, "__name__", "a function"))
        return Stop(answer) if isinstance(answer, str) else answer


@hookimpl
def register_stopping_criteria(register):
    register("stop_regex", StopRegex)
    register("stop_sequences", StopSequences)
    register("max_length", MaxLength)
    register("section_budget", SectionBudget)
    register("low_confidence", LowConfidence)
