"""
Adapters: small changes to a model's weights that a row of a batch has or has not.

An adapter adds x A B to a product x W, with matrices A [in, r] and B [r, out] of low rank r.
Those of several adapters lie side by side in one call of the graph, and each row keeps the
columns of its own between the two products:

    y = x W + ((x [A1 A2 ...]) * row) [B1; B2; ...]        row is 1 at the row's own columns, else 0

So rows with different adapters, and rows without one, decode together, and the weights are
read once for all. Hu et al., "LoRA", section 4.1, arXiv:2106.09685. Where a graph makes several
products in one, as of query, key and value, A has r columns for each of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from decodekit.bundle import Bundle
from decodekit.errors import BundleError
from decodekit.onnx_session import Session, read_adapter
from decodekit.ops import Array

PREFIX = "adapter."  # of the graph's inputs <prefix><product>.a and .b
ROWS = "adapter_rows."  # of those that tell each row's columns, by how many products are made in one
COLUMNS = {"a": 1, "b": 0}  # the axis of a matrix that is as long as the rank


@dataclass(frozen=True, slots=True)
class Place:
    """Where a graph takes an adapter: after one product, or several made in one.

    sizes  in and out
    parts  how many products
    """

    name: str
    sizes: tuple[int, int]
    parts: int

    def shape(self, side: str, rank: int) -> tuple[int, int]:
        """Of one of an adapter's two matrices."""
        columns = self.parts * rank
        return (self.sizes[0], columns) if side == "a" else (columns, self.sizes[1])


class Adapters:
    """Those of a bundle, in memory."""

    def __init__(self, bundle: Bundle, session: Session) -> None:
        places = _places(bundle, session)
        self._widths = {place.parts for place in places}
        self._inputs = {f"{PREFIX}{p.name}.{side}": (p, side) for p in places for side in COLUMNS}
        self._ranks = {name: file.rank for name, file in bundle.adapters.items()}
        self._matrices = {name: self._read(bundle, name) for name in bundle.adapters}

    @property
    def inputs(self) -> set[str]:
        """What the graph wants fed for them."""
        return self._inputs.keys() | {f"{ROWS}{parts}" for parts in self._widths}

    def matrices(self, active: Sequence[str]) -> dict[str, Array]:
        """Feeds with the matrices of these adapters side by side; of none, with no columns."""
        feeds: dict[str, Array] = {}
        for name, (place, side) in self._inputs.items():
            parts = [self._matrices[adapter][name] for adapter in active]
            if len(parts) > 1:
                feeds[name] = np.concatenate(parts, axis=COLUMNS[side])
            else:
                feeds[name] = parts[0] if parts else np.zeros(place.shape(side, 0), np.float32)
        return feeds

    def rows(self, active: Sequence[str], names: Sequence[str | None]) -> dict[str, Array]:
        """Feeds with which of the active adapters each row has, float32 [B, 1, columns]."""
        own = np.zeros((len(names), len(active)), np.float32)
        for row, name in enumerate(names):
            if name is not None:
                own[row, active.index(name)] = 1
        ranks = np.asarray([self._ranks[adapter] for adapter in active], np.int64)
        return {f"{ROWS}{parts}": np.repeat(own, parts * ranks, axis=1)[:, None] for parts in self._widths}

    def _read(self, bundle: Bundle, adapter: str) -> dict[str, Array]:
        """A matrix for every input: zeros where the adapter leaves a product as it is."""
        path, rank = bundle.adapters[adapter].path, self._ranks[adapter]
        matrices = {
            name: np.zeros(place.shape(side, rank), np.float32)
            for name, (place, side) in self._inputs.items()
        }
        for name, matrix in read_adapter(path).items():
            if name not in matrices:
                raise BundleError(f"{path}: {name!r} is no input of the graph; export the bundle again")
            shape = matrices[name].shape
            if (matrix.shape, matrix.dtype) != (shape, np.float32):
                raise BundleError(
                    f"{path}: {name} must be float32 {shape}, got {matrix.dtype} {matrix.shape}; "
                    "export the bundle again"
                )
            matrices[name] = matrix
        return matrices


def _places(bundle: Bundle, session: Session) -> list[Place]:
    """From the graph's inputs: a is [in, R<parts>], b is [R<parts>, out]."""
    places = []
    for name, shape in session.shapes.items():
        if name.startswith(PREFIX) and name.endswith(".a"):
            after = session.shapes.get(f"{name[:-2]}.b")
            fits = after is not None and len(shape) == len(after) == 2 and shape[1] == after[0]
            columns = re.fullmatch(r"R([1-9]\d?)", str(shape[1])) if fits else None
            if columns is None or after is None:
                raise BundleError(
                    f"{bundle.graph}: {name} must be [in, R<parts>] beside a matrix .b, got {shape}"
                )
            places.append(Place(name[len(PREFIX) : -2], (int(shape[0]), int(after[1])), int(columns[1])))
    return places
