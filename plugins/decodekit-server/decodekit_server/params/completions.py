"""POST /v1/completions"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from decodekit_server.limits import MAX_PROMPTS
from decodekit_server.params.fields import (
    Biases,
    Choices,
    Extras,
    Ids,
    Label,
    ModelName,
    Params,
    Penalty,
    Seed,
    Stop,
    Stops,
    Temperature,
    Text,
    Tokens,
    Top,
    TopP,
)

Texts = Annotated[list[Text], Field(max_length=MAX_PROMPTS, fail_fast=True)]
Lists = Annotated[list[Ids], Field(max_length=MAX_PROMPTS, fail_fast=True)]


class StreamOptions(Params):
    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class CompletionParams(Params):
    model: ModelName
    prompt: Text | Ids | Texts | Lists
    max_tokens: Tokens | None = None
    n: Choices | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: Biases | None = None
    logprobs: Top | None = None
    stop: Stop | Stops | None = None
    seed: Seed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Label | None = None
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    suffix: Literal[""] | None = None
    decodekit: Extras | None = None
