"""
Calls of tools, found in a model's text while it grows: JSON between <tool_call> and </tool_call>, or the
whole text where a grammar forced it to be one call.

What is no such call stays text. Time is linear in the text; nothing of it is ever run.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field

from decodekit import strict_json
from decodekit.stopping import overlap

OPEN, CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model asks for.

    arguments  JSON of an object
    """

    name: str
    arguments: str
    id: str = field(default_factory=lambda: "call_" + secrets.token_hex(12))


class MarkedCalls:
    """Calls between marks, text around them."""

    def __init__(self) -> None:
        self._parts: list[str] = []  # of a call that is not closed yet
        self._inside = False
        self._held = ""

    def push(self, text: str) -> list[str | ToolCall]:
        """What is certain now: text, and whole calls."""
        found: list[str | ToolCall] = []
        text, self._held = self._held + text, ""
        while text:
            mark = CLOSE if self._inside else OPEN
            before, seen, after = text.partition(mark)
            if not seen:
                held = overlap(text, mark)
                before, self._held = text[: len(text) - held], text[len(text) - held :]
            if self._inside:
                self._parts.append(before)
            elif before:
                found.append(before)
            if not seen:
                return found
            if self._inside:
                found.append(self._close())
            self._inside, text = not self._inside, after
        return found

    def end(self) -> list[str | ToolCall]:
        """What is left where the text ends."""
        if not self._inside:
            return [self._held] if self._held else []
        self._parts.append(self._held)
        return [OPEN + self._take()]

    def _close(self) -> str | ToolCall:
        text = self._take()
        return read_call(text) or OPEN + text + CLOSE

    def _take(self) -> str:
        text, self._parts = "".join(self._parts), []
        return text


class ForcedCall:
    """The whole text is one call."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def push(self, text: str) -> list[str | ToolCall]:
        self._parts.append(text)
        return []

    def end(self) -> list[str | ToolCall]:
        text = "".join(self._parts)
        return [read_call(text) or text] if text else []


def read_call(text: str) -> ToolCall | None:
    """The call that a text is, if it is one."""
    try:
        call = strict_json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", call.get("parameters", {}))
    if not isinstance(arguments, dict):
        return None
    return ToolCall(call["name"], json.dumps(arguments, ensure_ascii=False))
