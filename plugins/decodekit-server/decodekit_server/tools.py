"""
Calls of tools, found in a model's text while it grows: JSON between <tool_call> and </tool_call>, or the
whole text where a grammar forced it to be one call.

What is no such call stays text; blanks around one are kept for text behind it. Time is linear in the text;
nothing of it is ever run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from decodekit import strict_json
from decodekit.stopping import overlap
from decodekit_server.ask import Ask

OPEN, CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model asks for.

    arguments  JSON of an object
    """

    name: str
    arguments: str
    id: str = ""


Part = str | ToolCall


class PlainText:
    """No call is looked for."""

    def push(self, text: str) -> list[Part]:
        return [text] if text else []

    def end(self) -> list[Part]:
        return []


class MarkedCalls:
    """Calls between marks, text around them.

    name  with which the ids of the calls begin
    """

    def __init__(self, name: str = "call") -> None:
        self._name, self._count = name, 0
        self._parts: list[str] = []  # of a call that is not closed yet
        self._inside = False
        self._held = ""
        self._blanks: list[str] = []  # at the end of the text so far
        self._called = False  # nothing but blanks came since the last call

    def push(self, text: str) -> list[Part]:
        """What is certain now: text, and whole calls."""
        found: list[Part] = []
        text, self._held = self._held + text, ""
        while text:
            mark = CLOSE if self._inside else OPEN
            before, seen, after = text.partition(mark)
            if not seen:
                held = overlap(text, mark)
                before, self._held = text[: len(text) - held], text[len(text) - held :]
            if self._inside:
                self._parts.append(before)
            else:
                found += self._say(before)
            if not seen:
                return found
            if self._inside:
                found += self._close()
            self._inside, text = not self._inside, after
        return found

    def end(self) -> list[Part]:
        """What is left where the text ends, be it a call that lacks its mark only."""
        if self._inside:
            self._parts.append(self._held)
            found = self._close(mark="")
        else:
            found = self._say(self._held)
        return found if self._called else [*found, *self._blanks]

    def _close(self, mark: str = CLOSE) -> list[Part]:
        text, self._parts = "".join(self._parts), []
        call = read_call(text)
        if call is None:
            return self._say(OPEN + text + mark)
        self._called, self._count = True, self._count + 1
        return [replace(call, id=f"{self._name}_{self._count}")]

    def _say(self, text: str) -> list[Part]:
        """Text but for the blanks at its end."""
        said = text.rstrip()
        if not said:
            self._blanks += [text] if text else []
            return []
        found = "".join((*self._blanks, said))
        self._blanks, self._called = [text[len(said) :]] if len(said) < len(text) else [], False
        return [found]


class ForcedCall:
    """The whole text is one call.

    id  of the call
    """

    def __init__(self, id: str = "call") -> None:
        self._id = id
        self._parts: list[str] = []

    def push(self, text: str) -> list[Part]:
        self._parts.append(text)
        return []

    def end(self) -> list[Part]:
        text = "".join(self._parts)
        call = read_call(text)
        return [replace(call, id=self._id)] if call else [text] if text else []


Parser = PlainText | MarkedCalls | ForcedCall


def parser(ask: Ask, name: str) -> Parser:
    """What finds the calls in the answer of that name. The same answer has the same ids in it."""
    if not ask.parsed:
        return PlainText()
    forced = ask.constraint is not None and ask.constraint.calls
    return ForcedCall(f"call_{name}") if forced else MarkedCalls(f"call_{name}")


def taken(parser: Parser, text: str, *, over: bool) -> list[Part]:
    """What is certain once more text is there, all of it where that was the last."""
    return [*parser.push(text), *(parser.end() if over else ())]


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
