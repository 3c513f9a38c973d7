"""
From a checkpoint to a bundle: load, trace, check, write.

The bundle is made in a folder beside its place and moved there when it is whole, so the
place holds a complete and checked bundle or nothing.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from transformers import PreTrainedModel

from decodekit.bundle import Bundle, open_bundle
from decodekit.onnx_file import read_onnx
from decodekit_export.adapters import feeds, open_products, write_adapter
from decodekit_export.cache import CacheShape, cache_shape
from decodekit_export.checkpoint import Checkpoint, open_checkpoint
from decodekit_export.checkpoint_source import Source, find_source
from decodekit_export.description import (
    checked_name,
    free_place,
    require,
    seal,
    told_context_length,
    write_tokenizer,
)
from decodekit_export.errors import ExportError
from decodekit_export.gate import check_parity
from decodekit_export.graph import GRAPHS
from decodekit_export.graph_file import FILE, write
from decodekit_export.lora import read_lora
from decodekit_export.precision import Precision
from decodekit_export.quality import Text, compare, read_text
from decodekit_export.quantization import Quantization
from decodekit_export.reference import Reference
from decodekit_export.stop_ids import stop_ids
from decodekit_export.storage import store_in_halves
from decodekit_export.to_onnx import to_onnx
from decodekit_export.whole import whole_or_absent

ADAPTER_PROMPTS = 8  # of the gate of each adapter, whose graph is the one that was checked


def export_bundle(
    checkpoint: str | os.PathLike[str] | Source,
    out: str | os.PathLike[str],
    *,
    cache: str = "in_place",
    compact: bool = False,
    precision: Precision = Precision(),  # noqa: B008  a frozen value
    quantization: Quantization | None = None,
    adapters: Mapping[str, Path] = MappingProxyType({}),
    merge: Path | None = None,
    text: Path | None = None,
    name: str | None = None,
    license: str | None = None,
    prompts: int = 50,
    texts: Sequence[str] = (),
    allow_no_eos: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Write the checkpoint in a folder, or that `find_source` found, as a bundle in a new folder `out`.

    cache         "in_place" or "concatenating"
    compact       store weights in half the bytes where that loses nothing
    precision     what the graph computes in
    quantization  store weights in 4 or 8 bits, rounded
    adapters      folders of LoRAs as peft saves them, by the name a request gives, kept beside the model
    merge         folder of one that moves the model's own weights
    text          file that the report on rounding is read on; None: a page of prose that comes with the
                  exporter
    name          of the bundle; None: that of the folder or repository
    license       text of the weights' licence; None: that of the checkpoint
    prompts       random greedy prompts of the parity gate; `texts` are further ones
    allow_no_eos  accept a model that has no stop token
    progress      is told "load", "round", "trace", "check", "read", "write" as they begin

    Raises ParityError, and writes nothing, if graph and model disagree.
    """
    if cache not in GRAPHS:
        raise ExportError(f"cache must be one of {', '.join(map(repr, GRAPHS))}, got {cache!r}")
    if compact and quantization:
        raise ExportError("--compact and --quantize exclude each other: rounded weights are smaller anyway")
    if not precision.is_float32 and (compact or quantization or adapters):
        option = "--compact" if compact else "--quantize" if quantization else "--adapter"
        raise ExportError(f"--dtype {precision.dtype} and {option} exclude each other; choose one")
    if text and precision.is_float32 and not quantization:
        raise ExportError("--text is read to report on rounding; pass --dtype or --quantize too")
    if precision.dtype == "bfloat16" and cache != "in_place":
        raise ExportError("--dtype bfloat16 goes with --cache in_place alone: NumPy cannot hold what grows")
    place = free_place(Path(out))
    found = checkpoint if isinstance(checkpoint, Source) else find_source(os.fspath(checkpoint))
    source = open_checkpoint(found.path)
    name = checked_name(found.name if name is None else name)

    with whole_or_absent(place) as folder:
        progress("load")
        model = _load(source, merge)
        loras = {checked_name(name): read_lora(path, model) for name, path in adapters.items()}
        drawn = model if precision.is_float32 else precision.load(source, model)
        shape, length = cache_shape(drawn), told_context_length(model)
        stops = stop_ids(source, model.config.vocab_size, allow_no_eos=allow_no_eos)
        write_tokenizer(source, folder, model.config.vocab_size)

        page = None
        if quantization or drawn is not model:
            page = Text.of(*_encoded(source, text), length)
        if quantization:
            progress("round")
            rounded = quantization.round(model)

        progress("trace")
        graph = to_onnx(GRAPHS[cache](drawn, shape))
        storage = store_in_halves(graph) if compact else precision.dtype
        if quantization:
            storage = quantization.store(graph, rounded)
        products = open_products(graph.graph, model, loras)
        write(graph, folder)
        if not quantization:
            del graph  # it holds weights once more, and what traced it refers to itself
            gc.collect()

        progress("check")
        prompt_ids = [source.tokenizer.encode(text) for text in texts]
        parity = check_parity(
            folder / FILE,
            model,
            cache,
            shape,
            context_length=length,
            prompts=prompts,
            texts=prompt_ids,
            feeds=feeds(products),
            twin=None if drawn is model else drawn,
        )
        require(parity, f"{source.path}: the graph")
        described = {}
        for adapter, lora in loras.items():
            file = f"adapter-{adapter}.onnx_adapter"
            write_adapter(folder / file, products, lora)
            with lora.applied(model):
                of_adapter = check_parity(
                    folder / FILE,
                    model,
                    cache,
                    shape,
                    context_length=length,
                    prompts=ADAPTER_PROMPTS,
                    feeds=feeds(products, folder / file, lora.rank),
                )
            require(of_adapter, f"{adapters[adapter]}: the graph under the adapter")
            described[adapter] = {
                "file": file,
                "rank": lora.rank,
                "parameters": lora.parameters,
                "parity": of_adapter.fields(),
            }
        if quantization:
            quantization.hasten(graph)
            write(graph, folder)
        quality = None
        if page:
            progress("read")
            unrounded = Reference(_load(source, merge) if quantization else model)
            quality = compare(unrounded, page, folder / FILE, cache, shape, feeds(products))

        progress("write")
        seal(
            folder,
            found,
            source,
            model,
            parity,
            name=name,
            license=license,
            context_length=length,
            stops=stops,
            graph=_describe_graph(folder / FILE, cache, shape),
            dtype=precision.dtype,
            kept_in_float32=list(precision.keep),
            storage=storage,
            quantization=quantization and quantization.fields(),
            quality=quality and quality.fields(),
            adapters=described,
        )
    return open_bundle(place)


def _load(source: Checkpoint, merge: Path | None) -> PreTrainedModel:
    model = source.load_model()
    if merge:
        read_lora(merge, model).merge(model)
    return model


def _encoded(source: Checkpoint, file: Path | None) -> tuple[list[int], str]:
    text, name = read_text(file)
    return source.tokenizer.encode(text), name


def _describe_graph(path: Path, kind: str, shape: CacheShape) -> dict[str, Any]:
    """Inputs and outputs as they are in the file: what a model does not use may be gone."""
    graph = read_onnx(path).graph
    inputs = [value.name for value in graph.inputs]
    return {
        "file": path.name,
        "inputs": inputs,
        "outputs": [value.name for value in graph.outputs],
        "positions": "input" if "position_ids" in inputs else "operator",
        "cache": {
            "kind": kind,
            "layers": shape.layers,
            "kv_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "dtype": shape.dtype,
        },
    }
