"""
Stages: the samplers that other engines have, under one name for all, and what each is here.

Data only. What an engine calls a setting otherwise is in its `Dialect.aliases`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Stage:
    """A sampler.

    strategy    the name it has in decodekit
    parameters  of the strategy, each with the setting it comes from; the first setting switches it
    off         whether at this value of the first setting engines do nothing
    package     the distribution it is in
    """

    strategy: str
    parameters: Mapping[str, str]
    off: Callable[[Any], bool]
    package: str = "decodekit"

    @property
    def switch(self) -> str:
        """The setting that switches it."""
        return next(iter(self.parameters.values()))


def _is(neutral: Any) -> Callable[[Any], bool]:
    return lambda value: bool(value == neutral)


def _not_above(neutral: float) -> Callable[[Any], bool]:
    return lambda value: bool(value <= neutral)


def _empty(value: Any) -> bool:
    return not value


_BIAS, _REPETITION = "decodekit-bias", "decodekit-repetition"
_TRUNCATION, _SHAPING, _MIROSTAT = "decodekit-truncation", "decodekit-shaping", "decodekit-mirostat"
_MIROSTAT_PARAMETERS = {"tau": "mirostat_tau", "eta": "mirostat_eta"}
STAGES = {
    "greedy": Stage("greedy", {}, _is(None)),
    "logit_bias": Stage("logit_bias", {"bias": "logit_bias"}, _empty),
    "guidance": Stage(
        "guidance", {"scale": "guidance_scale", "prompt": "negative_prompt"}, _is(1), "decodekit-guidance"
    ),
    "sequence_bias": Stage("sequence_bias", {"sequences": "sequence_bias"}, _empty, _BIAS),
    "bad_words": Stage("bad_words", {"words": "bad_words_ids"}, _empty, _BIAS),
    "suppress_at_begin": Stage("suppress_at_begin", {"ids": "begin_suppress_tokens"}, _empty, _BIAS),
    "length_decay": Stage(
        "length_decay", {"start": "length_decay_start", "factor": "length_decay_factor"}, _is(None), _BIAS
    ),
    "encoder_repetition_penalty": Stage(
        "encoder_repetition", {"theta": "encoder_repetition_penalty"}, _is(1), _REPETITION
    ),
    "repetition_penalty": Stage(
        "repetition_penalty", {"theta": "repetition_penalty", "window": "repetition_penalty_range"}, _is(1)
    ),
    "frequency_penalty": Stage("frequency_penalty", {"f": "frequency_penalty"}, _is(0)),
    "presence_penalty": Stage("presence_penalty", {"f": "presence_penalty"}, _is(0)),
    "no_repeat_ngram": Stage("no_repeat_ngram", {"n": "no_repeat_ngram_size"}, _not_above(0), _REPETITION),
    "dry": Stage(
        "dry",
        {
            "multiplier": "dry_multiplier",
            "base": "dry_base",
            "allowed_length": "dry_allowed_length",
            "range": "dry_penalty_last_n",
            "breakers": "dry_sequence_breakers",
        },
        _is(0),
        _REPETITION,
    ),
    "temperature": Stage("temperature", {"t": "temperature"}, _is(1)),
    "dynamic_temperature": Stage(
        "dynamic_temperature",
        {"low": "dynatemp_low", "high": "dynatemp_high", "exponent": "dynatemp_exponent"},
        _is(None),
        _SHAPING,
    ),
    "quadratic_sampling": Stage(
        "smoothing", {"factor": "smoothing_factor", "curve": "smoothing_curve"}, _is(0), _SHAPING
    ),
    "top_n_sigma": Stage("top_n_sigma", {"n": "top_n_sigma"}, _not_above(0), _TRUNCATION),
    "top_k": Stage("top_k", {"k": "top_k"}, _not_above(0)),
    "top_p": Stage("top_p", {"p": "top_p"}, _is(1)),
    "min_p": Stage("min_p", {"p": "min_p"}, _is(0)),
    "typical_p": Stage("typical", {"p": "typical_p"}, _is(1)),
    "top_h": Stage("top_h", {"alpha": "top_h"}, _is(1), _TRUNCATION),
    "epsilon_cutoff": Stage("epsilon", {"epsilon": "epsilon_cutoff"}, _is(0), _TRUNCATION),
    "eta_cutoff": Stage("eta", {"epsilon": "eta_cutoff"}, _is(0), _TRUNCATION),
    "tfs": Stage("tail_free", {"z": "tfs"}, _is(1), _TRUNCATION),
    "top_a": Stage("top_a", {"a": "top_a"}, _is(0), _TRUNCATION),
    "mirostat_v1": Stage("mirostat_v1", _MIROSTAT_PARAMETERS, _is(None), _MIROSTAT),
    "mirostat": Stage("mirostat", _MIROSTAT_PARAMETERS, _is(None), _MIROSTAT),
    "xtc": Stage(
        "xtc", {"probability": "xtc_probability", "threshold": "xtc_threshold"}, _not_above(0), _SHAPING
    ),
    "skew": Stage("skew", {"s": "skew"}, _is(0), _SHAPING),
    "adaptive_p": Stage(
        "adaptive_p",
        {"target": "adaptive_target", "decay": "adaptive_decay"},
        lambda value: bool(value < 0),
        _SHAPING,
    ),
}
WEIGHING = (  # what engines do before they sample, hence also where they do not sample
    *("logit_bias", "guidance", "sequence_bias", "encoder_repetition_penalty", "repetition_penalty"),
    *("frequency_penalty", "presence_penalty", "no_repeat_ngram", "dry"),
    *("bad_words", "length_decay", "suppress_at_begin"),
)
