"""
Examples: what the fields of a record say, whatever its shape. Raises Fault where they say nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from decodekit import strict_json
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


def pair(fields: Record) -> Example:
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


def instruction(fields: Record) -> Example:
    texts = {"input": "", **fields}
    for field in ("instruction", "input", "output"):
        if not isinstance(texts[field], str):
            raise Fault(f"{field!r} must be a string, found {kind(texts[field])}")
    prompt = "\n\n".join(text for text in (texts["instruction"], texts["input"]) if text.strip())
    if "system" not in fields:
        return Pair(prompt, texts["output"])
    return Pair([*_system(fields), {"role": "user", "content": prompt}], texts["output"])


def messages(fields: Record) -> Example:
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


def sharegpt(fields: Record) -> Example:
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
