"""
An inspection: what a bundle, or a folder that others made, is, and what decoding it takes.

As data of one shape for all bundles, and in words for a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from decodekit.bundle import Bundle, check_graph
from decodekit.chain import parse
from decodekit.files import sha256
from decodekit.footprint import BANDWIDTH, check_load, footprint
from decodekit.graph_sampling.reducer import Reducer, can_trace
from decodekit.graph_sampling.stages import Stage, stages
from decodekit.plugins import Plugins
from decodekit.processors import LogitsProcessor
from decodekit.tokenizer import Tokenizer

ORIGINS = {
    "optimum": "others: an export of optimum",
    "onnxruntime-genai": "others: the model builder of onnxruntime-genai",
    "hub": "others: an ONNX folder of the hub",
}
POSITIONS = {
    "input": "given to the graph",
    "operator": "counted by the attention operator",
    "mask": "counted along the attention mask",
    "unknown": "not known; prompts run one by one",
}
FROM_MANIFEST = (  # as they stand there; None where they do not
    *("architecture", "parameters", "dtype", "storage", "quantization", "quality", "kept_in_float32"),
    *("context_length", "chat_template", "license", "source", "made_by", "parity"),
)


def examine(
    bundle: Bundle, *, batch: int = 1, length: int | None = None, bandwidth: float = BANDWIDTH
) -> dict[str, Any]:
    """Everything that is known, with the same keys for every bundle.

    batch, length  rows, and tokens in each, that memory and speed are computed for; None: a full context
    bandwidth      of memory, GB/s
    """
    length = check_load(bundle, batch, length, bandwidth)
    manifest, tokenizer, graph = bundle.manifest, Tokenizer(bundle.tokenizer), check_graph(bundle)
    size = footprint(bundle, graph)
    canary = manifest.get("canary")
    return {
        "path": str(bundle.path),
        "name": bundle.name,
        "sha256": bundle.sha256,
        "origin": "decodekit" if bundle.sealed else manifest["origin"],
        **{field: manifest.get(field) for field in FROM_MANIFEST},
        "vocabulary": {"graph": bundle.vocabulary, "tokenizer": tokenizer.size},
        "positions": bundle.positions,
        "operators": dict(Counter(node.operator for node in graph.every_node()).most_common()),
        "cache": {**asdict(bundle.cache), "bytes_per_token": size.cache},
        "memory": size.memory(batch, length),
        "speed": size.speed(batch, length, bandwidth),
        "stop_tokens": [{"id": id, "token": tokenizer.token(id)} for id in sorted(bundle.stop_ids)],
        "adapters": dict(manifest.get("adapters") or {}),
        "canary": None if canary is None else {"steps": len(canary["ids"]), "bar": canary["bar"]},
        "files": {
            name: {"size": entry["size"], "sha256": entry.get("sha256") or sha256(bundle.path / name)}
            for name, entry in manifest["files"].items()
        },
        "missing": list(manifest.get("missing", ())),
    }


def describe(known: Mapping[str, Any]) -> dict[str, str]:
    """What `examine` found, as facts by name."""
    cache, made_by = known["cache"], known["made_by"] or {}
    facts = {
        "made for": ORIGINS.get(known["origin"], "decodekit: a bundle, checked against its manifest"),
        "architecture": known["architecture"] or "not said",
        "parameters": "not said" if known["parameters"] is None else f"{known['parameters']:,}",
        "weights": _weights(known),
        "vocabulary": "{graph:,}, of which the tokenizer has {tokenizer:,}".format(**known["vocabulary"]),
        "context": f"{known['context_length']:,} tokens",
        "operators": ", ".join(f"{count} {name}" for name, count in known["operators"].items()),
        "cache": "{kind}, {layers} layers, {kv_heads} heads of {head_dim} in {dtype}; "
        "{bytes_per_token:,} bytes a token".format(**cache),
        "memory": _memory(known["memory"]),
        "speed": _speed(known["speed"], known["memory"]),
        "positions": POSITIONS[known["positions"]],
        "stop tokens": ", ".join("{token} ({id})".format(**stop) for stop in known["stop_tokens"]) or "none",
        "chat template": known["chat_template"] or "none: a prompt is continued as it is",
        "adapters": "; ".join(_adapter(*entry) for entry in known["adapters"].items()) or "none",
        "licence": (known["license"] or "not said").strip().partition("\n")[0],
        "parity": _parity(known["parity"], known["canary"]),
        "made of": _made_of(known["source"]),
        "made by": ", ".join(f"{name} {version}" for name, version in made_by.items()) or "not said",
    }
    for name, file in known["files"].items():
        facts[name] = f"{file['size']:,} bytes, sha256 {file['sha256'][:16]}..."
    if known["missing"]:
        facts["a bundle also has"] = "\n".join(known["missing"])
    return facts | {"bundle": f"sha256 {known['sha256']}"}


def chain_stages(bundle: Bundle, chain: str, plugins: Plugins, device: str) -> list[Stage]:
    """Where each strategy of a chain would run with that device and sampling="graph", and why."""
    from decodekit.onnx_session import device_of

    tokenizer = Tokenizer(bundle.tokenizer, bundle.stop_ids)
    links = parse(chain, plugins.logits_processors, LogitsProcessor)
    processors = [one.strategy.bind(tokenizer) for one in links]
    device = device_of(device)
    reducer = Reducer(bundle.vocabulary, device=device) if can_trace() else None
    return stages([one.name for one in links], processors, reducer)


def placement(bundle: Bundle, device: str) -> dict[str, str]:
    """How many operators each execution provider runs, by name; what the CPU was left with, by kind."""
    from decodekit.onnx_session import placed

    found = placed(bundle.graph, device)
    return {
        provider: f"{counted.total():,} operators: "
        + ", ".join(f"{count} {kind}" for kind, count in counted.most_common())
        for provider, counted in found.items()
    }


def _weights(known: Mapping[str, Any]) -> str:
    said = f"{known['dtype'] or 'not said'}, stored as {known['storage'] or 'they are'}"
    if grid := known["quantization"]:
        said += f" in blocks of {grid['block']}"
        said += "" if grid.get("symmetric", True) else " with zero points"
    kept = (known["quantization"] or {}).get("keep") or known["kept_in_float32"] or ()
    said += "".join(f", but {name}" for name in kept)
    if quality := known["quality"]:
        before, after = quality["perplexity"].values()
        said += (
            f"; perplexity {before:.4g} -> {after:.4g}, same best token at {quality['agreement']:.1%} "
            f"of {quality['tokens']:,} ({quality['text']})"
        )
    return said


def _memory(memory: Mapping[str, int]) -> str:
    return (
        f"{_mib(memory['total'])} for {memory['batch']} x {memory['length']:,} tokens: weights "
        f"{_mib(memory['weights'])}, cache {_mib(memory['cache'])}, logits {_mib(memory['logits'])}; "
        "working memory comes on top"
    )


def _speed(speed: Mapping[str, Any], memory: Mapping[str, int]) -> str:
    together = "" if memory["batch"] == 1 else " together"
    return (
        f"at most some {speed['tokens_per_second']:,.0f} tokens/s{together}, an estimate: a step reads "
        f"{_mib(speed['bytes_per_step'])}, memory at {speed['bandwidth']:g} GB/s"
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _adapter(name: str, entry: Mapping[str, Any]) -> str:
    said = ", ".join(f"{key} {entry[key]:,}" for key in ("rank", "parameters") if key in entry)
    return f"{name} ({said})" if said else name


def _parity(measured: Mapping[str, Any] | None, canary: Mapping[str, Any] | None) -> str:
    if not measured:
        return "not measured"
    logits = max(measured["logits"].values())
    own = measured.get("rounding")
    said = f"logits within {logits:.1e} of PyTorch (allowed: {measured['bars']['logits']:.1e}"
    said += f"; PyTorch's own rounding: {own['logits']:.1e})" if own else ")"
    said += (
        f", {measured['tokens']:,} greedy tokens after {measured['prompts']} prompts, "
        f"equal but for {len(measured['near_ties'])} near ties; {measured['provider']}, "
        f"onnxruntime {measured['onnxruntime']}"
    )
    return said + ("" if canary is None else f"; a stored answer of {canary['steps']} steps")


def _made_of(source: Mapping[str, str] | None) -> str:
    return ", ".join(f"{name} ({digest[:16]}...)" for name, digest in (source or {}).items()) or "not said"
