"""
What a decoder's graph asks of the loop that runs it, read off the graph.

Names are those of optimum and onnxruntime-genai, which decodekit's own graphs share; past and
present belong together by name, never by order. A graph that asks for more than a loop has is
refused with what it asks for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from decodekit.errors import BundleError
from decodekit.manifest import FLOATS
from decodekit.onnx_file import Node, OnnxFile, Value
from decodekit.positions import positions

FEEDS = {  # type and rank of what a loop has, besides the cache
    "input_ids": ("int64", 2),
    "attention_mask": ("int64", 2),
    "position_ids": ("int64", 2),
    "lengths": ("int32", 1),
    "total_length": ("int32", 0),
    "logit_positions": ("int64", 1),
}

Said = Mapping[str, tuple[int, str]]  # what configurations say: name -> number, and where it stands


def describe_decoder(file: OnnxFile, said: Said) -> dict[str, Any]:
    """The fields of a manifest that the graph knows: "graph" and "vocabulary".

    said  layers, kv_heads, head_dim, vocabulary: compared with the graph, or used where it has a symbol
    """
    inputs = {value.name: value for value in file.graph.inputs}
    outputs = {value.name: value for value in file.graph.outputs}
    past, present = _cache_names(file, inputs)
    _check_inputs(file, [value for name, value in inputs.items() if name not in past])
    if missing := {"input_ids"} - inputs.keys() | {"logits", *present} - outputs.keys():
        raise BundleError(f"{file.path}: no {', '.join(sorted(missing))}; export a decoder with its cache")
    vocabulary = _vocabulary(file, outputs["logits"], said)
    kind = _cache_kind(file, dict(zip(past, present, strict=True)))
    shape = _cache_shape(file, [inputs[name] for name in past], [outputs[name] for name in present], said)
    return {
        "graph": {
            "file": file.path.name,
            "inputs": [*inputs],
            "outputs": [*outputs],
            "logits_dtype": outputs["logits"].type,
            "positions": positions(file, kind),
            "cache": {"kind": kind, **shape},
        },
        "vocabulary": vocabulary,
    }


def _cache_names(file: OnnxFile, inputs: Iterable[str]) -> tuple[list[str], list[str]]:
    found = [name for name in inputs if re.fullmatch(r"past_key_values\.\d+\.(key|value)", name)]
    if not found:
        raise BundleError(
            f"{file.path}: no input past_key_values.0.key, so it keeps no cache and reads all tokens again "
            "at each step; export it with its cache (optimum: --task text-generation-with-past)"
        )
    sides = [f"{n}.{side}" for n in range(-(-len(found) // 2)) for side in ("key", "value")]
    past = [f"past_key_values.{side}" for side in sides]
    if missing := {*past} - {*found}:
        raise BundleError(
            f"{file.path}: no input {', '.join(sorted(missing))}, though it has {sorted(found)[-1]}"
        )
    return past, [f"present.{side}" for side in sides]


def _check_inputs(file: OnnxFile, inputs: Iterable[Value]) -> None:
    unknown = [value.name for value in inputs if value.name not in FEEDS]
    if "use_cache_branch" in unknown:
        raise BundleError(
            f"{file.path}: a merged decoder: use_cache_branch chooses between two graphs, one of which drops "
            "the cache; take the model.onnx of a newer export, or export again (optimum 1.14 and newer)"
        )
    if unknown:
        raise BundleError(
            f"{file.path}: inputs that no decoding loop has: {', '.join(map(repr, unknown))}; "
            f"it has {', '.join(FEEDS)} and past_key_values; export a text decoder without them"
        )
    for value in inputs:
        type, rank = FEEDS[value.name]
        if value.type != type or value.dims is None or len(value.dims) != rank:
            raise BundleError(
                f"{file.path}: input {value.name} is {value.type} of shape {value.dims}; "
                f"a loop feeds {type} of rank {rank}"
            )
        if fixed := [dim for dim in value.dims if isinstance(dim, int)]:
            raise BundleError(
                f"{file.path}: input {value.name} is fixed to {fixed[0]} in shape {value.dims}; "
                "export with dynamic axes"
            )


def _vocabulary(file: OnnxFile, logits: Value, said: Said) -> int:
    dims = logits.dims or ()
    if logits.type not in FLOATS or len(dims) != 3:
        raise BundleError(
            f"{file.path}: logits are {logits.type} of shape {dims}; [B, T, V] of float32 or float16 are read"
        )
    if dims[1] == 1:
        raise BundleError(f"{file.path}: logits of the last place only; export without prune_lm_head")
    return _agreed(file, "vocabulary", dims[2], said)


def _cache_kind(file: OnnxFile, present_of: Mapping[str, str]) -> str:
    """in_place: one operator reads past and writes present. concatenating: present is past and more."""
    users: dict[str, list[Node]] = {name: [] for name in present_of}
    for node in file.every_node():
        for name in users.keys() & {*node.inputs}:
            users[name].append(node)
    kinds = set()
    for past, present in present_of.items():
        operators = {node.operator for node in users[past]}
        if any(_in_place(node, past, present) for node in users[past]):
            kinds.add("in_place")
        elif operators & {"Concat", "Attention", "MultiHeadAttention"}:
            kinds.add("concatenating")
        else:
            raise BundleError(
                f"{file.path}: {past} goes to {sorted(operators) or 'nothing'}, not to {present}: "
                "a kind of cache that is not known; export with optimum or `decodekit export`"
            )
    if len(kinds) > 1:
        raise BundleError(f"{file.path}: some layers keep their cache in place, some by concatenation")
    return kinds.pop()


def _in_place(node: Node, past: str, present: str) -> bool:
    """Whether the node is a GroupQueryAttention that appends to this cache."""
    pairs = zip(node.inputs[3:5], node.outputs[1:3])
    return node.operator == "GroupQueryAttention" and (past, present) in pairs


def _cache_shape(file: OnnxFile, past: list[Value], present: list[Value], said: Said) -> dict[str, Any]:
    first, dims = past[0], past[0].dims or ()
    alike = {(value.type, len(value.dims or ()), (value.dims or ())[1::2]) for value in past}
    types = sorted({str(value.type) for value in (*past, *present)})
    if len(alike) > 1 or len(types) > 1 or first.type not in FLOATS or len(dims) != 4:
        raise BundleError(
            f"{file.path}: caches are {' and '.join(types)}, {first.name} of shape {dims}; "
            "[B, kv_heads, length, head_dim] of float32 or float16, alike in all layers, are read"
        )
    if isinstance(dims[0], int) or isinstance(dims[2], int):
        raise BundleError(f"{file.path}: {first.name} has the fixed shape {dims}; export with dynamic axes")
    return {
        "layers": _agreed(file, "layers", len(past) // 2, said),
        "kv_heads": _agreed(file, "kv_heads", dims[1], said),
        "head_dim": _agreed(file, "head_dim", dims[3], said),
        "dtype": first.type,
    }


def _agreed(file: OnnxFile, what: str, in_graph: int | str, said: Said) -> int:
    number, where = said.get(what, (None, ""))
    if isinstance(in_graph, int):
        if number not in (None, in_graph):
            raise BundleError(
                f"{file.path}: the graph has {what} {in_graph}, {where} says {number}; "
                "they are of different models"
            )
        return in_graph
    if number is None:
        raise BundleError(f"{file.path}: {what} stands neither in the graph nor in a configuration beside it")
    return number
