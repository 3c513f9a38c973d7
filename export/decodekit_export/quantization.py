"""
Quantisation: weights are rounded to a grid in the model, and then stored on it in the graph.

What is exported is the rounded model, so the parity gate holds the graph against it as against
any other; storing a weight that lies on the grid in a few bits loses nothing, and one that does
not is left as it is. What rounding does to the model is said in its quality report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx_ir
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from decodekit_export.errors import ExportError
from decodekit_export.grid import BITS, BLOCK, BLOCKS, Grid
from decodekit_export.patterns import kept
from decodekit_export.rewriting import MICROSOFT, constant, replace

OF_FLOATS, OF_WHOLE_NUMBERS = 1, 4  # accuracy_level of MatMulNBits


@dataclass(frozen=True)
class Quantization:
    """Which weights are stored in few bits.

    dtype      "int4" or "int8"
    block      numbers that share a scale, 16, 32, 64, 128 or 256
    keep       patterns of modules that stay in float32, such as "lm_head" or "*.down_proj"
    symmetric  whether zero is in the middle of what a block can express
    """

    dtype: str
    block: int = BLOCK
    keep: Sequence[str] = ()
    symmetric: bool = True

    def __post_init__(self) -> None:
        if self.dtype not in BITS:
            raise ExportError(f"quantize must be one of {', '.join(BITS)}, got {self.dtype!r}")
        if self.block not in BLOCKS:
            raise ExportError(f"block must be one of {BLOCKS}, got {self.block!r}")

    @property
    def grid(self) -> Grid:
        return Grid(BITS[self.dtype], self.block, self.symmetric)

    def round(self, model: PreTrainedModel) -> int:
        """Move the weights of products and of the embedding to the grid; how many numbers that are."""
        modules = {name: module for name, module in model.named_modules() if _has_product(module, model)}
        exempt = {id(module.weight) for module in kept(modules, self.keep)}
        done: set[int] = set()
        for name, module in modules.items():
            weight = cast(Tensor, module.weight)
            if id(weight) in exempt | done:
                continue
            if module is model.get_input_embeddings():
                self._check_blocks(name, weight.shape[1])
            self._round_one(weight.data.T if isinstance(module, Conv1D) else weight.data)
            done.add(id(weight))
        return sum(p.numel() for p in model.parameters() if id(p) in done)

    def store(self, model: onnx_ir.Model, rounded: int) -> str:
        """Store what lies on the grid in few bits, in place; its products are those of float32 numbers.

        rounded  how many numbers that must be
        """
        stored = _Stored(model.graph, self.grid)
        for node in list(model.graph):
            if node.op_type in ("MatMul", "FusedMatMul", "Gemm"):
                stored.product(node)
            elif node.op_type == "Gather":
                stored.lookup(node)
        if (numbers := stored.close()) != rounded:
            raise ExportError(
                f"{rounded:,} weights were rounded, and {numbers:,} are in the graph where they can be "
                f"{self.dtype}; keep the others with --keep"
            )
        return self.dtype

    def hasten(self, model: onnx_ir.Model) -> None:
        """Let products be of whole numbers: what is multiplied with the weights is rounded to 8 bits too."""
        for node in model.graph:
            if node.op_type == "MatMulNBits":
                node.attributes["accuracy_level"] = onnx_ir.AttrInt64("accuracy_level", OF_WHOLE_NUMBERS)

    def fields(self) -> dict[str, Any]:
        """For a manifest."""
        return {
            "dtype": self.dtype,
            "block": self.block,
            "symmetric": self.symmetric,
            "keep": list(self.keep),
        }

    def _check_blocks(self, name: str, row: int) -> None:
        """Rows that are looked up are whole blocks, as the operator wants them."""
        if row % self.block:
            fitting = [f"--block {block}" for block in BLOCKS if row % block == 0]
            raise ExportError(
                f"{name}: rows of {row} numbers are no whole blocks of {self.block}; "
                f"pass {' or '.join([*fitting[-1:], f'--keep {name}'])}"
            )

    def _round_one(self, weight: Tensor) -> None:
        with torch.no_grad():
            weight.copy_(torch.from_numpy(self.grid.rounded(weight.numpy())))


class _Stored:
    """The weights of a graph that are stored in few bits, each once however often it is used."""

    def __init__(self, graph: onnx_ir.Graph, grid: Grid) -> None:
        self._graph, self._grid = graph, grid
        self._parts: dict[tuple[str, bool], list[onnx_ir.Value] | None] = {}
        self._numbers = 0

    def product(self, node: onnx_ir.Node) -> None:
        """x @ w + b, w [K, N], or [N, K] where it is read across."""
        weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
        across = bool(node.attributes.get_int("transB", 0))
        parts = self._of(weight, transposed=not across)
        if parts is None:
            return
        assert weight is not None and weight.const_value is not None
        shape = weight.const_value.shape.numpy()
        options = {
            "K": shape[1] if across else shape[0],
            "N": shape[0] if across else shape[1],
            "bits": self._grid.bits,
            "block_size": self._grid.block,
            "accuracy_level": OF_FLOATS,
        }
        added = [onnx_ir.node("MatMulNBits", [node.inputs[0], *parts], options, domain=MICROSOFT)]
        if bias is not None:
            added.append(onnx_ir.node("Add", [added[0].outputs[0], bias]))
        replace(self._graph, node, added)

    def lookup(self, node: onnx_ir.Node) -> None:
        """The rows of an embedding w [V, K] that ids name."""
        parts = self._of(node.inputs[0], transposed=False)
        if parts is None:
            return
        codes, *scales_and_zeros = parts
        options = {
            "bits": self._grid.bits,
            "block_size": self._grid.block,
            "gather_axis": 0,
            "quantize_axis": 1,
        }
        shape = constant(self._graph, f"{codes.name}.shape", np.asarray([0, -1]))
        rows = onnx_ir.node("Reshape", [codes, shape])
        inputs = [rows.outputs[0], node.inputs[1], *scales_and_zeros]
        replace(
            self._graph, node, [rows, onnx_ir.node("GatherBlockQuantized", inputs, options, domain=MICROSOFT)]
        )

    def close(self) -> int:
        """How many numbers were stored in few bits; their old weights go."""
        for name, _ in self._parts:
            if name in self._graph.initializers and not self._graph.initializers[name].uses():
                del self._graph.initializers[name]
        return self._numbers

    def _of(self, weight: onnx_ir.Value | None, *, transposed: bool) -> list[onnx_ir.Value] | None:
        """Codes, scales and, asymmetric, zero points."""
        if weight is None or weight.const_value is None or weight.const_value.shape.rank() != 2:
            return None
        key = (str(weight.name), transposed)
        if key not in self._parts:
            numbers = weight.const_value.numpy()
            encoded = None
            if numbers.dtype == np.float32:
                encoded = self._grid.encode(np.ascontiguousarray(numbers.T if transposed else numbers))
            self._parts[key] = None
            if encoded is not None:
                self._numbers += numbers.size
                self._parts[key] = [
                    constant(self._graph, f"{weight.name}.{part}", array)
                    for part, array in zip(("codes", "scales", "zeros"), encoded, strict=False)
                ]
        return self._parts[key]


def _has_product(module: nn.Module, model: PreTrainedModel) -> bool:
    return isinstance(module, nn.Linear | Conv1D) or module is model.get_input_embeddings()
