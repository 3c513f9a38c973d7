"""What a graph has beyond plain attention over a cache, read off its operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx


def mechanisms(path: Path) -> tuple[str, ...]:
    """In words, such as "window 8", "softcap", "sinks", "experts 2 of 6", in that order."""
    graph = onnx.load(path, load_external_data=False).graph
    attentions = [node for node in graph.node if node.op_type == "GroupQueryAttention"]
    mixtures = [node for node in graph.node if node.op_type == "MoE"]
    settings = [_attributes(node) for node in attentions]
    experts = {i.name: i.dims[0] for i in graph.initializer if i.dims}
    turned = [s["do_rotary"] for s in settings]
    words = [
        *(f"window {w}" for w in sorted({s["local_window_size"] for s in settings} - {-1})),
        *("softcap" for s in settings if s["softcap"]),
        *("sinks" for node in attentions if len(node.input) > 11 and node.input[11]),
        *(f"experts {_attributes(node)['k']} of {experts[node.input[2]]}" for node in mixtures),
        *("rotary by the operator" for t in turned if t),
        *("layers without rotary" for t in turned if not t and any(turned)),
    ]
    return tuple(dict.fromkeys(words))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
