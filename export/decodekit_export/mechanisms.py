"""What a graph has beyond plain attention over a cache, read off its operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx


def mechanisms(path: Path) -> tuple[str, ...]:
    """In words, such as "window 8", "softcap", "sinks", "experts 2 of 6", in that order."""
    graph = onnx.load(path, load_external_data=False).graph
    attentions = [node for node in graph.node if node.op_type == "GroupQueryAttention"]
    settings = [_attributes(node) for node in attentions]
    windows = sorted({s["local_window_size"] for s in settings} - {-1})
    rotary = {"rotary by the operator"} if any(s["do_rotary"] for s in settings) else set()
    sinks = {"sinks"} if any(len(node.input) > 11 and node.input[11] for node in attentions) else set()
    softcap = {"softcap"} if any(s["softcap"] for s in settings) else set()
    shapes = {i.name: tuple(i.dims) for i in graph.initializer}
    mixtures = [node for node in graph.node if node.op_type == "MoE"]
    experts = {f"experts {_attributes(node)['k']} of {shapes[node.input[2]][0]}" for node in mixtures}
    partly = any(size < len(settings) for size in (sum(bool(s["do_rotary"]) for s in settings),))
    mixed = {"layers without rotary"} if rotary and partly else set()
    return (*(f"window {w}" for w in windows), *softcap, *sinks, *sorted(experts), *rotary, *mixed)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
