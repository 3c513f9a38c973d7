"""
How other engines spell the settings of their samplers, and in which order they apply them.

Data only. The orders are those of transformers, `_get_logits_processor`; llama.cpp, `common_sampler_init`;
and text-generation-webui, `sampler_hijack.py`, whose settings SillyTavern writes under names of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Dialect:
    """One engine's settings.

    marks     names by which its settings are told from others'
    order     stages, as it applies them
    also      stages that it has, but not in that order
    defaults  what it takes for a setting that is not given, where that is not neutral
    aliases   its name -> the name used here
    ignored   its name -> why it changes no token
    """

    marks: frozenset[str]
    order: tuple[str, ...]
    also: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)


OPTIONS: dict[
    str, tuple[str, tuple[Any, ...]]
] = {  # setting -> option of Decoder.generate, and the values at which it asks for nothing
    "max_new_tokens": ("max_new_tokens", (-1,)),
    "min_new_tokens": ("min_new_tokens", (0,)),
    "stop": ("stop", ("", [])),
    "eos_token_id": ("stop_token_ids", ()),
    "seed": ("seed", (-1, 0xFFFFFFFF)),
    "max_time": ("max_time", (0,)),
    "ignore_eos": ("ignore_eos", (False,)),
    "num_return_sequences": ("n", (1,)),
}
UNSUPPORTED: dict[
    str, tuple[tuple[Any, ...], str]
] = {  # setting -> the values at which it asks for nothing, and why it cannot be kept otherwise
    "num_beams": ((1,), "it is of beam search; use Decoder.beam or --beams"),
    "num_beam_groups": ((1,), "there is no group beam search"),
    "penalty_alpha": ((0,), "contrastive search needs hidden states"),
    "dola_layers": ((), "contrasting layers needs hidden states"),
    "min_length": ((0,), "it counts the prompt; use min_new_tokens"),
    "encoder_no_repeat_ngram_size": ((0,), "there is no such strategy"),
    "forced_bos_token_id": ((), "it is of models with an encoder; use forced_prefix"),
    "forced_eos_token_id": ((), "no strategy forces the last token"),
    "forced_decoder_ids": (([],), "use forced_prefix"),
    "watermarking_config": ((), "name a watermark's strategy in the chain"),
    "token_healing": ((False,), "there is none"),
    "custom_generate": ((), "code does not come from a preset"),
    "min_keep": ((0, 1), "a truncation keeps one candidate at least, not more"),
    "grammar": (("",), "name a grammar's strategy in the chain"),
    "json_schema": (("", {}), "name a grammar's strategy in the chain"),
    "custom_token_bans": (("", []), "use bad_words with lists of ids"),
    "banned_tokens": (("", []), "use bad_words or banned_phrases"),
    "ban_eos_token": ((False,), "use ignore_eos, or bad_words with the end token"),
    "rep_pen_slope": ((0, 1), "the window of a penalty has no slope"),
    "rep_pen_decay": ((0,), "the window of a penalty does not fade"),
    "max_tokens_second": ((0,), "there is no limit of speed"),
    "infill": ((False,), "it is of one family of models"),
}
_BEAMS = "it is of beam search"
_OUTSIDE = "it is no part of decoding"
_ORDERS = "it is the order of another backend"
_SPEED = "it changes the speed, not the tokens"
TRANSFORMERS = Dialect(
    marks=frozenset(
        {
            *("transformers_version", "_from_model_config", "eos_token_id", "bos_token_id", "pad_token_id"),
            *("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "renormalize_logits"),
            *("exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id", "top_h"),
        }
    ),
    order=(
        *("guidance", "sequence_bias", "encoder_repetition_penalty", "repetition_penalty", "no_repeat_ngram"),
        *(
            "bad_words",
            "length_decay",
            "suppress_at_begin",
            "temperature",
            "top_h",
            "top_k",
            "top_p",
            "min_p",
        ),
        *("typical_p", "epsilon_cutoff", "eta_cutoff"),
    ),
    defaults={"do_sample": False, "top_k": 50},
    aliases={"stop_strings": "stop"},
    ignored={
        **dict.fromkeys(("length_penalty", "early_stopping", "diversity_penalty", "low_memory"), _BEAMS),
        **dict.fromkeys(("use_cache", "cache_implementation", "cache_config", "max_cache_len"), _SPEED),
        **dict.fromkeys(("compile_config", "disable_compile", "prefill_chunk_size", "use_mtp"), _SPEED),
        **dict.fromkeys(("num_assistant_tokens", "num_assistant_tokens_schedule", "is_assistant"), _SPEED),
        **dict.fromkeys(("assistant_confidence_threshold", "assistant_early_exit"), _SPEED),
        **dict.fromkeys(("assistant_lookbehind", "target_lookbehind", "prompt_lookup_num_tokens"), _SPEED),
        **dict.fromkeys(("max_matching_ngram_size", "return_legacy_cache"), _SPEED),
        **dict.fromkeys(("transformers_version", "_from_model_config", "trust_remote_code"), _OUTSIDE),
        **dict.fromkeys(("bos_token_id", "pad_token_id", "decoder_start_token_id"), _OUTSIDE),
        **dict.fromkeys(("output_attentions", "output_hidden_states", "output_scores"), _OUTSIDE),
        **dict.fromkeys(("output_logits", "return_dict_in_generate", "generation_kwargs"), _OUTSIDE),
        "renormalize_logits": "a draw is the same from logits that are not normalised",
        "remove_invalid_values": "a model that gives no numbers is an error",
    },
)
LLAMA_CPP = Dialect(
    marks=frozenset(
        {
            *("repeat_penalty", "repeat_last_n", "n_predict", "dynatemp_range", "typ_p", "mirostat"),
            *("samplers", "tfs_z", "min_keep", "cache_prompt", "n_probs", "id_slot", "penalty_last_n"),
        }
    ),
    order=(
        *("logit_bias", "repetition_penalty", "frequency_penalty", "presence_penalty", "dry", "top_n_sigma"),
        *("top_k", "typical_p", "top_p", "min_p", "xtc", "temperature", "dynamic_temperature"),
    ),
    also=frozenset({"adaptive_p", "mirostat", "mirostat_v1"}),
    defaults={
        **{"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repetition_penalty_range": 64},
    },
    aliases={
        **{"temp": "temperature", "typ_p": "typical_p", "tfs_z": "tfs", "mirostat": "mirostat_mode"},
        **{"repeat_penalty": "repetition_penalty", "penalty_repeat": "repetition_penalty"},
        **{"repeat_last_n": "repetition_penalty_range", "penalty_last_n": "repetition_penalty_range"},
        **{"penalty_freq": "frequency_penalty", "penalty_present": "presence_penalty"},
        **{"n_predict": "max_new_tokens", "max_tokens": "max_new_tokens", "stop_sequence": "stop"},
        **{"n_cmpl": "num_return_sequences", "n": "num_return_sequences"},
    },
    ignored={
        **dict.fromkeys(("cache_prompt", "id_slot", "n_keep", "n_discard", "t_max_predict_ms"), _SPEED),
        **dict.fromkeys(("stream", "n_probs", "post_sampling_probs", "return_tokens", "model"), _OUTSIDE),
        **dict.fromkeys(("timings_per_token", "response_fields", "backend_sampling"), _OUTSIDE),
    },
)
_WEBUI_ORDER = (
    *("logit_bias", "guidance", "repetition_penalty", "presence_penalty", "frequency_penalty", "dry"),
    *("temperature", "dynamic_temperature", "quadratic_sampling", "top_n_sigma", "top_k", "top_p"),
    *("typical_p", "epsilon_cutoff", "eta_cutoff", "tfs", "top_a", "min_p", "mirostat_v1", "mirostat", "xtc"),
    *("encoder_repetition_penalty", "no_repeat_ngram", "skew", "adaptive_p"),
)
_WEBUI_IGNORED = {
    **dict.fromkeys(("length_penalty", "early_stopping"), _BEAMS),
    **dict.fromkeys(("samplers", "samplers_priorities", "sampler_order"), _ORDERS),
    **dict.fromkeys(("add_bos_token", "skip_special_tokens", "spaces_between_special_tokens"), _OUTSIDE),
    **dict.fromkeys(("truncation_length", "auto_max_new_tokens", "json_schema_allow_empty"), _OUTSIDE),
    **dict.fromkeys(("prompt_lookup_num_tokens", "speculative_ngram", "streaming", "preset"), _SPEED),
    "max_length": "it is the size of a context",
    "rep_pen_size": "it is of another backend",
}
WEBUI = Dialect(
    marks=frozenset(
        {"sampler_priority", "temperature_last", "dynamic_temperature", "repetition_penalty_range"}
        | {"dynatemp_low", "dynatemp_high", "custom_token_bans", "mirostat_mode"}
    ),
    order=_WEBUI_ORDER,
    defaults={"repetition_penalty_range": 1024},
    aliases={
        **{"custom_stopping_strings": "stop", "max_tokens": "max_new_tokens", "grammar_string": "grammar"},
        "stopping_strings": "stop",
    },
    ignored=_WEBUI_IGNORED,
)
SILLYTAVERN = Dialect(
    marks=frozenset(
        {"rep_pen", "rep_pen_range", "freq_pen", "presence_pen", "min_temp", "max_temp", "genamt"}
        | {"samplers_priorities", "encoder_rep_pen", "dynatemp"}
    ),
    order=_WEBUI_ORDER,
    aliases={
        **{"temp": "temperature", "rep_pen": "repetition_penalty", "freq_pen": "frequency_penalty"},
        **{"presence_pen": "presence_penalty", "encoder_rep_pen": "encoder_repetition_penalty"},
        **{"rep_pen_range": "repetition_penalty_range", "nsigma": "top_n_sigma", "genamt": "max_new_tokens"},
        **{"dynatemp": "dynamic_temperature", "min_temp": "dynatemp_low", "max_temp": "dynatemp_high"},
        **{"grammar_string": "grammar", "ignore_eos_token": "ignore_eos"},
    },
    ignored=_WEBUI_IGNORED,
)
_WINDOW = "there it counts tokens of the prompt too, in a window; here those of the answer"
_NOWHERE = "there it does not happen where a newline or an end token would go; here see xtc.protect"
_BREAKERS = "there the last token of each breaker breaks a sequence; here all tokens with it in their text"
_SHARE = "there the entropy of what is kept is not renormalised, and only 100 candidates are looked at"
_WEBUI_DIFFERS = {
    **dict.fromkeys(("frequency_penalty", "presence_penalty"), _WINDOW),
    **{"xtc_probability": _NOWHERE, "dry_multiplier": _BREAKERS},
}
DIFFERS = {  # kind -> setting -> what it does here in another way
    "transformers": {"top_h": _SHARE},
    "llama.cpp": dict.fromkeys(("frequency_penalty", "presence_penalty"), _WINDOW),
    "text-generation-webui": _WEBUI_DIFFERS,
    "sillytavern": _WEBUI_DIFFERS,
}
DIALECTS = {
    "sillytavern": SILLYTAVERN,
    "text-generation-webui": WEBUI,
    "llama.cpp": LLAMA_CPP,
    "transformers": TRANSFORMERS,
}
