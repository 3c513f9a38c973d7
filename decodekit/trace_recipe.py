"""
A recipe: the call, in Python and as a command, that decodes a prepared request again.

What cannot be written down, such as a strategy that is registered under no name, gives no recipe.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from decodekit.chain import Link, parse
from decodekit.errors import DecodekitError
from decodekit.plugins import Registry
from decodekit.preparation import Prepared, Prompt
from decodekit.processors import LogitsProcessor
from decodekit.settings import Settings
from decodekit.stopping import StoppingCriterion

LEFT_OUT = ("criteria", "logprobs", "logprobs_at", "prompt_logprobs", "speculate", "tenant")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Python source, and a command line for a POSIX shell; None: it cannot be written so."""

    python: str | None
    command: str | None


def recipe(prepared: Prepared, prompt: Prompt) -> Recipe:
    """How to decode `prompt`, from which the request was prepared, to the same tokens."""
    plugins = prepared.preparer.plugins
    chain = _written(prepared.links, plugins.logits_processors, LogitsProcessor)
    asked = parse(prepared.settings.criteria, plugins.stopping_criteria, StoppingCriterion)
    criteria = _written(asked, plugins.stopping_criteria, StoppingCriterion)
    if chain is None or criteria is None:
        return Recipe(None, None)
    model, options = prepared.preparer.bundle.name, _options(prepared)
    return Recipe(
        _python(model, prompt, chain, options | ({"criteria": criteria} if criteria else {})),
        _command(model, prompt, chain, criteria, options),
    )


def _written(links: Iterable[Link], registry: Registry, kind: type) -> list[str] | None:
    """The links as texts that `chain.parse` reads; None where it would read something else."""
    links = tuple(links)
    texts = []
    for link in links:
        if link.options is None:
            return None
        texts += _texts(link.name, link.options, registry)
    try:
        again = parse(texts, registry, kind)
    except DecodekitError:  # one strategy twice, which only objects can say
        return None
    same = [(link.name, link.options) for link in links] == [(link.name, link.options) for link in again]
    return texts if same else None


def _texts(name: str, options: Mapping[str, Any], registry: Registry) -> list[str]:
    written = {key: json.dumps(value, ensure_ascii=False) for key, value in options.items()}
    if not written:
        return [name]
    key, value = next(iter(written.items()))
    if len(written) == 1 and key in registry.bound(name, value):  # the first parameter
        return [f"{name}={value}"]
    return [f"{name}.{key}={value}" for key, value in written.items()]


def _options(prepared: Prepared) -> dict[str, Any]:
    """The settings that are not what they would be anyway."""
    told = {}
    for field in fields(Settings):
        value = getattr(prepared.settings, field.name)
        if field.name not in LEFT_OUT and value not in (field.default, []):
            told[field.name] = list(value) if isinstance(value, tuple | set | frozenset) else value
    return told


def _python(model: str, prompt: Prompt, chain: list[str], options: Mapping[str, Any]) -> str:
    lines = [repr(prompt), repr(chain), *(f"{name}={value!r}" for name, value in options.items())]
    arguments = "".join(f"    {line},\n" for line in lines)
    return (
        f"import decodekit\n\ndecoder = decodekit.load({model!r})\n"
        f"completion = decoder.generate(\n{arguments})\nprint(completion.text)\n"
    )


def _command(
    model: str, prompt: Prompt, chain: list[str], criteria: list[str], options: Mapping[str, Any]
) -> str | None:
    """None: the command takes one text that does not look like an option, neither sample number nor tools."""
    if not isinstance(prompt, str) or prompt.startswith("-") or {"sample", "tools"} & options.keys():
        return None
    words = ["decodekit", "generate", model, prompt]
    words += [word for text in chain for word in ("-p", text)]
    words += [word for text in criteria for word in ("-c", text)]
    for name, value in options.items():
        flag = "--" + name.removesuffix("s" if name == "stop_token_ids" else "").replace("_", "-")
        if value is True:
            words.append(flag)
        else:
            words += [f"{flag}={one}" for one in (value if isinstance(value, list) else [value])]
    return shlex.join(words)
