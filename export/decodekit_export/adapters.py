"""
Adapters in a graph: after each product that one changes, a place where a call may add low-rank ones.

The graph's inputs are matrices with a free number of columns, none of them where no adapter is
wanted, and for each row of a batch which columns are its own; `decodekit.adapters` says how they
are fed. Two products and a sum of nothing cost nothing that could be measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir
import onnxruntime
from transformers import PreTrainedModel

from decodekit.adapters import PREFIX, ROWS
from decodekit.onnx_session import read_adapter
from decodekit_export.errors import ExportError
from decodekit_export.lora import Lora, sizes
from decodekit_export.rows import Array, Feeds

PRODUCTS = ("MatMul", "FusedMatMul", "MatMulNBits")
FLOAT = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)


@dataclass(frozen=True)
class Product:
    """One product of a graph, of one module, or of several side by side.

    modules  names; sizes  of their outputs
    inputs   numbers in
    """

    modules: tuple[str, ...]
    sizes: tuple[int, ...]
    inputs: int

    @property
    def name(self) -> str:
        return "+".join(self.modules)

    def matrices(self, lora: Lora, rank: int) -> tuple[Array, Array]:
        """a [in, parts * rank] and b [parts * rank, out], zeros where a change is of lower rank or none."""
        a = np.zeros((self.inputs, len(self.modules) * rank), np.float32)
        b = np.zeros((len(self.modules) * rank, sum(self.sizes)), np.float32)
        column = 0
        for part, (module, size) in enumerate(zip(self.modules, self.sizes, strict=True)):
            if module in lora.changes:
                down, up = lora.changes[module]
                own = slice(part * rank, part * rank + down.shape[1])
                a[:, own], b[own, column : column + size] = down.numpy(), up.numpy()
            column += size
        return a, b


def open_products(graph: onnx_ir.Graph, model: PreTrainedModel, loras: Mapping[str, Lora]) -> list[Product]:
    """Give the graph inputs for what these change; where."""
    wanted = {module for lora in loras.values() for module in lora.changes}
    rows: dict[int, onnx_ir.Value] = {}
    products: dict[str, Product] = {}
    for node in list(graph):
        modules = _modules(node)
        if wanted.isdisjoint(modules):
            continue
        product = _product(modules, model)
        if node.op_type not in PRODUCTS or product.name in products:
            raise ExportError(
                f"adapter: the graph computes {modules[0]} in a way that takes none; merge it with --merge"
            )
        parts = len(modules)
        if parts not in rows:
            rows[parts] = _input(graph, f"{ROWS}{parts}", ["B", 1, f"R{parts}"])
        _add(graph, node, product, rows[parts])
        products[product.name] = product
    if missing := sorted(wanted - {module for product in products.values() for module in product.modules}):
        raise ExportError(
            f"adapter: the graph has no product of its own for {missing[0]}; merge it with --merge"
        )
    return list(products.values())


def feeds(products: Sequence[Product], file: Path | None = None, rank: int = 0) -> Feeds:
    """What a graph is fed so that every row has the adapter in a file; None: so that none has any."""
    matrices = _matrices(products, Lora({}), rank)
    matrices |= read_adapter(file) if file else {}
    widths = {len(product.modules) for product in products}

    def feed(rows: int) -> dict[str, Array]:
        return matrices | {f"{ROWS}{n}": np.ones((rows, 1, n * rank), np.float32) for n in widths}

    return feed


def write_adapter(path: Path, products: Sequence[Product], lora: Lora) -> None:
    """In onnxruntime's adapter format, only products that it changes."""
    changed = [product for product in products if lora.changes.keys() & set(product.modules)]
    file = onnxruntime.AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    matrices = _matrices(changed, lora, lora.rank)  # kept until the file is written: it holds views
    values = {n: onnxruntime.OrtValue.ortvalue_from_numpy(array) for n, array in matrices.items()}
    file.set_parameters(values)
    file.export_adapter(str(path))


def _matrices(products: Sequence[Product], lora: Lora, rank: int) -> dict[str, Array]:
    return {
        f"{PREFIX}{product.name}.{side}": matrix
        for product in products
        for side, matrix in zip("ab", product.matrices(lora, rank), strict=True)
    }


def _modules(node: onnx_ir.Node) -> tuple[str, ...]:
    """Whose weights a product has, by their names; () where it has none."""
    weight = node.inputs[1] if node.op_type in (*PRODUCTS, "Gemm") else None
    if weight is None or not weight.is_initializer():
        return ()
    names = str(weight.name).removesuffix(".codes").split("+")
    return tuple(name.removesuffix(".T").removesuffix(".weight") for name in names)


def _product(modules: tuple[str, ...], model: PreTrainedModel) -> Product:
    each = [sizes(model.get_submodule(name)) for name in modules]
    return Product(modules, tuple(outputs for _, outputs in each), each[0][0])


def _add(graph: onnx_ir.Graph, node: onnx_ir.Node, product: Product, rows: onnx_ir.Value) -> None:
    columns = f"R{len(product.modules)}"
    a = _input(graph, f"{PREFIX}{product.name}.a", [product.inputs, columns])
    b = _input(graph, f"{PREFIX}{product.name}.b", [columns, sum(product.sizes)])
    before, users = node.outputs[0], list(node.outputs[0].uses())
    down = onnx_ir.node("MatMul", [node.inputs[0], a])
    own = onnx_ir.node("Mul", [down.outputs[0], rows])
    up = onnx_ir.node("MatMul", [own.outputs[0], b])
    after = onnx_ir.node("Add", [before, up.outputs[0]])
    after.outputs[0].shape, after.outputs[0].type = before.shape, before.type
    graph.insert_after(node, [down, own, up, after])
    for user, place in users:
        user.replace_input_with(place, after.outputs[0])


def _input(graph: onnx_ir.Graph, name: str, shape: list[str | int]) -> onnx_ir.Value:
    value = onnx_ir.Value(name=name, shape=onnx_ir.Shape(shape), type=FLOAT)
    graph.inputs.append(value)
    return value
