"""An inspection: what a bundle, or a folder that others made, says of itself, in words for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from decodekit.bundle import Bundle
from decodekit.files import sha256
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


def describe(bundle: Bundle) -> dict[str, str]:
    """Facts by name."""
    manifest, tokenizer = bundle.manifest, Tokenizer(bundle.tokenizer)
    facts = {
        "made for": ORIGINS.get(
            manifest.get("origin", ""), "decodekit: a bundle, checked against its manifest"
        ),
        "architecture": manifest.get("architecture", "not said"),
        "parameters": f"{manifest['parameters']:,}" if "parameters" in manifest else "not said",
        "weights": _weights(manifest),
        "vocabulary": f"{bundle.vocabulary:,}, of which the tokenizer has {tokenizer.size:,}",
        "context": f"{bundle.context_length:,} tokens",
        "cache": _cache(bundle),
        "positions": POSITIONS[bundle.positions],
        "stop tokens": ", ".join(f"{tokenizer.token(i)} ({i})" for i in sorted(bundle.stop_ids)) or "none",
        "chat template": manifest.get("chat_template") or "none: a prompt is continued as it is",
        "licence": (manifest.get("license") or "not said").strip().partition("\n")[0],
        "parity": _parity(manifest.get("parity")),
        "made by": ", ".join(f"{name} {version}" for name, version in manifest.get("made_by", {}).items()),
    }
    for name, entry in manifest["files"].items():
        digest = entry.get("sha256") or sha256(bundle.path / name)
        facts[name] = f"{entry['size']:,} bytes, sha256 {digest[:16]}..."
    if missing := manifest.get("missing"):
        facts["a bundle also has"] = "\n".join(missing)
    return facts | {"bundle": f"sha256 {bundle.sha256}"}


def _weights(manifest: Mapping[str, Any]) -> str:
    said = f"{manifest.get('dtype', 'not said')}, stored as {manifest.get('storage', 'they are')}"
    if grid := manifest.get("quantization"):
        said += f" in blocks of {grid['block']}" + "".join(f", but {name}" for name in grid["keep"])
    if quality := manifest.get("quality"):
        before, after = quality["perplexity"].values()
        said += (
            f"; perplexity {before:.4g} -> {after:.4g}, same best token at {quality['agreement']:.1%} "
            f"of {quality['tokens']:,} ({quality['text']})"
        )
    return said


def _cache(bundle: Bundle) -> str:
    spec = bundle.cache
    size = 2 * spec.layers * spec.kv_heads * spec.head_dim * np.dtype(spec.dtype).itemsize
    return (
        f"{spec.kind}, {spec.layers} layers, {spec.kv_heads} heads of {spec.head_dim}; "
        f"{size:,} bytes a token, {size * bundle.context_length / 2**20:,.1f} MiB for a full context"
    )


def _parity(measured: Mapping[str, Any] | None) -> str:
    if not measured:
        return "not measured"
    logits = max(measured["logits"].values())
    return (
        f"logits within {logits:.1e} of PyTorch (allowed: {measured['bars']['logits']:.0e}), "
        f"{measured['tokens']:,} greedy tokens after {measured['prompts']} prompts, "
        f"equal but for {len(measured['near_ties'])} near ties"
    )
