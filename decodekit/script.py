"""
A script: messages about to be rendered, in which no content can pass for a token of the template.

Special-token text in what people wrote is swapped for private characters while the template works,
so that afterwards it is known from what the template wrote itself.
"""

from __future__ import annotations

import re
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
        self._special = special
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
        if not self._token_of:
            return tuple(self._tokenizer.encode(text))
        ids: list[int] = []
        for section in self._sections(text):
            if self._token_of.keys().isdisjoint(section):
                ids += self._tokenizer.encode(section)
            else:
                ids += self._tokenizer.encode_plain(_replaced(section, self._token_of))
        return tuple(ids)

    def _sections(self, text: str) -> Iterator[str]:
        """The text in pieces: what has a mark and stands between two tokens of the template, and the rest."""
        own = "|".join(map(re.escape, self._special))
        rest = ""
        for piece in re.split(f"({own})", text):
            if self._token_of.keys().isdisjoint(piece):
                rest += piece
            else:
                yield from filter(None, (rest, piece))
                rest = ""
        if rest:
            yield rest


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
        return _replaced(value, marks)
    if isinstance(value, Mapping):
        return {_masked(key, marks): _masked(item, marks) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_masked(item, marks) for item in value]
    return value


def _replaced(text: str, by: Mapping[str, str]) -> str:
    for old, new in by.items():
        text = text.replace(old, new)
    return text
