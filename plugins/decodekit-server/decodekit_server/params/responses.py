"""POST /v1/responses, for text"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from decodekit_server.limits import MAX_MESSAGES, MAX_PARTS
from decodekit_server.params.chat import FunctionName, JsonFormat, TextFormat
from decodekit_server.params.fields import (
    Extras,
    Label,
    ModelName,
    Name,
    Params,
    Temperature,
    Text,
    Tokens,
    Top,
    TopP,
)


class InputPart(Params):
    type: Literal["input_text", "output_text"]
    text: Text
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    logprobs: Annotated[list[Any], Field(max_length=0)] | None = None


class InputMessage(Params):
    type: Literal["message"] | None = None
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[InputPart], Field(max_length=MAX_PARTS)]
    id: Name | None = None
    status: Literal["completed"] | None = None
    phase: None = None


class ResponseSchemaFormat(Params):
    type: Literal["json_schema"]
    name: FunctionName
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: Text | None = None
    strict: bool | None = None


class TextOptions(Params):
    format: Annotated[TextFormat | JsonFormat | ResponseSchemaFormat, Field(discriminator="type")] | None = (
        None
    )
    verbosity: None = None


class ResponsesParams(Params):
    model: ModelName
    input: Text | Annotated[list[InputMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    instructions: Text | None = None
    max_output_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    text: TextOptions | None = None
    top_logprobs: Top | None = None
    include: Annotated[list[Literal["message.output_text.logprobs"]], Field(max_length=1)] | None = None
    stream: bool | None = None
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    metadata: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: bool | None = None  # nothing is ever stored, and the answer says so
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    parallel_tool_calls: bool | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    access_programs: None = None
    background_options: None = None
    context_management: None = None
    conversation: None = None
    image: None = None
    moderation: None = None
    prompt_cache_options: None = None
    prompt_cache_retention: None = None
    max_tool_calls: None = None
    previous_response_id: None = None
    prompt: None = None
    reasoning: None = None
    stream_options: None = None
    decodekit: Extras | None = None
