"""
The chat template of a model: messages to text, in a sandbox.

A template is a program of the model's author. It reads the messages, changes nothing, reaches
nothing else, and may write so much and no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

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
        from decodekit.template_sandbox import bounded

        try:
            with bounded():
                pieces = self._template.generate(
                    messages=messages, tools=tools, add_generation_prompt=answer, **self._texts
                )
                return "".join(_bounded(pieces))
        except TemplateError:
            raise
        except Exception as exc:  # whatever the program does
            raise TemplateError(f"chat template: {exc}; check the messages against the template") from exc


def _compile(source: str) -> Any:
    from jinja2 import TemplateError as JinjaError

    from decodekit.template_sandbox import TemplateSandbox

    try:
        return TemplateSandbox().from_string(_GENERATION.sub("", source))
    except (JinjaError, RecursionError, MemoryError, SyntaxError) as exc:
        raise TemplateError(f"chat template: {exc}") from exc


def _bounded(pieces: Iterable[str]) -> Iterator[str]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > MAX_RENDERED:
            raise TemplateError(f"chat template: wrote more than {MAX_RENDERED} characters")
        yield piece
