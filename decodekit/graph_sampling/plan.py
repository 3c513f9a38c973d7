"""A plan: how far a chain runs in a graph, and the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from decodekit.graph_sampling.candidates import Candidates
from decodekit.graph_sampling.telling import Told, feeds, tell
from decodekit.history import History
from decodekit.history import Sequence as Row
from decodekit.ops import Array
from decodekit.processors import LogitsProcessor, State, Step
from decodekit.sampling import Sampler

if TYPE_CHECKING:
    from decodekit.onnx_session import Session

PATIENCE = 4  # misses in a row after which a request stays on the host
STEEPNESS = (0.5, 4.0, 30.0)  # of the rows that a graph is tried on before it is used


@dataclass(frozen=True, slots=True)
class Graph:
    """A compiled graph, for all chains of one shape.

    session     runs it
    processors  those it was traced from, of a chain that is as good as any of this shape
    vocabulary  V
    most        N, candidates a row that it gives
    dtype       of the logits that it reads
    kinds       what it is told besides, by the place of a strategy, see `telling`
    """

    session: Session
    processors: tuple[LogitsProcessor, ...]
    vocabulary: int
    most: int
    dtype: Any
    kinds: Mapping[int, str]

    def __call__(
        self, logits: Array, rows: Sequence[int], values: Sequence[Sequence[float]], told: Sequence[Told]
    ) -> list[Candidates | None]:
        """The candidates of some rows of logits [R, V]; None: they are too many, or no numbers.

        logits  NumPy's, or `DeviceRows`
        values  of the parameters, a row of them each
        told    what strategies say of each row
        """
        found = self._run(logits, rows, values, told)
        counts, most = found["counts"], self.most
        usable = np.isfinite(found["masses"]).all(axis=-1) & (counts[:, -1] > 0) & (counts[:, -1] <= most)
        parts = zip(found["ids"], found["shaped"], found["raw"], counts.tolist(), strict=True)
        return [
            Candidates.of(*part, self.processors, self.vocabulary) if usable[i] else None
            for i, part in enumerate(parts)
        ]

    def _run(
        self, logits: Array, rows: Sequence[int], values: Sequence[Sequence[float]], told: Sequence[Told]
    ) -> dict[str, Array]:
        there = getattr(logits, "array", None)  # in a device's memory
        given = {
            "logits": np.ascontiguousarray(logits, self.dtype) if there is None else there,
            "rows": np.asarray(rows, np.int64),
            "parameters": np.asarray(values, np.float64).reshape(len(rows), -1),
        } | feeds(self.kinds, told, self.vocabulary)
        found = {name: np.empty(shape, dtype) for name, (shape, dtype) in self.shapes(len(rows)).items()}
        binding = self.session.binding()
        for name in given.keys() & self.session.inputs.keys():
            binding.input(name, given[name])
        for name, array in found.items():
            binding.output(name, array)
        binding.run()
        return found

    def shapes(self, rows: int) -> dict[str, tuple[tuple[int, int], Any]]:
        """Shape and type of what crosses for so many rows."""
        return {
            "ids": ((rows, self.most), np.int32),
            "raw": ((rows, self.most), np.float32),
            "shaped": ((rows, self.most), np.float32),
            "counts": ((rows, len(self.processors)), np.int32),
            "masses": ((rows, 2), np.float32),
        }

    def row_bytes(self) -> int:
        """What crosses for a row of a step."""
        return sum(width * np.dtype(dtype).itemsize for (_, width), dtype in self.shapes(1).values())

    def agrees(self, values: Sequence[float]) -> bool:
        """Whether it gives what NumPy gives, on rows that nobody chose, flat ones and steep ones.

        But for one candidate in a thousand at the edge of a truncation, and for rounding. Rows that
        it leaves to the host are not compared, but one is.
        """
        rng, rows = np.random.default_rng(7), len(STEEPNESS)
        probe = rng.standard_normal((rows, self.vocabulary)) * np.asarray(STEEPNESS)[:, None]
        probe = probe.astype(self.dtype)
        step = Step.dense(tuple(Row([0]).history() for _ in STEEPNESS), self.vocabulary)
        sampler = Sampler(self.processors, compact=False)
        stages, expected, _ = sampler.shape(probe.astype(np.float32), step, sampler.init(rows))
        told = [
            {place: tell(self.processors[place], row, self.processors[place].init(1)) for place in self.kinds}
            for row in step.rows
        ]
        found = self._run(probe, range(rows), [values] * rows, told)
        counts = np.stack([np.count_nonzero(stage.logits != -np.inf, axis=-1) for stage in stages], axis=-1)
        masses = np.logaddexp.reduce(expected.astype(np.float64), axis=-1)
        best = np.take_along_axis(expected, found["ids"][:, :1].astype(np.int64), axis=-1)
        sure = np.isfinite(found["masses"]).all(axis=-1)
        return (
            bool(sure.any())
            and bool((abs(counts - found["counts"])[sure] <= 1 + counts[sure] // 1000).all())
            and np.allclose(masses[sure], found["masses"][sure, 1], 1e-3, 1e-2)
            and np.allclose(best[sure], found["shaped"][sure, :1], 1e-3, 1e-3)
        )


@dataclass(slots=True)
class Plan:
    """How one request's chain runs.

    graph    of its first processors; None: all of it runs on the host
    values   of the graph's parameters
    why      what comes next is on the host; "" where nothing comes
    telling  its strategies that the graph is told of
    misses   steps in a row whose candidates were too many
    """

    graph: Graph | None
    values: Sequence[float] = ()
    why: str = ""
    telling: Mapping[int, LogitsProcessor] = field(default_factory=dict)
    misses: int = field(default=0, compare=False)

    @property
    def done(self) -> int:
        """Processors in the graph."""
        return 0 if self.graph is None else len(self.graph.processors)

    @property
    def runs(self) -> bool:
        """Whether the next step is the graph's."""
        return self.graph is not None and self.misses < PATIENCE

    def told(self, row: History, states: Sequence[State]) -> Told | None:
        """What the graph is told of a step; None: a strategy fails, which the host will say better.

        states  of all processors of the chain
        """
        try:
            return {place: tell(one, row, states[place]) for place, one in self.telling.items()}
        except Exception:  # whatever a third party's code raises
            return None
