"""A verdict: whether an answer that is decoded or checked again is the one of a record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is left of a record here and now.

    outcome  "equal"    ids and numbers are the record's
             "rounded"  ids are; numbers differ by no more than rounding
             "numbers"  ids are; numbers differ by more
             "token"    another token is chosen
             "end"      the answer ends elsewhere, or for another reason
    why      one line for people
    step     the first that is not as recorded, from 0; None: all are
    gap      by how much the recorded token loses there, nats; None: it does not
    changed  what is not as it was: bundle, versions, provider
    """

    outcome: str
    why: str
    step: int | None = None
    gap: float | None = None
    changed: Sequence[str] = ()

    @property
    def holds(self) -> bool:
        """Whether the record's tokens are those that come about here."""
        return self.outcome in ("equal", "rounded")

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `json.dumps`."""
        finite = self.gap is not None and math.isfinite(self.gap)
        return {"holds": self.holds, **asdict(self), "gap": self.gap if finite else None}
