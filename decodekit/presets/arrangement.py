"""
Arrangement: the order in which an engine applies the samplers of a preset.

Each function takes from a reading what is not yet as `stages` has it, puts it so, and answers the stages in
order. What the engine would not get to is ignored, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from decodekit.errors import ParameterError
from decodekit.parameters import real
from decodekit.presets.reading import Reading
from decodekit.presets.stages import STAGES, WEIGHING

PENALTIES = ("repetition_penalty", "frequency_penalty", "presence_penalty")
TEMPERATURES = ("temperature", "dynamic_temperature", "quadratic_sampling")
LLAMA_CPP = {  # a sampler's name in "samplers" -> the stages
    "penalties": PENALTIES,
    "dry": ("dry",),
    "top_n_sigma": ("top_n_sigma",),
    "top_k": ("top_k",),
    "typ_p": ("typical_p",),
    "typical_p": ("typical_p",),
    "top_p": ("top_p",),
    "min_p": ("min_p",),
    "xtc": ("xtc",),
    "temperature": ("temperature", "dynamic_temperature"),
    "adaptive_p": ("adaptive_p",),
    "tfs_z": (),  # it was taken out, and is passed over there
}
LETTERS = {
    **{"e": "penalties", "d": "dry", "s": "top_n_sigma", "k": "top_k", "y": "typ_p", "p": "top_p"},
    **{"m": "min_p", "x": "xtc", "t": "temperature", "a": "adaptive_p"},
}


def transformers(reading: Reading) -> list[str]:
    ends = reading.given.get("eos_token_id")
    alone = [[end] for end in (ends if isinstance(ends, list) else [ends])]  # which it allows all the same
    banned = [word for word in _list(reading, "bad_words_ids") if word not in alone]
    reading.put("bad_words_ids", [*banned, *([id] for id in _list(reading, "suppress_tokens"))])
    decay = _list(reading, "exponential_decay_length_penalty", of=2)
    if decay:
        reading.put("length_decay_start", decay[0], "exponential_decay_length_penalty")
        reading.put("length_decay_factor", decay[1], "exponential_decay_length_penalty")
    biases = _list(reading, "sequence_bias")
    reading.put("sequence_bias", [_named(bias) for bias in biases])
    if (length := reading.take("max_length")) is not None:
        if "max_length" in reading.plugins.stopping_criteria.entries:
            reading.options["criteria"] = [f"max_length={length}"]
        else:
            reading.unsupported["max_length"] = "max_length is not installed; it is in decodekit-stops"
    return _as_sampled(reading, reading.dialect.order)


def llama_cpp(reading: Reading) -> list[str]:
    if (last := reading.given.get("repetition_penalty_range")) == 0:
        for name in PENALTIES:
            reading.ignore(name, "none of the last tokens count")
    elif last == -1:
        reading.put("repetition_penalty_range", None)
    if (last := reading.given.get("dry_penalty_last_n")) == 0:
        reading.ignore("dry_multiplier", "none of the last tokens count")
    elif last == -1:
        reading.put("dry_penalty_last_n", None)
    _read_breakers(reading)
    bias = reading.given.get("logit_bias")
    if isinstance(bias, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in bias):
        reading.put("logit_bias", {str(id): value for id, value in bias})
    order = _llama_cpp_samplers(reading)
    if mode := _mirostat(reading):
        order = ["temperature", mode]
    if (width := reading.take("dynatemp_range")) and "dynamic_temperature" in order:
        middle = reading.take("temperature")
        real("preset: dynatemp_range", width, "[0, inf)")
        real("preset: temperature", middle, "[0, inf)")
        reading.put("temperature", None)
        reading.put("dynatemp_low", max(0.0, middle - width), "dynatemp_range")
        reading.put("dynatemp_high", middle + width, "dynatemp_range")
    return ["logit_bias", *order]


def _llama_cpp_samplers(reading: Reading) -> list[str]:
    names = reading.take("samplers")
    if names is None:
        return list(reading.dialect.order[1:])
    names = [LETTERS.get(letter, letter) for letter in names] if isinstance(names, str) else names
    return _stages("samplers", names, LLAMA_CPP)


def webui(reading: Reading) -> list[str]:
    if not reading.take("dynamic_temperature"):
        reading.given.pop("dynatemp_low", None)
    else:
        reading.given = {"dynatemp_low": 1.0, "dynatemp_high": 1.0, **reading.given}
        if reading.kind == "sillytavern":
            reading.ignore("temperature", "dynamic temperature is in its place")
    if reading.given.get("repetition_penalty_range") == 0:  # all
        reading.put("repetition_penalty_range", None)
    if not reading.given.get("dry_penalty_last_n"):
        reading.put("dry_penalty_last_n", reading.look("repetition_penalty_range"))
    for name in ("epsilon_cutoff", "eta_cutoff"):
        value = reading.given.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            reading.put(name, value / 10_000)
    _read_breakers(reading)
    mode = _mirostat(reading)
    order = [n for n in _webui_priority(reading) if n not in ("mirostat", "mirostat_v1") or n == mode]
    if reading.take("temperature_last"):
        order = [n for n in order if n not in TEMPERATURES] + [n for n in order if n in TEMPERATURES]
    return _as_sampled(reading, order)


def _webui_priority(reading: Reading) -> list[str]:
    names = reading.take("sampler_priority")
    if names is None:
        return list(reading.dialect.order)
    if isinstance(names, str):
        names = [name.strip() for name in names.replace(",", "\n").split("\n") if name.strip()]
    known = {name: (name,) for name in reading.dialect.order}
    order = _stages("sampler_priority", names, {**known, "mirostat": ("mirostat_v1", "mirostat")})
    missing = [name for name in reading.dialect.order if name not in order]
    before = [name for name in missing if name in WEIGHING]
    return [*before, *order, *(name for name in missing if name not in WEIGHING)]


def _stages(setting: str, names: Any, known: dict[str, tuple[str, ...]]) -> list[str]:
    """The stages that a list of an engine's names stands for."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ParameterError(f"preset: {setting} must be a list of names, got {names!r:.60}")
    for name in names:
        if name not in known:
            raise ParameterError(f"preset: {setting} holds {name!r}; known are {', '.join(known)}")
    return list(dict.fromkeys(stage for name in names for stage in known[name]))


