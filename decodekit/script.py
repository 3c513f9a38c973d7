"""
A script: messages about to be rendered, in which no content can pass for a token of the template.

Special-token text in what people wrote is swapped for private characters while the template works,
so that afterwards it is known from what the template wrote itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from decodekit.chat_template import ChatTemplate
from decodekit.errors import PromptError, TemplateError
from decodekit.messages import Message, Tools
from decodekit.tokenizer import Tokenizer

_PRIVATE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE))


class Script:
    """Messages, a template, and a tokenizer that reads what the template makes of them.

    special  texts of the special tokens, the longest first
    """

    def __init__(
        self,
        template: ChatTemplate,
        tokenizer: Tokenizer,
        special: Sequence[str],
        messages: Sequence[Message],
        tools: Tools | None,
    ) -> None:
        self._template = template
        self._tokenizer = tokenizer
        try:
            text = "".join(_strings([messages, tools]))
            marks = _marks(special, text)
            self.messages: list[dict[str, Any]] = _masked(messages, marks)
            self._tools: list[Any] | None = _masked(tools, marks) if tools else None
        except RecursionError as exc:
            raise PromptError("messages or tools are nested too deeply") from exc
        self._token_of = {mark: token for token, mark in marks.items()}

    def prompt(self, count: int) -> str:
        """The first `count` messages as text, marks in it, up to where the answer begins."""
        return self._template.render(self.messages[:count], answer=True, tools=self._tools)

    def text(self, count: int) -> str:
        """The first `count` messages as text, marks in it."""
        return self._template.render(self.messages[:count], answer=False, tools=self._tools)

    def check_tools(self, count: int) -> None:
        """Refuse tools that the template makes nothing of in a prompt of the first `count` messages."""
        if self._tools and self.prompt(count) == self._template.render(self.messages[:count], answer=True):
            raise TemplateError("chat template: it has no place for tools; remove them")

    def check_key(self, at: int, key: str) -> None:
        """Refuse a key of the message `at` that the template makes nothing of."""
        *before, last = self.messages[: at + 1]
        without = {name: value for name, value in last.items() if name != key}
        if self.text(at + 1) == self._template.render([*before, without], answer=False, tools=self._tools):
            raise TemplateError(f"chat template: it makes nothing of messages[{at}].{key}; remove it")

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text with marks."""
        ids: list[int] = []
        for piece in _split(text, self._token_of):
            plain = self._token_of.get(piece)
            ids += self._tokenizer.encode(piece) if plain is None else self._tokenizer.encode_plain(plain)
        return tuple(ids)


def _marks(special: Sequence[str], text: str) -> dict[str, str]:
    """A private character for each special token that is written in a text."""
    free = (c for c in map(chr, chain(*_PRIVATE)) if c not in text)
    try:
        return {token: next(free) for token in special if token in text}
    except StopIteration as exc:
        raise PromptError("messages hold every private character there is; leave some out") from exc


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.items():
            yield from _strings(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _strings(item)


def _masked(value: Any, marks: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for token, mark in marks.items():
            value = value.replace(token, mark)
        return value
    if isinstance(value, Mapping):
        return {_masked(key, marks): _masked(item, marks) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_masked(item, marks) for item in value]
    return value


def _split(text: str, marks: Mapping[str, str]) -> list[str]:
    pieces, start = [], 0
    for i, character in enumerate(text):
        if character in marks:
            pieces += [text[start:i], character]
            start = i + 1
    return [p for p in (*pieces, text[start:]) if p]
