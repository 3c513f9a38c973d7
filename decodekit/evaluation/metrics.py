"""Metrics: how good an answer is, beside the one that was wanted. Each is a number in [0, 1]."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from decodekit.errors import ParameterError

SHARES = ("exact", "regex")  # right or wrong; the others are means
NAMES = ("exact", "prefix", "regex", "logprob")
Metric = Callable[[str, str], float]


def exact(answer: str, wanted: str) -> float:
    """Whether both are the same text; white space around them does not count."""
    return float(answer.strip() == wanted.strip())


def prefix(answer: str, wanted: str) -> float:
    """How much of the wanted text the answer begins with, by characters."""
    answer, wanted = answer.strip(), wanted.strip()
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(answer, wanted)))
    return same / len(wanted) if wanted else float(not answer)


@dataclass(frozen=True, slots=True)
class Found:
    """Whether a pattern finds the same in both: what its last match there is, or its first group there."""

    pattern: re.Pattern[str]

    def __call__(self, answer: str, wanted: str) -> float:
        right = self._last(wanted)
        return float(right is not None and self._last(answer) == right)

    def _last(self, text: str) -> str | None:
        found = None
        for match in self.pattern.finditer(text):
            found = match
        return None if found is None else found.group(1 if self.pattern.groups else 0)


def metrics(names: Sequence[str], pattern: str | None) -> Mapping[str, Metric]:
    """Metrics of answers by name; logprob is none of an answer.

    pattern  for "regex"
    """
    for name in names:
        if name not in NAMES:
            raise ParameterError(f"no metric named {name!r}; metrics: {', '.join(NAMES)}")
    if len({*names}) < len(names) or not names:
        raise ParameterError(f"--metric must name each metric once, got {','.join(names)!r}")
    if ("regex" in names) != (pattern is not None):
        raise ParameterError("the metric regex and --regex PATTERN need each other; give both or none")
    made: dict[str, Metric] = {"exact": exact, "prefix": prefix}
    if pattern is not None:
        try:
            made["regex"] = Found(re.compile(pattern))
        except re.error as exc:
            raise ParameterError(f"--regex: no pattern ({exc}): {pattern!r}") from exc
    return {name: made[name] for name in names if name != "logprob"}
