"""
Tracing: the first processors of a chain as a graph of their own.

Graph inputs   logits float32 or float16 [R, V], as a decode graph gives them
               rows int64 [B], which of them the graph looks at
               parameters float64 [B, P], absent where nothing asks for one
               what strategies that edit or mask say, see `telling`
Graph outputs  ids int32 [B, N], the candidates that are left and, behind them, some that are not;
               N = 1 where the last processor keeps the best
               raw, shaped float32 [B, N], their logits before and after the processors
               counts int32 [B, S], how many were left after each processor
               masses float32 [B, 2], log-sum of exp over the vocabulary, before and after them

What traces is found by trying, since a third party's processor may trace as well as ours. With
`parameter`, `editing` and `forms` all that imports ndonnx; load it only where a graph is wanted.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import ndonnx as ndx
import numpy as np
import spox
import spox.opset.ai.onnx.v21 as op
from spox._future import ValuePropBackend, value_prop_backend

from decodekit.graph_sampling import editing
from decodekit.graph_sampling.chain_shape import Field
from decodekit.graph_sampling.forms import FORMS
from decodekit.graph_sampling.parameter import Guard, Parameter, Values
from decodekit.graph_sampling.telling import kind_of
from decodekit.processors import LogitsProcessor, Step


@dataclass(frozen=True)
class Traced:
    """What tracing gave.

    graph   ONNX; b"" where nothing traced
    done    how many processors are in it
    why     the next one is not; "" where there is none
    guards  tell for which parameters it is right
    """

    graph: bytes
    done: int
    why: str
    guards: Sequence[Guard]


class AskedForMoreError(Exception):
    """A processor asked for what a graph is not told."""


class TracedStep:
    """What a processor is told of a step while it is traced: the ids of the columns, nothing else."""

    def __init__(self, ids: ndx.Array) -> None:
        self.ids = ids

    def __getattr__(self, name: str) -> Any:
        raise AskedForMoreError(f"it asks for step.{name}")


def trace(
    processors: Sequence[LogitsProcessor],
    parameters: Sequence[Field],
    values: Values,
    *,
    vocabulary: int,
    dtype: Any,
    most: int,
    form: str,
) -> Traced:
    """As many of the processors, from the first, as can be traced.

    parameters  the fields of processors that become inputs
    values      of these, now
    dtype       of the logits
    most        N, candidates a row that the graph gives
    form        in which those are traced that have several, see `forms`
    """
    with value_prop_backend(ValuePropBackend.REFERENCE):  # not by a session of onnxruntime for each constant
        return _trace(processors, parameters, values, vocabulary, dtype, most, FORMS[form])


def _trace(
    processors: Sequence[LogitsProcessor],
    parameters: Sequence[Field],
    values: Values,
    vocabulary: int,
    dtype: Any,
    most: int,
    forms: Mapping[type[LogitsProcessor], Any],
) -> Traced:
    given = ndx.argument(shape=("sequences", vocabulary), dtype=ndx.from_numpy_dtype(np.dtype(dtype)))
    rows = ndx.argument(shape=("rows",), dtype=ndx.int64)
    columns = ndx.argument(shape=("rows", len(parameters)), dtype=ndx.float64)
    raw = ndx.astype(ndx.take(given, rows, axis=0), ndx.float32)
    step = TracedStep(ndx.zeros_like(raw, dtype=ndx.int64) + ndx.arange(vocabulary, dtype=ndx.int64))

    inputs = {"logits": given, "rows": rows, "parameters": columns}
    logits, counts, guards, why, best = raw, list[ndx.Array](), list[Guard](), "", False
    for place, processor in enumerate(processors):
        if best:
            why = "it follows one that leaves the best alone"
            break
        if processor.keeps_best:
            best = True
            counts.append(ndx.ones_like(raw[:, :1], dtype=ndx.int64))
            continue
        asked: list[Guard] = []
        try:
            if kind := kind_of(processor):
                said = editing.inputs(kind, place, vocabulary)
                after = _said(logits, kind, [*said.values()], vocabulary)
                inputs |= said
            else:
                told = _with_inputs(processor, place, parameters, values, columns, asked)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of NumPy, about numbers that are not known yet
                    if form := forms.get(type(processor)):
                        after = form(told, logits, vocabulary, most)
                    else:
                        after = _checked(told.process(logits, cast(Step, step), ()), vocabulary)
        except Exception as exc:  # whatever a third party's code raises here
            known = isinstance(exc, AskedForMoreError)
            why = str(exc) if known else f"no graph can be made of it ({type(exc).__name__}: {exc})"
            break
        logits = after
        guards += asked
        counts.append(ndx.count_nonzero(~(logits == -ndx.inf), axis=-1, keepdims=True))
    if not counts:
        return Traced(b"", 0, why, ())
    most = 1 if best else min(most, vocabulary)
    model = spox.build(
        {name: array.unwrap_spox() for name, array in inputs.items()},
        _compacted(raw, logits, ndx.concat(counts, axis=-1), most),
        drop_unused_inputs=True,
    )
    return Traced(model.SerializeToString(), len(counts), why, guards)


def _with_inputs(
    processor: LogitsProcessor,
    place: int,
    parameters: Sequence[Field],
    values: Values,
    columns: ndx.Array,
    asked: list[Guard],
) -> LogitsProcessor:
    """The processor with inputs in place of its parameters."""
    told = copy.copy(processor)
    for number, field in enumerate(parameters):
        if field.place != place:
            continue
        column = columns[:, number : number + 1]
        if field.whole:
            column = ndx.astype(column, ndx.int64)

        def of(now: Values, number: int = number, whole: bool = field.whole) -> Any:
            return int(now[number]) if whole else now[number]

        object.__setattr__(told, field.name, Parameter.made(column, of(values), of, asked))
    return told


def _said(logits: ndx.Array, kind: str, told: Sequence[ndx.Array], vocabulary: int) -> ndx.Array:
    """The logits after what a strategy says of them."""
    return editing.masked(logits, told[0], vocabulary) if kind == "mask" else editing.edited(logits, told)


def _checked(logits: Any, vocabulary: int) -> ndx.Array:
    if not isinstance(logits, ndx.Array):
        raise AskedForMoreError(f"it gives {type(logits).__module__}.{type(logits).__name__}")
    if logits.dtype != ndx.float32:
        raise AskedForMoreError(f"it gives {logits.dtype}")
    if logits.ndim != 2 or logits.shape[-1] not in (None, vocabulary):
        raise AskedForMoreError(f"it gives shape {logits.shape}")
    return logits


def _compacted(raw: ndx.Array, logits: ndx.Array, counts: ndx.Array, most: int) -> dict[str, spox.Var]:
    before, after = raw.unwrap_spox(), logits.unwrap_spox()
    axis = op.const(np.asarray([-1], np.int64))
    masses = [op.reduce_log_sum_exp(before, axis, keepdims=1)]
    if most == 1:  # of equals the first
        ids = op.arg_max(after, axis=-1)
        top = op.gather_elements(after, ids, axis=-1)
        masses.append(top)
    else:
        top, ids = op.top_k(after, op.const(np.asarray([most], np.int64)), axis=-1)
        masses.append(op.reduce_log_sum_exp(after, axis, keepdims=1))
    return {
        "ids": op.cast(ids, to=np.int32),
        "raw": op.gather_elements(before, ids, axis=-1),
        "shaped": top,
        "counts": ndx.astype(counts, ndx.int32).unwrap_spox(),
        "masses": op.concat(masses, axis=-1),
    }
