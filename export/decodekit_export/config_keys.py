"""
The keys that a configuration of an architecture has, read off transformers.

They are what the configuration's class takes, and the older spellings that its own code
mentions. What every configuration has in common acts as often as it describes, so of that
only what is listed here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

from decodekit_export.safe_config import Known

COMMON = (
    *("model_type", "architectures", "dtype", "torch_dtype", "tie_word_embeddings", "quantization_config"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "is_decoder", "add_cross_attention", "use_cache"),
    *("rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor"),
    *("original_max_position_embeddings", "head_dim", "text_config"),
)


def known_keys(config: Mapping[str, Any]) -> Known | None:
    """Keys of that `model_type`, with those of the configurations inside it; None if it is not known."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        return None
    return _keys(CONFIG_MAPPING[model_type], config)


def _keys(kind: type, config: Mapping[str, Any]) -> Known:
    known: dict[str, Known | None] = dict.fromkeys((*COMMON, *_taken(kind)))
    for name, inner in getattr(kind, "sub_configs", {}).items():
        said = config.get(name)
        if isinstance(said, Mapping):
            own = inner if issubclass(inner, PretrainedConfig) else None  # else AutoConfig: by model_type
            known[name] = _keys(own, said) if own else known_keys(said)
    return known


def _taken(kind: type) -> set[str]:
    names = {*inspect.signature(kind).parameters, *getattr(kind, "attribute_map", {})}
    for base in kind.__mro__[: kind.__mro__.index(PretrainedConfig)]:
        for code in (getattr(member, "__code__", None) for member in vars(base).values()):
            names |= {text for text in (code.co_consts if code else ()) if _is_key(text)}
    return names


def _is_key(constant: object) -> bool:
    return isinstance(constant, str) and constant.isidentifier() and not constant.startswith("_")
