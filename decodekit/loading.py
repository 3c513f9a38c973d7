"""Loading: from a folder, or the name of an embedded model, to a decoder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from decodekit.bundle import Bundle, open_bundle
from decodekit.decoder import Decoder
from decodekit.errors import BundleError, DeviceError, ParameterError
from decodekit.gpu import cards
from decodekit.graph_sampling.reducer import Reducer, can_trace
from decodekit.plugin_choice import allowed
from decodekit.plugins import Plugins, load_plugins
from decodekit.tokenizer import Tokenizer

if TYPE_CHECKING:
    from decodekit.graph_model import GraphModel
    from decodekit.onnx_model import ConcatenatingModel, InPlaceModel

SAMPLING = ("auto", "host", "graph")


def load(
    path_or_name: str | os.PathLike[str],
    *,
    device: str = "auto",
    threads: int | None = None,
    plugins: Plugins | None = None,
    draft: str | os.PathLike[str] | None = None,
    canary: bool = True,
    sampling: str = "auto",
    **engine: Any,
) -> Decoder:
    """A decoder for the bundle in that folder, or for the embedded model of that name.

    device   "cpu", "cuda" or "cuda:1" (or an error), or "auto"
    threads  for one operator on the CPU; None: what onnxruntime thinks best
    plugins  None: the built-ins and all installed plugins that DECODEKIT_PLUGINS allows
    draft    a smaller bundle with the same tokenizer, to guess tokens with
    canary   where provider, hardware or onnxruntime are others than those the bundle was checked with,
             decode its stored prompt once, and raise CanaryError if the answer is another
    sampling "host": chains run in NumPy; "graph": what can be traced of them runs where the logits
             are, see docs/devices.md; "auto": what is faster there, so "host" on the CPU. Tokens are the same
    engine   max_rows, cache_bytes, prefix_bytes, max_queue, deterministic, stall: see `Engine`
    """
    # Weights first: while they are packed, a process takes most memory, so what can come later does.
    bundle = open_bundle(path_or_name)
    model = _model(bundle, device, threads, canary)
    tokenizer = _tokenizer(bundle)
    guesser = None
    if draft is not None:
        draft_bundle = open_bundle(draft)
        if not _tokenizer(draft_bundle).spells_like(tokenizer):
            raise BundleError(
                f"{draft_bundle.path}: its tokens are not those of {bundle.path}; "
                "a draft model needs the same tokenizer"
            )
        guesser = _model(draft_bundle, device, threads, canary)
    plugins = plugins or load_plugins(allowed())
    reducer = make_reducer(model, sampling, threads)
    if model.session.device != "cpu" and engine.get("cache_bytes") is None:
        engine["cache_bytes"] = free_bytes(model.session.device) // 2
    return Decoder(model, tokenizer, bundle, plugins, draft=guesser, reducer=reducer, **engine)


def free_bytes(device: str) -> int:
    """Free memory of "cuda:1", once the weights are there."""
    found, why = cards()
    number = int(device.partition(":")[2])
    if number >= len(found):
        raise DeviceError(f"{device}: {why or f'the driver knows of {len(found)} cards'}; give cache_bytes")
    return found[number].free * 2**20


def make_reducer(model: GraphModel, sampling: str, threads: int | None = None) -> Reducer | None:
    """What runs chains in graphs beside a model; None: they run on the host."""
    if sampling not in SAMPLING:
        raise ParameterError(f"sampling must be one of {', '.join(map(repr, SAMPLING))}, got {sampling!r}")
    device = model.session.device
    if sampling == "host" or (sampling == "auto" and (device == "cpu" or not can_trace())):
        return None
    return Reducer(model.vocabulary, dtype=model.logits_dtype, device=device, threads=threads)


def _model(
    bundle: Bundle, device: str, threads: int | None, canary: bool
) -> InPlaceModel | ConcatenatingModel:
    from decodekit.first_run import check_first_run
    from decodekit.onnx_model import load_model

    model = load_model(bundle, device=device, threads=threads)
    if canary:
        check_first_run(bundle, model)
    return model


def _tokenizer(bundle: Bundle) -> Tokenizer:
    """The bundle's tokenizer; BundleError if it has tokens that the graph does not know."""
    tokenizer = Tokenizer(bundle.tokenizer, bundle.stop_ids)
    if bundle.vocabulary < tokenizer.size:
        raise BundleError(
            f"{bundle.path}: the graph knows {bundle.vocabulary} tokens, the tokenizer {tokenizer.size}; "
            f"id {bundle.vocabulary} ({tokenizer.token(bundle.vocabulary)!r}) is out of reach; "
            "they are of different models"
        )
    return tokenizer
