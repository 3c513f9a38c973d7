"""POST /v1/chat/completions"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from decodekit_server.limits import MAX_CALLS, MAX_MESSAGES, MAX_PARTS, MAX_TOOLS
from decodekit_server.params.completions import StreamOptions
from decodekit_server.params.fields import (
    Biases,
    Choices,
    Extras,
    Label,
    ModelName,
    Name,
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

FunctionName = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")]


class TextPart(Params):
    type: Literal["text"]
    text: Text


Content = Text | Annotated[list[TextPart], Field(max_length=MAX_PARTS)]


class CalledFunction(Params):
    name: FunctionName
    arguments: Text


class Call(Params):
    id: Name
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(Params):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: Name | None = None
    tool_calls: Annotated[list[Call], Field(max_length=MAX_CALLS)] | None = None
    tool_call_id: Name | None = None
    refusal: None = None
    audio: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    function_call: None = None


class Function(Params):
    name: FunctionName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Params):
    type: Literal["function"]
    function: Function


class NamedFunction(Params):
    name: FunctionName


class NamedTool(Params):
    type: Literal["function"]
    function: NamedFunction


class TextFormat(Params):
    type: Literal["text"]


class JsonFormat(Params):
    type: Literal["json_object"]


class Schema(Params):
    name: FunctionName
    description: Text | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class SchemaFormat(Params):
    type: Literal["json_schema"]
    json_schema: Schema


class ChatParams(Params):
    model: ModelName
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Tokens | None = None
    max_tokens: Tokens | None = None
    n: Choices | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: Biases | None = None
    logprobs: bool | None = None
    top_logprobs: Top | None = None
    stop: Stop | Stops | None = None
    seed: Seed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: Annotated[TextFormat | JsonFormat | SchemaFormat, Field(discriminator="type")] | None = (
        None
    )
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    metadata: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None
    audio: None = None
    function_call: None = None
    functions: None = None
    moderation: None = None
    prompt_cache_options: None = None
    prompt_cache_retention: None = None
    prediction: None = None
    reasoning_effort: None = None
    verbosity: None = None
    web_search_options: None = None
    decodekit: Extras | None = None
