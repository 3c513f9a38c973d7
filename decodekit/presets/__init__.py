"""
Presets: the sampler settings of another engine, as a chain of strategies in the order that it uses.

    preset = chain_from({"temperature": 0.7, "repeat_penalty": 1.1})      # llama.cpp
    decoder.generate(prompt, preset.chain, **preset.options)

Nothing is dropped in silence: a setting that changes the tokens there and cannot be kept here is an error,
or is listed where `strict` is off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decodekit import strict_json
from decodekit.errors import InputError, ParameterError
from decodekit.plugins import Plugins, load_plugins
from decodekit.presets.arrangement import ARRANGE
from decodekit.presets.dialects import DIALECTS
from decodekit.presets.reading import Reading

MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Preset:
    """What another engine's settings are here.

    kind         whose they are: "transformers", "llama.cpp", "text-generation-webui" or "sillytavern"
    chain        texts for `Decoder.generate`, in order; () where the model's distribution is drawn from
    options      of `Decoder.generate`
    assumed      defaults of the engine that are in the chain because the settings do not give another value
    differs      setting -> what it does here in another way
    ignored      setting -> why it changes no token
    unsupported  setting -> why it cannot be kept
    """

    kind: str
    chain: tuple[str, ...]
    options: Mapping[str, Any]
    assumed: Mapping[str, Any]
    differs: Mapping[str, str]
    ignored: Mapping[str, str]
    unsupported: Mapping[str, str]


def read(path: Path, kind: str = "auto", *, plugins: Plugins | None = None, strict: bool = True) -> Preset:
    """The preset in a JSON file, such as a `generation_config.json`; see `chain_from`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        settings = strict_json.loads(content.decode())
    except OSError as exc:
        raise InputError(f"{path}: cannot be read ({exc.strerror or exc}); check the path") from exc
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{path}: not a preset in JSON: {exc}") from exc
    return chain_from(settings, kind, plugins=plugins, strict=strict)


def chain_from(
    settings: Mapping[str, Any], kind: str = "auto", *, plugins: Plugins | None = None, strict: bool = True
) -> Preset:
    """The strategies and options that another engine's settings ask for.

    settings  by the names of that engine; null is "not given"
    kind      whose names they are, see `Preset`; "auto": told by names that only one of them has
    plugins   where strategies are looked up; None: all that are installed
    strict    False: list what cannot be kept, instead of an error
    """
    if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
        raise ParameterError(f"preset: settings must be an object of named values, got {settings!r:.60}")
    kind = told(settings) if kind == "auto" else kind
    if kind not in DIALECTS:
        raise ParameterError(f"preset: kind must be one of auto, {', '.join(DIALECTS)}, got {kind!r}")
    reading = Reading(kind, settings, plugins or load_plugins())
    reading.read_stages(ARRANGE[kind](reading))
    reading.read_options()
    reading.explain_the_rest()
    if strict and reading.unsupported:
        reasons = [f"{name}={settings.get(name)!r:.60}: {why}" for name, why in reading.unsupported.items()]
        raise ParameterError(
            f"preset: {'; '.join(reasons)}; leave out what cannot be kept, or pass strict=False"
        )
    return Preset(
        kind=kind,
        chain=tuple(reading.chain),
        options=reading.options,
        assumed=reading.assumed,
        differs=reading.differs,
        ignored=reading.ignored,
        unsupported=reading.unsupported,
    )


def told(settings: Iterable[str]) -> str:
    """Whose settings these are, by names that only one engine has."""
    for kind, dialect in DIALECTS.items():
        if not dialect.marks.isdisjoint(settings):
            return kind
    raise ParameterError(
        "preset: engines that have all of these names apply them in different orders; "
        f"give kind, one of {', '.join(DIALECTS)}"
    )
