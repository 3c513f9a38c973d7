"""A plan: how far a chain runs in a graph, and the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from decodekit.graph_sampling.candidates import Candidates
from decodekit.history import Sequence as History
from decodekit.ops import Array
from decodekit.processors import LogitsProcessor, Step
from decodekit.sampling import Sampler

if TYPE_CHECKING:
    from decodekit.onnx_session import Session

STEEPNESS = (0.5, 4.0, 30.0)  # of the rows that a graph is tried on before it is used


@dataclass(frozen=True, slots=True)
class Graph:
    """A compiled graph, for all chains of one shape.

    session     runs it
    processors  those it was traced from, of a chain that is as good as any of this shape
    vocabulary  V
    most        N, candidates a row that it gives
    dtype       of the logits that it reads
    """

    session: Session
    processors: tuple[LogitsProcessor, ...]
    vocabulary: int
    most: int
    dtype: Any

    def __call__(
        self, logits: Array, rows: Sequence[int], values: Sequence[Sequence[float]]
    ) -> list[Candidates | None]:
        """The candidates of some rows of logits [R, V]; None: they are too many, or no numbers.

        logits  NumPy's, or `DeviceRows`
        values  of the parameters, a row of them each
        """
        found = self._run(logits, rows, values)
        counts, most = found["counts"], self.most
        usable = np.isfinite(found["masses"]).all(axis=-1) & (counts[:, -1] > 0) & (counts[:, -1] <= most)
        parts = zip(found["ids"], found["shaped"], found["raw"], counts.tolist(), strict=True)
        return [
            Candidates.of(*part, self.processors, self.vocabulary) if usable[i] else None
            for i, part in enumerate(parts)
        ]

    def _run(self, logits: Array, rows: Sequence[int], values: Sequence[Sequence[float]]) -> dict[str, Array]:
        there = getattr(logits, "array", None)  # in a device's memory
        feeds = {
            "logits": np.ascontiguousarray(logits, self.dtype) if there is None else there,
            "rows": np.asarray(rows, np.int64),
            "parameters": np.asarray(values, np.float64).reshape(len(rows), -1),
        }
        found = {name: np.empty(shape, dtype) for name, (shape, dtype) in self.shapes(len(rows)).items()}
        binding = self.session.binding()
        for name in feeds.keys() & self.session.inputs.keys():
            binding.input(name, feeds[name])
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

        But for one candidate in a thousand at the edge of a truncation, and for rounding.
        """
        rng, rows = np.random.default_rng(7), len(STEEPNESS)
        probe = rng.standard_normal((rows, self.vocabulary)) * np.asarray(STEEPNESS)[:, None]
        probe = probe.astype(self.dtype)
        step = Step.dense(tuple(History([0]).history() for _ in STEEPNESS), self.vocabulary)
        sampler = Sampler(self.processors, compact=False)
        stages, expected, _ = sampler.shape(probe.astype(np.float32), step, sampler.init(rows))
        found = self._run(probe, range(rows), [values] * rows)
        counts = np.stack([np.count_nonzero(stage.logits != -np.inf, axis=-1) for stage in stages], axis=-1)
        masses = np.logaddexp.reduce(expected.astype(np.float64), axis=-1)
        best = np.take_along_axis(expected, found["ids"][:, :1].astype(np.int64), axis=-1)
        return (
            bool((abs(counts - found["counts"]) <= 1 + counts // 1000).all())
            and np.allclose(masses, found["masses"][:, 1], 1e-3, 1e-2)
            and np.allclose(best, found["shaped"][:, :1], 1e-3, 1e-3)
        )


@dataclass(slots=True)
class Plan:
    """How one request's chain runs.

    graph    of its first processors; None: all of it runs on the host
    values   of the graph's parameters
    why      what comes next is on the host; "" where nothing comes
    misses   steps in a row whose candidates were too many
    """

    graph: Graph | None
    values: Sequence[float] = ()
    why: str = ""
    misses: int = field(default=0, compare=False)

    @property
    def done(self) -> int:
        """Processors in the graph."""
        return 0 if self.graph is None else len(self.graph.processors)
