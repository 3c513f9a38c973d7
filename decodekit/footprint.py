"""
The footprint: what decoding takes of memory, and how fast memory lets it be.

Counted from the sizes of weights and cache; working memory of the runtime comes on top. A step reads
every weight once, whatever the number of rows, and the cache of each row, so bandwidth divided by
these bytes is a bound on the speed of a model that is too large for the processor's caches.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from decodekit.bundle import Bundle
from decodekit.graph_check import BITS
from decodekit.onnx_file import OnnxFile, Tensor
from decodekit.parameters import real, whole

BANDWIDTH = 25.0  # GB/s, of two cores of a small server; a laptop has 50 to 100, a graphics card 300 and more
HALVES = ("float16", "bfloat16")
LOOKUPS = {"Gather", "GatherBlockQuantized"}


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes.

    stored  of weights, in files
    loaded  of weights, in memory of the CPU, which has halves cast to float32
    read    of loaded weights, by one step: all but the tables of which single rows are read
    cache   of keys and values, per token
    logits  per row
    """

    stored: int
    loaded: int
    read: int
    cache: int
    logits: int

    def memory(self, batch: int, length: int) -> dict[str, int]:
        """With that many rows of that many tokens."""
        parts = {"weights": self.loaded, "cache": batch * length * self.cache, "logits": batch * self.logits}
        return {"batch": batch, "length": length, **parts, "total": sum(parts.values())}

    def speed(self, batch: int, length: int, bandwidth: float) -> dict[str, Any]:
        """The bound, at that many rows of that many tokens each; bandwidth in GB/s."""
        step = self.read + batch * length * self.cache
        return {
            "bandwidth": bandwidth,
            "bytes_per_step": step,
            "tokens_per_second": round(batch * bandwidth * 1e9 / step, 1),
        }


def footprint(bundle: Bundle, graph: OnnxFile) -> Footprint:
    """Of a bundle, and of its graph as `check_graph` gives it."""
    tensors = [t for t in graph.every_tensor() if t.type in BITS]
    places = {t.external or t.name: t for t in tensors}  # a tied embedding may have two names at one place
    looked_up = _looked_up(graph)
    return Footprint(
        stored=sum(map(_stored, places.values())),
        loaded=sum(map(_loaded, places.values())),
        read=sum(_loaded(t) for t in tensors if t.name not in looked_up),
        cache=bundle.cache.bytes_per_token,
        logits=4 * bundle.vocabulary,
    )


def check_load(bundle: Bundle, batch: int, length: int | None, bandwidth: float) -> int:
    """The length, by default the whole context, if all three make sense."""
    whole("inspect: batch", batch, "[1, inf)")
    real("inspect: bandwidth", bandwidth, "(0, inf)", "it is in GB/s")
    if length is None:
        return bundle.context_length
    whole("inspect: length", length, f"[1, {bundle.context_length}]", "the model's context ends there")
    return length


def _stored(tensor: Tensor) -> int:
    return -(-math.prod(tensor.dims) * BITS[tensor.type] // 8)


def _loaded(tensor: Tensor) -> int:
    return _stored(tensor) * (2 if tensor.type in HALVES else 1)


def _looked_up(graph: OnnxFile) -> set[str]:
    """Constants that are used by lookups alone, directly or after a reshape or a cast."""
    users: dict[str, set[str]] = defaultdict(set)
    after: dict[str, str] = {}
    for node in graph.every_node():
        if node.operator in ("Reshape", "Cast") and node.outputs:
            after[node.inputs[0]] = node.outputs[0]
        for place, name in enumerate(node.inputs):
            users[name].add("ids" if node.operator in LOOKUPS and place == 1 else node.operator)
    found = set()
    for name, operators in users.items():
        if name in after and operators <= {"Reshape", "Cast"}:
            operators = users.get(after[name], set())
        if operators and operators <= LOOKUPS:
            found.add(name)
    return found
