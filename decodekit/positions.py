"""
Where a graph takes the positions of its tokens from.

It matters when rows of different lengths run in one call: then a position is right only if it
belongs to its row, not to the place in the padded array. Found by following values through the
graph; where that does not decide, the answer is "unknown", which is always safe to act on.
"""

from __future__ import annotations

from decodekit.onnx_file import Node, OnnxFile

Sources = frozenset[str]  # graph inputs that a value depends on, and "CumSum", "Shape" on the way
_RUNNING_SUM = frozenset({"attention_mask", "CumSum"})


def positions(file: OnnxFile, cache_kind: str) -> str:
    """One word for a decoder with its cache "in_place" or "concatenating".

    "input"     from position_ids
    "operator"  the attention operator turns keys and queries itself, by each row's length
    "mask"      from running sums over attention_mask and nothing else
    "unknown"   from elsewhere, or there is no input that says which places of a row are padding
    """
    inputs = {value.name for value in file.graph.inputs}
    if not inputs & {"attention_mask", "lengths"}:
        return "unknown"
    if "position_ids" in inputs:
        return "input"
    attention = [node for node in file.every_node() if node.operator == "GroupQueryAttention"]
    if cache_kind == "in_place" and any(node.attributes.get("do_rotary") for node in attention):
        return "operator"
    return "mask" if _from_running_sums(file) else "unknown"


def _from_running_sums(file: OnnxFile) -> bool:
    """Whether every position that enters a table, a sine or a cosine is a running sum of the mask."""
    if file.functions or any(node.graphs for node in file.graph.nodes):
        return False
    sources: dict[str, Sources] = {value.name: Sources({value.name}) for value in file.graph.inputs}
    entries = []
    for node in file.graph.nodes:
        inputs = [sources.get(name, Sources()) for name in node.inputs]
        entries += _entries(node, inputs)
        found = Sources({node.operator}) if node.operator in ("Shape", "CumSum") else Sources()
        if node.operator != "Shape":
            found = found.union(*inputs)
        sources |= dict.fromkeys(filter(None, node.outputs), found)
    places = [entry for entry in entries if entry and "input_ids" not in entry]
    return bool(places) and all(_RUNNING_SUM <= entry <= _RUNNING_SUM | {"Shape"} for entry in places)


def _entries(node: Node, inputs: list[Sources]) -> list[Sources]:
    """What a node looks a position up by; also what it looks tokens up by."""
    if node.operator in ("Cos", "Sin"):
        return inputs[:1]
    if node.operator == "RotaryEmbedding":
        return inputs[1:2] if node.domain == "com.microsoft" else inputs[3:4]
    if node.operator == "Gather" and inputs and not inputs[0]:  # the table depends on no input
        return inputs[1:2]
    return []
