"""What all APIs read alike: texts in parts, stop strings, tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from decodekit_server.ask import Constraint, Dialogue, Message
from decodekit_server.errors import ApiError
from decodekit_server.tools import CLOSE


class Part(Protocol):
    text: str


def text_of(content: str | Sequence[Part] | None) -> str:
    """The text of a content: itself, or what its parts say together."""
    return content if isinstance(content, str) else "".join(part.text for part in content or ())


def stops(stop: str | Sequence[str] | None) -> Sequence[str]:
    """The stop strings of a field that takes one or several."""
    return [stop] if isinstance(stop, str) else stop or ()


@dataclass(frozen=True, slots=True)
class Calling:
    """The tools of a request.

    tools       as chat templates know them
    constraint  where the answer must be a call of one
    single      no more than one may be called
    """

    tools: Sequence[Mapping[str, Any]]
    constraint: Constraint | None = None
    single: bool = False

    def asked(self, messages: Iterable[Message]) -> Dialogue:
        """What the model is asked: messages, and that there are these tools."""
        return Dialogue([*messages], self.tools, forced=self.constraint is not None)

    @property
    def stop(self) -> Sequence[str]:
        """What ends an answer that makes one call at most: the end of that call."""
        return [CLOSE] if self.tools and self.single and self.constraint is None else []


def calling(
    functions: Sequence[Mapping[str, Any]],
    choice: Literal["none", "auto", "required"],
    name: str | None = None,
    *,
    single: bool = False,
) -> Calling:
    """What a request asks of its tools.

    functions  {"name", "description", "parameters"} of each
    choice     "required": the answer is a call; of the tool `name`, where that is given
    """
    tools: list[dict[str, Any]] = (
        [] if choice == "none" else [{"type": "function", "function": one} for one in functions]
    )
    if choice != "required":
        return Calling(tools, single=single)
    if not tools:
        raise ApiError(400, "E_PARAMETER", "tool_choice: there are no tools to choose from", "tool_choice")
    named = [tool for tool in tools if name in (None, tool["function"]["name"])]
    if not named:
        raise ApiError(400, "E_PARAMETER", "tool_choice: names none of the tools", "tool_choice")
    return Calling(tools, Constraint("tool_call", {"tools": named}, "tool_choice", calls=True), single)
