"""
The chat template of a model: messages to text, in a sandbox. The only module that knows Jinja.

A template is a program of the model's author. It reads the messages, changes nothing, reaches
nothing else, and may write so much and no more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from decodekit.errors import TemplateError

_GENERATION = re.compile(r"{%-?\s*(?:end)?generation\s*-?%}")  # marks for other trainers; they print nothing
MAX_RENDERED = 4_000_000  # characters a template may produce


class ChatTemplate:
    """Jinja source as transformers writes it, compiled.

    begin, end  the texts of the begin and end tokens, for templates that write them; None where there is none
    """

    def __init__(self, source: str, begin: str | None, end: str | None) -> None:
        self._template = _compile(source)
        self._texts = {"bos_token": begin, "eos_token": end}

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        answer: bool,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """The messages as text; with `answer`, up to where the assistant's answer begins."""
        try:
            return "".join(
                _bounded(
                    self._template.generate(
                        messages=messages, tools=tools, add_generation_prompt=answer, **self._texts
                    )
                )
            )
        except TemplateError:
            raise
        except Exception as exc:  # whatever the program does
            raise TemplateError(f"chat template: {exc}; check the messages against the template") from exc


def _compile(source: str) -> Any:
    from jinja2 import TemplateError as JinjaError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise
    environment.globals.pop("lipsum", None)
    environment.filters["tojson"] = _to_json
    try:
        return environment.from_string(_GENERATION.sub("", source))
    except JinjaError as exc:
        raise TemplateError(f"chat template: {exc}") from exc


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Not Jinja's own, which writes for web pages; the options are those that transformers offers."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> NoReturn:
    raise TemplateError(f"chat template: {message}")


def _bounded(pieces: Iterable[str]) -> Iterator[str]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > MAX_RENDERED:
            raise TemplateError(f"chat template: wrote more than {MAX_RENDERED} characters")
        yield piece
