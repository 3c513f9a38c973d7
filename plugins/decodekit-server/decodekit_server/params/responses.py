"""POST /v1/responses, for text and functions"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from decodekit_server.limits import MAX_MESSAGES, MAX_PARTS, MAX_TOOLS
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


InputContent = Text | Annotated[list[InputPart], Field(max_length=MAX_PARTS)]
Status = Literal["in_progress", "completed", "incomplete"]  # of an item that an answer had; changes nothing


class InputMessage(Params):
    type: Literal["message"] | None = None
    role: Literal["system", "developer", "user", "assistant"]
    content: InputContent
    id: Name | None = None
    status: Status | None = None
    phase: None = None


class InputCall(Params):
    """A call that an earlier answer made."""

    type: Literal["function_call"]
    call_id: Name
    name: FunctionName
    arguments: Text
    id: Name | None = None
    status: Status | None = None
    caller: None = None
    namespace: None = None


class InputResult(Params):
    """What that call gave."""

    type: Literal["function_call_output"]
    call_id: Name
    output: InputContent
    id: Name | None = None
    status: Status | None = None
    name: FunctionName | None = None
    caller: None = None
    namespace: None = None


def _kind(item: Any) -> str:
    """The name of what an item is; the type of a message may be left out."""
    kind = item.get("type") if isinstance(item, dict) else None
    return kind if isinstance(kind, str) else "message"


InputItem = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[InputCall, Tag("function_call")]
    | Annotated[InputResult, Tag("function_call_output")],
    Discriminator(_kind),
]


class ResponseFunction(Params):
    """A tool."""

    type: Literal["function"]
    name: FunctionName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    allowed_callers: None = None
    defer_loading: Literal[False] | None = None
    output_schema: None = None


class FunctionChoice(Params):
    type: Literal["function"]
    name: FunctionName


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
    input: Text | Annotated[list[InputItem], Field(min_length=1, max_length=MAX_MESSAGES)]
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
    tools: Annotated[list[ResponseFunction], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None = None
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
