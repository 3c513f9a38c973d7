"""Stages: where each strategy of a chain runs, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from decodekit.graph_sampling.reducer import Reducer
from decodekit.processors import LogitsProcessor

WITHOUT = "nothing traces it; pip install 'decodekit[graph]'"


@dataclass(frozen=True, slots=True)
class Stage:
    """One strategy of a chain.

    where  "graph" or "host"
    why    it is on the host; "" for the graph
    """

    name: str
    where: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.why}" if self.why else self.where


def stages(
    names: Sequence[str], processors: Sequence[LogitsProcessor], reducer: Reducer | None
) -> list[Stage]:
    """The stages of a chain, in order.

    reducer  what would run it; None: nothing that traces is installed
    """
    if reducer is None:
        return [Stage(name, "host", WITHOUT) for name in names]
    plan = reducer.plan(processors)
    found = [Stage(name, "graph") for name in names[: plan.done]]
    for name in names[plan.done :]:
        first = len(found) == plan.done
        found.append(Stage(name, "host", plan.why if first else f"it follows {names[plan.done]}"))
    return found
