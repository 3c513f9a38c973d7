"""
The reducer: of the logits of many requests, the candidates that their chains leave.

Chains of one shape share one graph, and the rows of a step whose chains share a graph share one
call, each with its own parameters.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from decodekit.errors import DeviceError
from decodekit.graph_sampling.candidates import Candidates
from decodekit.graph_sampling.chain_shape import ChainShape, shape_of
from decodekit.graph_sampling.plan import Graph, Plan
from decodekit.graph_sampling.telling import Told, kind_of
from decodekit.ops import Array
from decodekit.processors import LogitsProcessor

if TYPE_CHECKING:
    from decodekit.graph_sampling.parameter import Guard

CANDIDATES = 256  # a row
FORM = {"cpu": "rank", "cuda": "rank"}  # measured on the CPU; on CUDA not yet
MAX_GRAPHS = 64  # kept compiled
MAX_VARIANTS = 16  # graphs of chains of the same classes: more would be compiled than run


@dataclass(frozen=True, slots=True)
class Compiled:
    """What came of a chain of some shape: for which parameters, and why no more of it is in the graph."""

    guards: Sequence[Guard]
    graph: Graph | None
    why: str

    def holds(self, values: Sequence[float]) -> bool:
        try:
            return all(guard(values) for guard in self.guards)
        except ArithmeticError:  # computed from other values, an answer may not exist
            return False


class Reducer:
    """Compiles chains and runs them beside a decode graph.

    vocabulary  V
    dtype       of the logits
    device      of the graphs, as for `Session`
    most        N, candidates a row at most; a row with more is left to the host
    form        "rank", "halve" or "sort", see `forms`; None: what is fastest on the device
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        dtype: Any = np.float32,
        device: str = "cpu",
        threads: int | None = None,
        most: int = CANDIDATES,
        form: str | None = None,
    ) -> None:
        if not can_trace():
            raise DeviceError(
                "sampling 'graph' traces chains with ndonnx, which is not installed; "
                "pip install 'decodekit[graph]', or use sampling='host'"
            )
        self.vocabulary, self.dtype, self.most = vocabulary, dtype, most
        self.device, self._threads = device, threads
        self._form = FORM[device.partition(":")[0]] if form is None else form
        self._compiled: OrderedDict[Any, list[Compiled]] = OrderedDict()
        self._variants: Counter[Any] = Counter()
        self._lock = threading.Lock()
        self.rows = 0  # that a graph looked at
        self.missed = 0  # of them, those left to the host

    def plan(self, processors: Sequence[LogitsProcessor]) -> Plan:
        """How a chain runs; the first of its shape takes the time of a compilation."""
        shape = shape_of(processors)
        if not shape.processors:
            return Plan(None, (), shape.why)
        with self._lock:
            found = self._find(shape) or self._compile(shape)
        done = () if found.graph is None else found.graph.processors
        telling = {place: processors[place] for place, one in enumerate(done) if kind_of(one)}
        return Plan(found.graph, shape.values, found.why or shape.why, telling)

    def reduce(
        self, plans: Sequence[Plan | None], logits: Array, told: Sequence[Told | None] | None = None
    ) -> list[Candidates | None]:
        """The candidates of each row of logits [R, V], by its plan; None where the host takes the row.

        told  what `Plan.told` gives for each row; None: nothing is told
        """
        told = [{}] * len(plans) if told is None else told
        groups: dict[int, list[tuple[int, Plan, Graph]]] = {}
        for row, plan in enumerate(plans):
            if plan is None or plan.graph is None or not plan.runs:
                continue
            if plan.telling.keys() <= (told[row] or {}).keys():
                groups.setdefault(id(plan.graph), []).append((row, plan, plan.graph))
        found: list[Candidates | None] = [None] * len(plans)
        for group in groups.values():
            graph = group[0][2]
            rows, values = [row for row, *_ in group], [plan.values for _, plan, _ in group]
            said = [told[row] or {} for row in rows]
            for (row, plan, _), some in zip(group, graph(logits, rows, values, said), strict=True):
                found[row] = some
                plan.misses = 0 if some else plan.misses + 1
                self.missed += some is None
            self.rows += len(rows)
        return found

    def _find(self, shape: ChainShape) -> Compiled | None:
        for one in self._compiled.get(shape.key, ()):
            if one.holds(shape.values):
                self._compiled.move_to_end(shape.key)
                return one
        return None

    def _compile(self, shape: ChainShape) -> Compiled:
        if self._variants[shape.classes] >= MAX_VARIANTS:
            why = f"{MAX_VARIANTS} graphs of such chains are compiled, each for other values"
            return Compiled((), None, why)
        try:
            made = self._made(shape)
        except TrialError as exc:  # of this chain: another one of its shape may be better
            return Compiled((), None, str(exc))
        self._variants[shape.classes] += 1
        self._compiled.setdefault(shape.key, []).append(made)
        while sum(map(len, self._compiled.values())) > MAX_GRAPHS:
            (oldest, *_), *_ = self._compiled.items()
            del self._compiled[oldest]
        return made

    def _made(self, shape: ChainShape) -> Compiled:
        from decodekit.graph_sampling.tracing import trace
        from decodekit.onnx_session import Session

        processors, why = shape.processors, ""
        while processors:
            traced = trace(
                processors,
                shape.fields,
                shape.values,
                vocabulary=self.vocabulary,
                dtype=self.dtype,
                most=self.most,
                form=self._form,
            )
            why = why or traced.why
            if not traced.done:
                break
            session = Session(traced.graph, device=self.device, threads=self._threads)
            done = processors[: traced.done]
            most = 1 if done[-1].keeps_best else min(self.most, self.vocabulary)
            kinds = {place: kind for place, one in enumerate(done) if (kind := kind_of(one))}
            graph = Graph(session, done, self.vocabulary, most, self.dtype, kinds)
            if _agrees(graph, shape.values):
                return Compiled(tuple(traced.guards), graph, why)
            processors, why = done[:-1], "its graph gives other numbers than NumPy"
        return Compiled((), None, why)


class TrialError(Exception):
    """A strategy failed where its graph was tried."""


def _agrees(graph: Graph, values: Sequence[float]) -> bool:
    try:
        return graph.agrees(values)
    except Exception as exc:  # whatever a third party's code raises here
        raise TrialError(f"a trial of it fails ({type(exc).__name__}: {exc})") from exc


def can_trace() -> bool:
    """Whether what traces is installed."""
    return find_spec("ndonnx") is not None
