"""
Messages: what a conversation is made of, checked and brought to one form.

A message has a `role` and a `content`, both texts. One of the assistant may also call tools, hold
what was thought, and have a `weight`, 0 where it is not to be trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from decodekit import strict_json
from decodekit.errors import PromptError

Message = Mapping[str, Any]
Tools = Sequence[Mapping[str, Any]]  # JSON schemas of functions


def checked(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages with a text as content, the arguments of calls as objects, and no key without a value."""
    if not messages:
        raise PromptError("messages is empty; give at least one message")
    return [_checked(message, f"messages[{i}]") for i, message in enumerate(messages)]


def is_trained(message: Message) -> bool:
    """Whether it is an answer that a model is to learn."""
    return bool(message["role"] == "assistant" and message.get("weight", 1) != 0)


def _checked(given: Message, place: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise PromptError(f"{place} must be a message with role and content, got {given!r}")
    message = {key: value for key, value in given.items() if value is not None}
    if "tool_calls" in message:
        calls = message["tool_calls"]
        if not isinstance(calls, Sequence) or isinstance(calls, str):
            raise PromptError(f"{place}.tool_calls must be a list of calls, got {calls!r}")
        message["tool_calls"] = [_call(call, f"{place}.tool_calls") for call in calls]
        message.setdefault("content", "")
    for key in ("role", "content"):
        if not isinstance(message.get(key), str):
            raise PromptError(f"{place}.{key} must be a string, got {message.get(key)!r}")
    if message.get("weight", 1) not in (0, 1):
        raise PromptError(f"{place}.weight must be 0 or 1, got {message['weight']!r}")
    return message


def _call(call: Any, place: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise PromptError(f"{place} must be calls of a named function, got {call!r}")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = strict_json.loads(arguments)
        except (ValueError, RecursionError) as exc:
            raise PromptError(f"{place}: the arguments of {function['name']!r} are no JSON ({exc})") from exc
    function = {**function, "arguments": arguments}
    return {**call, "function": function} if "function" in call else function
