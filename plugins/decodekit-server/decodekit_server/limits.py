"""
Limits: how much a client may ask for. Every list, text, number and product has one.

Constants bound single fields, and stand in the published schema. `Limits` bounds what depends
on the machine: bytes, seconds, connections, and the tokens of a whole request.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from typing import Annotated, Any

from decodekit.errors import ParameterError
from decodekit.parameters import Real, Whole, check

MAX_CHOICES = 128  # n
MAX_PROMPTS = 128
MAX_MESSAGES = 4096
MAX_PARTS = 256  # of a content
MAX_TEXT = 4_000_000  # characters of one text; the body's limit is usually lower
MAX_ID = 2**31 - 1
MAX_IDS = 1 << 20  # token ids in one list
MAX_STOPS = 16
MAX_STOP = 256  # characters of a stop string
MAX_STOP_IDS = 256
MAX_BIASES = 1024
MAX_TOOLS = 128
MAX_CALLS = 128  # tool calls in a message
MAX_STRATEGIES = 32  # of a chain, or criteria
MAX_OPTIONS = 20_000  # values in the options of one strategy, however nested
MAX_NAME = 128  # characters of a name
MAX_DEPTH = 64  # of JSON
MAX_VALUES = 200_000  # in one body, token ids in lists of their own not counted
MAX_TOKENS = 1 << 20  # that a field may ask for; `Limits` has the real bound
MAX_TRACE_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server gives at most."""

    body_bytes: Annotated[int, Whole("[1024, inf)", "of a request")] = 1 << 20
    header_bytes: Annotated[int, Whole("[1024, inf)", "of a request")] = 16 << 10
    receive_seconds: Annotated[float, Real("(0, inf)", "in which a request must be here")] = 30.0
    idle_seconds: Annotated[float, Real("(0, inf)", "a connection may wait for its next request")] = 15.0
    write_seconds: Annotated[float, Real("(0, inf)", "a reader may leave 64 KiB unread")] = 20.0
    connections: Annotated[int, Whole("[1, inf)", "at a time")] = 1024
    queue: Annotated[int, Whole("[0, inf)", "answers that wait for a place, per model")] = 256
    answer_tokens: Annotated[int, Whole("[1, inf)", "of one answer")] = 8192
    request_tokens: Annotated[int, Whole("[1, inf)", "answers times tokens of each")] = 65_536
    score_tokens: Annotated[int, Whole("[1, inf)", "of one text to score")] = 65_536
    answer_seconds: Annotated[float, Real("(0, inf)", "of one answer, its wait included")] = 600.0
    prepare_seconds: Annotated[float, Real("(0, inf)", "in which a request must be prepared")] = 30.0
    drain_seconds: Annotated[float, Real("[0, inf)", "for what runs when the server is told to end")] = 30.0
    stall_seconds: Annotated[
        float, Real("(0, inf)", "of one step, after which an engine counts as stuck")
    ] = 120.0

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def of(cls, written: Iterable[str], *, without: Collection[str] = (), where: str = "") -> Limits:
        """From NAME=VALUE, each. ParameterError for what is no limit, or none `where` some are left out."""
        kinds: dict[str, Any] = {f.name: type(f.default) for f in fields(cls) if f.name not in without}
        values: dict[str, Any] = {}
        for one in written:
            name, _, value = one.partition("=")
            if name not in kinds:
                raise ParameterError(f"no limit named {name!r}{where}; limits: {', '.join(kinds)}")
            try:
                values[name] = kinds[name](value)
            except ValueError as exc:
                raise ParameterError(f"{name} must be a number, got {value!r}") from exc
        return cls(**values)
