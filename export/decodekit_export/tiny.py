"""
A tiny random model of an architecture: every mechanism of the real one, at a size to try it on.

A configuration of transformers is shrunk by one rule: whatever it has of the sizes below gets
the small one, by name. What an architecture needs beyond that stands in SETTINGS. Weights are
drawn so that attention, positions, gates and experts all matter to the logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from decodekit_export.errors import ExportError, first_line

VOCABULARY = 300
CONTEXT = 128
SIZES: dict[str, Any] = {
    **{"vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "n_positions": CONTEXT},
    **{"hidden_size": 64, "n_embd": 64, "d_model": 64, "embedding_size": 64, "word_embed_proj_dim": 64},
    **{"intermediate_size": 48, "ffn_dim": 48, "decoder_ffn_dim": 48, "ffn_hidden_size": 48},
    **{"num_hidden_layers": 2, "n_layer": 2, "decoder_layers": 2},
    **{"num_attention_heads": 4, "n_head": 4, "decoder_attention_heads": 4},
    **{"num_key_value_heads": 2, "num_kv_heads": 2, "head_dim": 16, "query_pre_attn_scalar": 16},
    **{"sliding_window": 8, "attention_chunk_size": 24},
    **{"num_experts": 6, "num_local_experts": 6, "n_routed_experts": 6, "moe_num_experts": 6},
    **{"num_experts_per_tok": 2, "moe_topk": 2, "moe_k": 2, "top_k_experts": 2},
    **{"moe_intermediate_size": 24, "shared_expert_intermediate_size": 24, "shared_intermediate_size": 24},
    **{"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_dense_layers": 1},
    **{"q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16},
    **{"v_head_dim": 16, "qk_head_dim": 32},
    **{"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 16, "global_head_dim": 32},
    **{"zero_expert_num": 2, "n_shared_experts": 1},
    **{"is_decoder": True, "no_rope_layer_interval": 2, "swa_head_dim": 16, "partial_rotary_factor": 0.5},
    **{"bos_token_id": 1, "pad_token_id": 0},
}

LATENT = {"num_key_value_heads": 4}  # keys of all heads come from one latent vector
SETTINGS: dict[str, dict[str, Any]] = {
    "AXK1ForCausalLM": LATENT,
    "CodeGenForCausalLM": {"rotary_dim": 8},
    "DeepseekV2ForCausalLM": LATENT,
    "DeepseekV3ForCausalLM": LATENT,
    "GPTJForCausalLM": {"rotary_dim": 8},
    "GPTNeoForCausalLM": {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 8},
    "Gemma3nForCausalLM": {"num_kv_shared_layers": 0},
    "Glm4MoeLiteForCausalLM": LATENT,
    "Lfm2ForCausalLM": {"layer_types": ["conv", "full_attention"]},
    "Lfm2MoeForCausalLM": {"layer_types": ["conv", "full_attention"]},
    "LongcatFlashForCausalLM": LATENT,
    "MiniCPM3ForCausalLM": LATENT,
    "PhimoeForCausalLM": {"sliding_window": None},  # as long as the context, in the models there are
    "YoutuForCausalLM": LATENT,
}
LARGEST = 5_000_000  # parameters; a model that stays larger has parts besides a text decoder


def causal_language_models() -> dict[str, list[str]]:
    """The classes of the installed transformers, by name, with the model types that each of them serves."""
    types: dict[str, list[str]] = {}
    for model_type, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        types.setdefault(name, []).append(model_type)
    return dict(sorted(types.items(), key=lambda item: item[0].lower()))


def tiny_model(name: str, **changes: Any) -> PreTrainedModel:
    """A random model of a class, in float32."""
    try:
        with torch.device("meta"):
            size = sum(weight.numel() for weight in _build(name, changes).parameters())
        if size > LARGEST:
            raise ExportError(
                f"{name}: stays at {size / 1e6:.0f} million parameters: more than a text decoder"
            )
        model = _build(name, changes)
    except ExportError:
        raise
    except Exception as exc:  # each configuration checks itself in its own way
        reason = first_line(exc)
        raise ExportError(f"{name}: no tiny model of it: {reason}") from exc
    _draw(model)
    model.train(False)
    return model


def _build(name: str, changes: Mapping[str, Any]) -> PreTrainedModel:
    kind: Any = getattr(transformers, name)
    config = kind.config_class(**{**_shrunk(kind.config_class), **SETTINGS.get(name, {}), **changes})
    model: PreTrainedModel = kind._from_config(config, attn_implementation="eager")
    return model


def _shrunk(config_class: Any) -> dict[str, Any]:
    """The sizes that a configuration has, and one layer of each kind that it has by default."""
    default = config_class()
    known = default.to_dict()
    has = {*known, *getattr(config_class, "attribute_map", {})}
    sizes = {
        n: size for n, size in SIZES.items() if n in has and not isinstance(known.get(n), list | Mapping)
    }
    kinds = list(dict.fromkeys(getattr(default, "layer_types", None) or ()))
    if len(kinds) > 1 and "layer_types" in known:
        sizes |= {"layer_types": kinds, "num_hidden_layers": len(kinds)}
    return {**sizes, "eos_token_id": 2}


@torch.no_grad()
def _draw(model: nn.Module, seed: int = 0) -> None:
    """Weights of spread 1.5 / sqrt(inputs), so that no sum grows with its length; others near their value."""
    random = torch.Generator().manual_seed(seed)
    biases = (b for n, b in model.named_buffers() if n.endswith("bias") and b.is_floating_point())
    for weight in (*model.parameters(), *biases):
        noise = torch.randn(weight.shape, generator=random)
        if weight.ndim >= 2:
            weight.copy_(noise * 1.5 / weight.shape[-1] ** 0.5)
        else:
            weight.add_(0.1 * noise)
