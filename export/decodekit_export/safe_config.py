"""
A model configuration reduced to what describes a model.

transformers acts on more keys of a config.json than its readers expect: some name code,
kernels or other repositories to fetch. A file that came with weights has no vote on that,
so before transformers reads it, it is reduced to the keys that its architecture has, without
those that act, and to values that name no place.

CVE-2026-4372 (`_attn_implementation_internal`), CVE-2026-5241 (`trust_remote_code`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Keys that name code, kernels, adapters or files instead of describing a model.
_ACTING = {
    *("auto_map", "trust_remote_code", "custom_pipelines", "custom_generate"),
    *("kernels", "kernel_config", "use_kernels", "attn_implementation", "experts_implementation"),
    *("transformers_weights", "fusion_config", "compile_config"),
    *("base_model_name_or_path", "adapter_config", "peft_config"),
}
# Keys that mean nothing to a decoder: left out without a word.
_IDLE = {
    *("_name_or_path", "transformers_version"),
    *("id2label", "label2id", "num_labels", "task_specific_params", "problem_type"),
    *("output_attentions", "output_hidden_states", "return_dict", "torchscript"),
}

Known = Mapping[str, "Known | None"]  # key -> keys of the mapping that is its value; None: not known

_PLAIN = re.compile(r"(?!.*--)[\w .+=-]{0,200}")  # no path, no address, no repository


def safe_config(
    config: Mapping[str, Any], known: Known | None = None, at: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """The configuration without keys that act, and the names of those, `outer.inner`.

    known  the keys that it may have; None: any that does not act
    """
    kept: dict[str, Any] = {}
    dropped: list[str] = []
    for key, value in config.items():
        if key in _IDLE:
            continue
        foreign = key.startswith("_") if known is None else key not in known
        if foreign or key in _ACTING or not _is_plain(value):
            dropped.append(at + key)
        elif isinstance(value, Mapping):
            kept[key], inner = safe_config(value, known and known[key], f"{at}{key}.")
            dropped += inner
        else:
            kept[key] = value
    return kept, dropped


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return _PLAIN.fullmatch(value) is not None
    if isinstance(value, list):
        return all(_is_plain(item) and not isinstance(item, Mapping) for item in value)
    return value is None or isinstance(value, bool | int | float | Mapping)
