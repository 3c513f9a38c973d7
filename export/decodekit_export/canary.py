"""The canary of a bundle: what its graph answers where it is checked, and how far others may be off."""

from __future__ import annotations

import numpy as np

from decodekit.bundle import Bundle
from decodekit.canary import Canary, record
from decodekit.onnx_model import load_model
from decodekit_export.parity import Parity
from decodekit_export.reference import Reference

PROMPT = 8  # tokens
SEED = 8


def canary(bundle: Bundle, reference: Reference, parity: Parity) -> Canary:
    """Decode a prompt with the graph of a bundle that is whole but for its manifest.

    The bar is that of the gate, or twice what the graph is off the model, if that is more: products
    of whole numbers round what is multiplied too, and other kernels do it in other places.
    """
    prompt = np.random.default_rng(SEED).integers(0, reference.vocabulary, PROMPT).tolist()
    device = "cuda" if bundle.cache.dtype == "bfloat16" else "cpu"
    found = record(load_model(bundle, device=device), prompt, parity.bars["logits"])
    said, _ = reference(
        [*prompt, *found.ids[:-1, 0].tolist()], range(PROMPT - 1, PROMPT - 1 + len(found.ids))
    )
    off = float(np.abs(np.take_along_axis(said, found.ids, -1) - found.logits).max())
    return Canary(prompt, found.ids, found.logits, max(found.bar, 2 * off))
