"""
Storage: weights in half the bytes where that loses nothing.

A checkpoint trained in float16 or bfloat16 and loaded in float32 holds values that the
shorter type can express exactly. Such a weight is stored in it, followed by a Cast to
float32 that onnxruntime folds away when it loads the model: the session, and every logit,
is the same to the bit. A weight with one value that would change is left as it is.
"""

from __future__ import annotations

import numpy as np
import onnx_ir
from numpy.typing import DTypeLike, NDArray
from onnx_ir import DataType

from decodekit_export.rewriting import constant

SMALLEST = 1024  # elements; below, the Cast costs more than it saves

_HALVES = {"float16": DataType.FLOAT16, "bfloat16": DataType.BFLOAT16}


def store_in_halves(model: onnx_ir.Model) -> str:
    """Store what fits exactly in half the bytes; the storage type that most weights now have.

    One half type serves the whole model: the one that is exact for more elements.
    """
    weights = {name: weight for name, weight in _weights(model.graph).items() if weight.size >= SMALLEST}
    fitting = {
        half: [n for n, w in weights.items() if _is_exact(w, dtype.numpy())]
        for half, dtype in _HALVES.items()
    }
    half = max(fitting, key=lambda h: sum(weights[name].size for name in fitting[h]))
    for name in fitting[half]:
        _halve(model.graph, name, weights[name], half)
    return half if fitting[half] else "float32"


def _weights(graph: onnx_ir.Graph) -> dict[str, NDArray[np.float32]]:
    return {
        name: value.const_value.numpy()
        for name, value in graph.initializers.items()
        if value.const_value is not None and value.const_value.dtype == DataType.FLOAT
    }


def _is_exact(weight: NDArray[np.float32], dtype: DTypeLike) -> bool:
    with np.errstate(over="ignore"):  # what overflows is not exact
        back = weight.astype(dtype).astype(np.float32)
    return bool(np.array_equal(back.view(np.uint32), weight.view(np.uint32)))


def _halve(graph: onnx_ir.Graph, name: str, weight: NDArray[np.float32], half: str) -> None:
    dtype = _HALVES[half]
    stored = constant(graph, f"{name}.{half}", weight.astype(dtype.numpy()))
    cast = onnx_ir.node("Cast", [stored], {"to": DataType.FLOAT})
    onnx_ir.convenience.replace_all_uses_with(graph.initializers.pop(name), cast.outputs[0])
    cast.outputs[0].name = name
    graph.insert_before(graph[0], cast)
