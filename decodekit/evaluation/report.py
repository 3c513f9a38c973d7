"""The report of an evaluation: a value and an interval by metric and chain, and in words what they tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from decodekit.evaluation.intervals import Bootstrap, wilson
from decodekit.evaluation.metrics import SHARES

NEAR_ZERO = 0.05  # a value that is below it for sure
FEW = 20  # rows of which nothing is told but their values


@dataclass(frozen=True, slots=True)
class Value:
    """Of one metric under one chain, and at 95% where it may lie.

    than_first  the same of its difference to the first chain, row by row
    """

    mean: float
    low: float
    high: float
    than_first: tuple[float, float]

    @property
    def differs(self) -> bool:
        """Whether it is another than the first chain's by more than chance."""
        return self.than_first[0] > 0 or self.than_first[1] < 0


@dataclass(frozen=True, slots=True)
class Report:
    """Of one evaluation.

    chains   as they were written
    rows     that were answered
    failed   rows that were not
    values   metric -> a value for each chain
    logprob  of the wanted completions, nats a token, mean over rows; of the model, whatever the chain
    """

    chains: Sequence[str]
    rows: int
    failed: int
    values: Mapping[str, Sequence[Value]]
    logprob: Value | None

    def words(self) -> list[str]:
        """What the numbers tell, a sentence each."""
        said = [f"{self.failed:,} rows failed and count nowhere"] if self.failed else []
        if not self.rows:
            return [*said, "no row was answered"]
        if self.rows < FEW:
            return [*said, f"{self.rows} rows are too few to tell chains apart; give {FEW} or more"]
        for name, values in self.values.items():
            if not any(value.mean for value in values):
                said.append(
                    f"{name} is zero under every chain, and below {max(v.high for v in values):.1%} at 95%; "
                    "this says nothing of the chains"
                )
            elif max(value.high for value in values) < NEAR_ZERO:
                said.append(
                    f"{name} is near zero: at most {max(v.mean for v in values):.1%}, and below "
                    f"{max(v.high for v in values):.1%} at 95%, under every chain; "
                    "the model does not do this task, and no sampler makes it"
                )
            elif len(values) > 1:
                other = [chain for chain, value in zip(self.chains, values) if value.differs]
                found = "; ".join(other) if other else "none"
                said.append(f"{name}: other than {self.chains[0]} by more than chance: {found}")
        if len(self.chains) > 2:
            said.append(f"{len(self.chains) - 1} comparisons at 95% each: one in twenty errs by chance")
        return said

    def to_json(self) -> dict[str, Any]:
        """Plain data."""

        def plain(value: Value) -> dict[str, Any]:
            return {
                "mean": value.mean,
                "interval": [value.low, value.high],
                "than_first": [*value.than_first],
            }

        return {
            "rows": self.rows,
            "failed": self.failed,
            "chains": [*self.chains],
            "metrics": {name: [plain(v) for v in values] for name, values in self.values.items()},
            **({} if self.logprob is None else {"logprob": plain(self.logprob)}),
            "words": self.words(),
        }


def report(
    records: Iterable[Mapping[str, Any]], chains: Sequence[str], names: Sequence[str], *, logprob: bool
) -> Report:
    """From the records of a job. One pass, in memory that does not grow with the rows."""
    table = Bootstrap(len(names) * len(chains) + logprob)
    failed = 0
    for record in records:
        if record.get("error"):
            failed += 1
            continue
        numbers = [choice["worth"][name] for name in names for choice in record["choices"]]
        table.add(record["row"], np.asarray([*numbers, record["logprob"]] if logprob else numbers, float))
    values = {
        name: [_value(table, i * len(chains) + k, i * len(chains), name) for k in range(len(chains))]
        for i, name in enumerate(names)
    }
    last = len(names) * len(chains)
    return Report(
        chains, table.count, failed, values, _value(table, last, last, "logprob") if logprob else None
    )


def _value(table: Bootstrap, number: int, first: int, name: str) -> Value:
    low, high = table.interval(number)
    if name in SHARES or (low == high and name != "logprob"):  # a mean of [0, 1] is no wider than a share
        low, high = wilson(table.sums[number], table.count)
    return Value(float(table.means[number]), low, high, table.interval(number, first))
