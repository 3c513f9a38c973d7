"""
A checkpoint as another exporter is shown it: what it needs, and nothing that could act.

The engines read configurations with a transformers of their own, which may be older than the one
that wrote them: rotary parameters are then spelled as before version 5, too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from decodekit_export.checkpoint import Checkpoint
from decodekit_export.plain_files import plain_file


@contextlib.contextmanager
def copy_for_engine(source: Checkpoint, transformers: str) -> Iterator[Path]:
    """A folder for the time of the block.

    transformers  the version that will read it
    """
    with source.safe_copy() as folder:
        if int(transformers.partition(".")[0]) < 5:
            config = json.dumps(older_spelling(source.config))
            (folder / "config.json").write_text(config, encoding="utf-8")
        tokenizer = plain_file(source.path, "tokenizer.json").read_bytes()
        (folder / "tokenizer.json").write_bytes(tokenizer)
        said = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"})
        (folder / "tokenizer_config.json").write_text(said, encoding="utf-8")
        yield folder


def older_spelling(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with `rope_theta` and `rope_scaling` for what version 5 calls `rope_parameters`."""
    out = dict(config)
    rope = config.get("rope_parameters")
    if not isinstance(rope, Mapping):
        return out
    whole = rope.get("full_attention", rope)  # by kind of layer, where they differ
    out |= _older(whole)
    if isinstance(local := rope.get("sliding_attention"), Mapping) and "rope_theta" in local:
        out["rope_local_base_freq"] = local["rope_theta"]
    return out


def _older(rope: Mapping[str, Any]) -> dict[str, Any]:
    own = ("rope_theta", "partial_rotary_factor")
    top = {key: rope[key] for key in own if key in rope}
    scaling = {key: value for key, value in rope.items() if key not in own}
    scaled = scaling.get("rope_type", "default") != "default"
    return top | ({"rope_scaling": scaling} if scaled else {})