def _as_sampled(reading: Reading, order: Iterable[str]) -> list[str]:
    """The order where the engine samples; else what weighs tokens, and then the best of them."""
    if reading.take("do_sample") is not False:
        return list(order)
    for name in order:
        if name not in WEIGHING:
            reading.ignore(STAGES[name].switch, "do_sample is false")
    return [*(name for name in order if name in WEIGHING), "greedy"]


def _mirostat(reading: Reading) -> str | None:
    """The stage that is asked for by number."""
    mode = reading.take("mirostat_mode")
    if mode not in (None, 0, 1, 2):
        raise ParameterError(f"preset: {reading.spelt('mirostat_mode')} must be 0, 1 or 2, got {mode!r}")
    tau, eta = reading.take("mirostat_tau"), reading.take("mirostat_eta")
    if mode:
        reading.put("mirostat_tau", 5.0 if tau is None else tau, "mirostat_mode")
        reading.put("mirostat_eta", 0.1 if eta is None else eta, "mirostat_mode")
    return {1: "mirostat_v1", 2: "mirostat"}.get(mode)


def _named(bias: Any) -> Any:
    """A pair of ids and a number, by names; anything else as it is, for the strategy to refuse."""
    return {"tokens": bias[0], "bias": bias[1]} if isinstance(bias, list) and len(bias) == 2 else bias


def _read_breakers(reading: Reading) -> None:
    """Sequence breakers that are written as text, as a list."""
    breakers = reading.given.get("dry_sequence_breakers")
    if isinstance(breakers, str):
        text = breakers if breakers.lstrip().startswith("[") else f"[{breakers}]"
        try:
            reading.put("dry_sequence_breakers", json.loads(text))
        except ValueError as exc:
            raise ParameterError(
                f"preset: dry_sequence_breakers must be texts in quotes, got {breakers!r:.60}"
            ) from exc


def _list(reading: Reading, name: str, of: int | None = None) -> list[Any]:
    """A setting that is a list, taken; [] where it is not given."""
    value = reading.take(name)
    if value is None:
        return []
    if not isinstance(value, list) or (of is not None and len(value) != of):
        raise ParameterError(f"preset: {name} must be a list{f' of {of}' if of else ''}, got {value!r:.60}")
    return value


ARRANGE: dict[str, Callable[[Reading], list[str]]] = {
    "transformers": transformers,
    "llama.cpp": llama_cpp,
    "text-generation-webui": webui,
    "sillytavern": webui,
}
