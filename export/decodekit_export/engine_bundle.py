"""
From a checkpoint to a bundle by way of another exporter's graph.

Whatever drew the graph, a bundle is the same: its own manifest, tokenizer, template and stop ids,
and a graph that passed the gate against the model as it is loaded here.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from decodekit.bundle import Bundle, open_bundle
from decodekit.decoder_graph import describe_decoder
from decodekit.graph_check import check_graph_file, external_files
from decodekit_export.cache import CacheShape, cache_shape
from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.checkpoint_source import Source, find_source
from decodekit_export.description import (
    checked_name,
    free_place,
    require,
    seal,
    told_context_length,
    write_tokenizer,
)
from decodekit_export.engine_copy import copy_for_engine
from decodekit_export.engines import ENGINES, Engine
from decodekit_export.errors import ExportError
from decodekit_export.gate import check_parity
from decodekit_export.graph_file import FILE
from decodekit_export.stop_ids import stop_ids
from decodekit_export.whole import whole_or_absent


def export_with_engine(
    engine: str,
    checkpoint: str | os.PathLike[str] | Source,
    out: str | os.PathLike[str],
    *,
    name: str | None = None,
    license: str | None = None,
    prompts: int = 50,
    allow_no_eos: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Write a checkpoint as a bundle in a new folder `out`, its graph drawn in float32 by that engine.

    engine  "optimum" or "genai"; the rest as for `export_bundle`

    Raises EngineError if the engine is not there or fails; ParityError, and writes nothing, if its
    graph disagrees with the model.
    """
    if engine not in ENGINES:
        raise ExportError(f"--engine must be decodekit, {' or '.join(ENGINES)}, got {engine!r}")
    place = free_place(Path(out))
    versions = ENGINES[engine].versions()
    found = checkpoint if isinstance(checkpoint, Source) else find_source(os.fspath(checkpoint))
    source = open_checkpoint(found.path)
    name = checked_name(found.name if name is None else name)

    with whole_or_absent(place) as folder:
        progress("load")
        model = source.load_model()
        shape, length = cache_shape(model), told_context_length(model)
        stops = stop_ids(source, model.config.vocab_size, allow_no_eos=allow_no_eos)
        write_tokenizer(source, folder, model.config.vocab_size)

        progress("engine")
        with copy_for_engine(source, versions["transformers"]) as copy:
            _draw(ENGINES[engine], copy, folder)
        described = _describe_graph(folder / FILE, shape, model.config.vocab_size)

        progress("check")
        kind = described["cache"]["kind"]
        parity = check_parity(folder / FILE, model, kind, shape, context_length=length, prompts=prompts)
        require(parity, f"{source.path}: the graph of {engine}")
        progress("write")
        seal(
            folder,
            replace(found, provenance={**found.provenance, "engine": engine, "engine_packages": versions}),
            source,
            model,
            parity,
            name=name,
            license=license,
            context_length=length,
            stops=stops,
            graph=described,
            dtype="float32",
            kept_in_float32=[],
            storage="float32",
            quantization=None,
            quality=None,
            adapters={},
        )
    return open_bundle(place)


def _draw(engine: Engine, checkpoint: Path, folder: Path) -> None:
    """The engine's graph and its weights, moved into the folder; all else that it writes is dropped."""
    with tempfile.TemporaryDirectory(prefix=".engine-", dir=folder.parent) as work:
        out = Path(work) / "out"
        engine.run(checkpoint, out)
        for name in (FILE, *external_files(check_graph_file(out / FILE))):
            (out / name).rename(folder / name)


def _describe_graph(path: Path, shape: CacheShape, vocabulary: int) -> dict[str, Any]:
    """The "graph" of a manifest, read off the file; BundleError where it is not the model's."""
    numbers = {
        "layers": shape.layers,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocabulary": vocabulary,
    }
    said = {what: (number, "the model") for what, number in numbers.items()}
    graph: dict[str, Any] = describe_decoder(check_graph_file(path), said)["graph"]
    if graph["cache"]["dtype"] != "float32" or graph["logits_dtype"] != "float32":
        raise ExportError(
            f"{path.name}: caches {graph['cache']['dtype']} and gives logits in {graph['logits_dtype']}, "
            "and only float32 is held against the model"
        )
    return graph
