"""The summary of a job: what its records say, counted; as small for a billion rows as for ten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

COUNTERS = ("finish_reasons", "errors", "lengths")


class Summary:
    """Counts of records.

    finish_reasons  of answers
    errors          of rows that failed, by code
    lengths         of answers, tokens to two digits -> how many
    """

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        data = data or {}
        self.rows = int(data.get("rows", 0))
        self.prompt_tokens = int(data.get("prompt_tokens", 0))
        self.completion_tokens = int(data.get("completion_tokens", 0))
        self.scored_tokens = int(data.get("scored_tokens", 0))
        self.logprob = float(data.get("logprob", 0.0))
        self.finish_reasons = Counter(data.get("finish_reasons", {}))
        self.errors = Counter(data.get("errors", {}))
        self.lengths = Counter({int(n): count for n, count in data.get("lengths", {}).items()})

    @property
    def failed(self) -> int:
        """Rows that have an error instead of an answer."""
        return self.errors.total()

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one more record."""
        self.rows += 1
        if record.get("error"):
            self.errors[record["error"]["code"]] += 1
            return
        body = record["response"]["body"] if "response" in record else record
        if "score" in body:
            self.scored_tokens += body["score"]["tokens"]
            self.logprob += body["score"]["logprob"] or 0.0
            return
        usage = body["usage"]
        self.prompt_tokens += usage["prompt_tokens"]
        self.completion_tokens += usage["completion_tokens"]
        for answer in body.get("choices", [body]):
            self.finish_reasons[answer["finish_reason"]] += 1
        self.lengths[_two_digits(usage["completion_tokens"])] += 1

    def length(self, share: float) -> int:
        """The length that this share of the answers does not exceed, tokens, to two digits."""
        seen, wanted = 0, share * self.lengths.total()
        for length in sorted(self.lengths):
            seen += self.lengths[length]
            if seen >= wanted:
                return length
        return 0

    def to_json(self) -> dict[str, Any]:
        """Plain data, which makes the same summary again."""
        return {
            "rows": self.rows,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "scored_tokens": self.scored_tokens,
            "logprob": self.logprob,
            **{name: dict(sorted(getattr(self, name).items())) for name in COUNTERS},
        }


def _two_digits(length: int) -> int:
    """Rounded up, so that few lengths are told apart."""
    unit = 1
    while length > 99 * unit:
        unit *= 10
    return -(-length // unit) * unit


def tokens(record: Mapping[str, Any]) -> int:
    """Tokens that were generated, or scored, for a record."""
    body = record if "response" not in record or record.get("error") else record["response"]["body"]
    if "score" in body:
        return int(body["score"]["tokens"])
    return int(body["usage"]["completion_tokens"]) if "usage" in body else 0
