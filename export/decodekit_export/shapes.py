"""
Shapes of a record: which keys make a prompt and what is answered.

    prompt, completion          a text, or messages; a text, or the assistant's messages
    instruction, input, output  as Alpaca has it; the input may be missing or empty
    messages, tools             a conversation; every answer in it is trained
    conversations, system       as ShareGPT has it: `from` and `value`

A file has one shape, that of its first record, unless columns are mapped. Nothing is guessed:
a record of another shape is a fault.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from decodekit import strict_json
from decodekit.errors import ParameterError
from decodekit.messages import Message

Record = dict[str, Any]


class Fault(ValueError):
    """Why a record cannot be trained on, without its place."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and a text that completes it."""

    prompt: str | list[Message]
    completion: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages, the answers of the assistant among them, and the tools that it may call."""

    messages: list[Message]
    tools: list[Any] | None = None


Example = Pair | Conversation


@dataclass(frozen=True, slots=True)
class Shape:
    """The fields that a record of this shape has and may have, and what they make."""

    needs: tuple[str, ...]
    may: tuple[str, ...]
    read: Callable[[Record], Example]


class Shaper:
    """Reads records of one file.

    columns  field -> the column it stands in, where that has another name
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._columns = columns
        self._shape = _of_fields(columns)

    @property
    def used(self) -> frozenset[str]:
        """The columns that are looked at."""
        shape = self._shape or SHAPES[0]
        return frozenset(self._column(field) for field in (*shape.needs, *shape.may))

    def __call__(self, record: Record) -> Example:
        """The example that a record is. Raises Fault."""
        self._shape = shape = self._shape or self._recognised(record)
        fields = {}
        for field in shape.needs:
            if (column := self._column(field)) not in record:
                raise Fault(self._missing(field, list(record), shape))
            fields[field] = record[column]
        for field in shape.may:
            if (value := record.get(self._column(field))) is not None:
                fields[field] = value
        return shape.read(fields)

    def _column(self, field: str) -> str:
        return self._columns.get(field, field)

    def _recognised(self, record: Record) -> Shape:
        fitting = [s for s in SHAPES if all(self._column(field) in record for field in s.needs)]
        if len(fitting) > 1:
            names = " and as ".join(", ".join(shape.needs) for shape in fitting)
            field = fitting[0].needs[0]
            raise Fault(f"can be read as {names}; choose, such as with --map {field}={field}")
        if fitting:
            return fitting[0]
        # None fits: the fault is told of the shape that most of the keys belong to.
        return max(SHAPES, key=lambda shape: sum(self._column(field) in record for field in shape.needs))

    def _missing(self, field: str, found: list[str], shape: Shape) -> str:
        column = self._column(field)
        free = [key for key in found if key not in self.used]
        close = difflib.get_close_matches(column, free, n=1, cutoff=0.5)
        expected = " and ".join(repr(self._column(field)) for field in shape.needs)
        keys = ", ".join(map(repr, found)) or "no key"
        way_out = (
            f"did you mean {close[0]!r}? --map {field}={close[0]}"
            if close
            else f"name it with --map {field}=KEY"
        )
        return f"no key {column!r}; expected {expected}, found {keys}; {way_out}"


def columns_of(written: Sequence[str]) -> dict[str, str]:
    """`field=column` as a mapping. Raises ParameterError."""
    columns: dict[str, str] = {}
    known = sorted({field for shape in SHAPES for field in (*shape.needs, *shape.may)})
    for text in written:
        field, equals, column = text.partition("=")
        if not equals or not column:
            raise ParameterError(f"map must be FIELD=KEY, got {text!r}")
        if field not in known:
            raise ParameterError(f"map: no field {field!r}; fields are {', '.join(known)}")
        if field in columns:
            raise ParameterError(f"map: {field} is there twice; keep one")
        columns[field] = column
    if len({*columns.values()}) < len(columns):
        raise ParameterError(f"map: two fields are read from one key, in {', '.join(written)}")
    _of_fields(columns)
    return columns


def _of_fields(columns: Mapping[str, str]) -> Shape | None:
    """The one shape that has all the mapped fields; None if several have."""
    fitting = [shape for shape in SHAPES if {*columns} <= {*shape.needs, *shape.may}]
    if not fitting:
        raise ParameterError(f"map: {', '.join(columns)} are fields of different shapes of rows")
    return fitting[0] if len(fitting) == 1 else None


