"""
Rendering: messages, or a prompt and its completion, to ids and a loss mask.

The mask is born where the tokens are born. Prompt and completion are encoded apart
and joined, so the boundary between them is exact, and prompting is the same
rendering stopped before the completion: a model is asked as it was trained.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from decodekit.errors import PromptError, TemplateError
from decodekit.tokenizer import Tokenizer

Message = Mapping[str, str]

_GENERATION = re.compile(r"{%-?\s*(?:end)?generation\s*-?%}")  # marks for other trainers; they print nothing
MAX_RENDERED = 4_000_000  # characters a template may produce


@dataclass(frozen=True, slots=True)
class Rendered:
    """A training row: `mask[i]` says whether `ids[i]` is trained."""

    ids: tuple[int, ...]
    mask: tuple[bool, ...]


class Chat:
    """Renders for one tokenizer, with its chat template, or raw text where there is none.

    template  Jinja source as transformers writes it, or None
    stop_id   the token that ends a completion where the template does not say
    """

    def __init__(self, tokenizer: Tokenizer, template: str | None, stop_id: int | None) -> None:
        self._tokenizer = tokenizer
        self._stop_id = stop_id
        self._template = None if template is None else _compile(template)
        self._special = sorted(
            (t for i in tokenizer.special_ids if (t := tokenizer.token(i))), key=len, reverse=True
        )

    @property
    def continues(self) -> bool:
        """Whether an answer goes on where the prompt's text ended, as it does without a template."""
        return self._template is None

    def prompt(self, prompt: str | Sequence[Message]) -> tuple[int, ...]:
        """Ids up to where the answer begins. Special-token text inside a content stays text."""
        if self._template is None:
            if not isinstance(prompt, str):
                raise PromptError("messages need a chat template and this model has none; give a text prompt")
            return self._tokenizer.prefix + tuple(self._tokenizer.encode_plain(prompt))
        return tuple(self._encode(_messages(prompt), answer=True))

    def pair(self, prompt: str | Sequence[Message], completion: str) -> Rendered:
        """Ids of prompt and completion; trained are the completion and its stop token."""
        asked = self.prompt(prompt)
        answered = (*self._tokenizer.encode_plain(completion), *self.end)
        return Rendered(asked + answered, (False,) * len(asked) + (True,) * len(answered))

    @property
    def end(self) -> tuple[int, ...]:
        """The ids that end a completion: the template's end of turn, else the stop token."""
        if self._template is not None and (end := self._end_of_turn()):
            return end
        return () if self._stop_id is None else (self._stop_id,)

    def _end_of_turn(self) -> tuple[int, ...]:
        probe = "\ue000"
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": probe}]
        _, _, after = self._render(turns, answer=False).partition(probe)
        first = self._tokenizer.encode(after)[:1]
        return tuple(first) if first and first[0] in self._tokenizer.special_ids else ()

    def _encode(self, messages: Sequence[Message], *, answer: bool) -> list[int]:
        # Special-token text inside a content is swapped for a private character while the
        # template renders, so that afterwards it is known from the template's own tokens.
        contents = "".join(message["content"] for message in messages)
        free = (c for c in map(chr, range(0xE000, 0xF900)) if c not in contents)
        masked, marks = [], dict(zip(self._special, free))
        for message in messages:
            content = message["content"]
            for token, mark in marks.items():
                content = content.replace(token, mark)
            masked.append({**message, "content": content})
        text = self._render(masked, answer=answer)

        token_of = {mark: token for token, mark in marks.items() if mark in text}
        if not token_of:
            return self._tokenizer.encode(text)
        ids: list[int] = []
        for piece in _split(text, token_of):
            plain = token_of.get(piece)
            ids += self._tokenizer.encode(piece) if plain is None else self._tokenizer.encode_plain(plain)
        return ids

    def _render(self, messages: Sequence[Message], *, answer: bool) -> str:
        assert self._template is not None
        begin = next((self._tokenizer.token(i) for i in self._tokenizer.prefix), "")
        end = "" if self._stop_id is None else self._tokenizer.token(self._stop_id)
        try:
            text = "".join(
                _bounded(
                    self._template.generate(
                        messages=messages, add_generation_prompt=answer, bos_token=begin, eos_token=end
                    )
                )
            )
        except TemplateError:
            raise
        except Exception as exc:  # a template is a program of the model's author
            raise TemplateError(f"chat template: {exc}; check the messages against the template") from exc
        return text


def _messages(prompt: str | Sequence[Message]) -> Sequence[Message]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if not prompt:
        raise PromptError("messages is empty; give at least one message")
    for i, message in enumerate(prompt):
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                raise PromptError(f"messages[{i}].{key} must be a string, got {message.get(key)!r}")
    return prompt


def _compile(source: str) -> Any:
    from jinja2 import TemplateError as JinjaError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise
    environment.globals.pop("lipsum", None)
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    try:
        return environment.from_string(_GENERATION.sub("", source))
    except JinjaError as exc:
        raise TemplateError(f"chat template: {exc}") from exc


def _raise(message: str) -> None:
    raise TemplateError(f"chat template: {message}")


def _bounded(pieces: Any) -> Any:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > MAX_RENDERED:
            raise TemplateError(f"chat template: wrote more than {MAX_RENDERED} characters")
        yield piece


def _split(text: str, marks: Mapping[str, str]) -> list[str]:
    pieces, start = [], 0
    for i, character in enumerate(text):
        if character in marks:
            pieces += [text[start:i], character]
            start = i + 1
    return [p for p in (*pieces, text[start:]) if p]
