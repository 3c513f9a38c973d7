"""Loading: from a folder, or the name of an embedded model, to a decoder."""

from __future__ import annotations

import os
from typing import Any

from decodekit.bundle import Bundle, open_bundle
from decodekit.decoder import Decoder
from decodekit.errors import BundleError
from decodekit.model import Model
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
    canary: bool = True,
    **engine: Any,
) -> Decoder:
    """A decoder for the bundle in that folder, or for the embedded model of that name.

    device   "cpu", "cuda" (or an error), or "auto"
    threads  for one operator on the CPU; None: what onnxruntime thinks best
    plugins  None: the built-ins and all installed plugins that DECODEKIT_PLUGINS allows
    draft    a smaller bundle with the same tokenizer, to guess tokens with
    canary   where provider, hardware or onnxruntime are others than those the bundle was checked with,
             decode its stored prompt once, and raise CanaryError if the answer is another
    engine   max_rows, cache_bytes, prefix_bytes, max_queue, deterministic, stall: see `Engine`
    """
    bundle, tokenizer = _open(path_or_name)
    model = _model(bundle, device, threads, canary)
    guesser = None
    if draft is not None:
        draft_bundle, draft_tokenizer = _open(draft)
        if not draft_tokenizer.spells_like(tokenizer):
            raise BundleError(
                f"{draft_bundle.path}: its tokens are not those of {bundle.path}; "
                "a draft model needs the same tokenizer"
            )
        guesser = _model(draft_bundle, device, threads, canary)
    plugins = plugins or load_plugins(allowed())
    return Decoder(model, tokenizer, bundle, plugins, draft=guesser, **engine)


def _model(bundle: Bundle, device: str, threads: int | None, canary: bool) -> Model:
    from decodekit.first_run import check_first_run
    from decodekit.onnx_model import load_model

    model = load_model(bundle, device=device, threads=threads)
    if canary:
        check_first_run(bundle, model)
    return model


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
