"""Loading: from a folder, or the name of an embedded model, to a decoder."""

from __future__ import annotations

import os
from typing import Any

from decodekit.bundle import Bundle, open_bundle
from decodekit.decoder import Decoder
from decodekit.errors import BundleError
from decodekit.plugin_choice import allowed
from decodekit.plugins import Plugins, load_plugins
from decodekit.tokenizer import Tokenizer


def load(
    path_or_name: str | os.PathLike[str],
    *,
    device: str = "auto",
    threads: int | None = None,
    plugins: Plugins | None = None,
    draft: str | os.PathLike[str] | None = None,
    **engine: Any,
) -> Decoder:
    """A decoder for the bundle in that folder, or for the embedded model of that name.

    device   "cpu", "cuda" (or an error), or "auto"
    threads  for one operator on the CPU; None: what onnxruntime thinks best
    plugins  None: the built-ins and all installed plugins that DECODEKIT_PLUGINS allows
    draft    a smaller bundle with the same tokenizer, to guess tokens with
    engine   max_rows, cache_bytes, prefix_bytes, max_queue, deterministic, stall: see `Engine`
    """
    from decodekit.onnx_model import load_model

    bundle, tokenizer = _open(path_or_name)
    model = load_model(bundle, device=device, threads=threads)
    guesser = None
    if draft is not None:
        draft_bundle, draft_tokenizer = _open(draft)
        if not draft_tokenizer.spells_like(tokenizer):
            raise BundleError(
                f"{draft_bundle.path}: its tokens are not those of {bundle.path}; "
                "a draft model needs the same tokenizer"
            )
        guesser = load_model(draft_bundle, device=device, threads=threads)
    plugins = plugins or load_plugins(allowed())
    return Decoder(model, tokenizer, bundle, plugins, draft=guesser, **engine)


def _open(path_or_name: str | os.PathLike[str]) -> tuple[Bundle, Tokenizer]:
    bundle = open_bundle(path_or_name)
    tokenizer = Tokenizer(bundle.tokenizer, bundle.stop_ids)
    if bundle.vocabulary < tokenizer.size:
        raise BundleError(
            f"{bundle.path}: the graph knows {bundle.vocabulary} tokens, the tokenizer {tokenizer.size}; "
            f"id {bundle.vocabulary} ({tokenizer.token(bundle.vocabulary)!r}) is out of reach; "
            "they are of different models"
        )
    return bundle, tokenizer