def _pair(fields: Record) -> Example:
    prompt, completion = fields["prompt"], fields["completion"]
    if not isinstance(prompt, str | list):
        raise Fault(f"'prompt' must be a string or a list of messages, found {kind(prompt)}")
    if isinstance(completion, list):
        asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else _list(prompt, "prompt")
        given = [{**message, "weight": 0} for message in asked]
        return Conversation([*given, *_list(completion, "completion")])
    if not isinstance(completion, str):
        raise Fault(f"'completion' must be a string, found {kind(completion)}")
    return Pair(prompt if isinstance(prompt, str) else _list(prompt, "prompt"), completion)


def _instruction(fields: Record) -> Example:
    texts = {"input": "", **fields}
    for field in ("instruction", "input", "output"):
        if not isinstance(texts[field], str):
            raise Fault(f"{field!r} must be a string, found {kind(texts[field])}")
    prompt = "\n\n".join(text for text in (texts["instruction"], texts["input"]) if text.strip())
    if "system" not in fields:
        return Pair(prompt, texts["output"])
    return Pair([*_system(fields), {"role": "user", "content": prompt}], texts["output"])


def _messages(fields: Record) -> Example:
    return Conversation(_list(fields["messages"], "messages"), _tools(fields))


ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}


def _sharegpt(fields: Record) -> Example:
    messages = _system(fields)
    for i, turn in enumerate(_list(fields["conversations"], "conversations")):
        said, value = turn.get("from"), turn.get("value")
        if said not in ROLES:
            raise Fault(f"conversations[{i}].from must be one of {', '.join(ROLES)}, found {said!r}")
        if not isinstance(value, str):
            raise Fault(f"conversations[{i}].value must be a string, found {kind(value)}")
        message: dict[str, Any] = {"role": ROLES[said]}
        if said == "function_call":
            calls = _json(value, f"conversations[{i}].value")
            message["tool_calls"] = calls if isinstance(calls, list) else [calls]
        else:
            message["content"] = value
        if "weight" in turn:
            message["weight"] = turn["weight"]
        messages.append(message)
    return Conversation(messages, _tools(fields))


def _system(fields: Record) -> list[Message]:
    system = fields.get("system", "")
    if not isinstance(system, str):
        raise Fault(f"'system' must be a string, found {kind(system)}")
    return [{"role": "system", "content": system}] if system else []


def _tools(fields: Record) -> list[Any] | None:
    tools = fields.get("tools")
    if isinstance(tools, str):
        tools = _json(tools, "'tools'") if tools.strip() else None
    return None if tools is None else _list(tools, "tools") or None


_ITEMS = {
    "prompt": "messages",
    "completion": "messages",
    "messages": "messages",
    "conversations": "turns",
    "tools": "tools",
}


def _list(value: Any, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise Fault(f"{field!r} must be a list of {_ITEMS[field]}, found {kind(value)}")
    if wrong := [item for item in value if not isinstance(item, dict)]:
        raise Fault(f"{field!r} must be a list of {_ITEMS[field]}, one item is {kind(wrong[0])}")
    return value


def _json(text: str, what: str) -> Any:
    try:
        return strict_json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise Fault(f"{what} is no JSON ({exc})") from exc


SHAPES = (
    Shape(("prompt", "completion"), (), _pair),
    Shape(("instruction", "output"), ("input", "system"), _instruction),
    Shape(("messages",), ("tools",), _messages),
    Shape(("conversations",), ("system", "tools"), _sharegpt),
)


def kind(value: Any) -> str:
    """What a value is called in JSON."""
    kinds = {type(None): "null", bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    numbers = {int: "a number", float: "a number"}
    return (kinds | numbers).get(type(value), f"a {type(value).__name__}")


def text_of(example: Example) -> str:
    """What identifies an example: all that was written, as JSON."""
    parts = (
        (example.prompt, example.completion)
        if isinstance(example, Pair)
        else (example.messages, example.tools)
    )
    return json.dumps(parts, ensure_ascii=False, default=str)
