"""What every text API comes down to: prompts, how to choose tokens, when to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from decodekit_server.params.fields import Extras

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Raw:
    """Text that the model goes on from, past its chat template. Special tokens written in it are such."""

    text: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Messages, and the tools that the chat template tells the model of.

    forced  a grammar makes the call, so a template that knows no tools will do
    """

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    forced: bool = False


Prompt = Raw | Dialogue | Sequence[int]


@dataclass(frozen=True, slots=True)
class Sampling:
    """The flat fields; None: not given."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the answer must be: a strategy of decodekit-grammar, first in the chain.

    field  that asked for it
    calls  the answer is a call of a tool
    """

    strategy: str
    options: Mapping[str, Any]
    field: str
    calls: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of a client.

    n          answers for each prompt
    parsed     calls of tools are looked for in the text
    """

    model: str
    prompts: Sequence[Prompt]
    n: int = 1
    stream: bool = False
    max_tokens: int | None = None
    sampling: Sampling = Sampling()
    constraint: Constraint | None = None
    stop: Sequence[str] = ()
    seed: int | None = None
    logprobs: int | None = None
    parsed: bool = False
    extras: Extras = field(default_factory=Extras)
