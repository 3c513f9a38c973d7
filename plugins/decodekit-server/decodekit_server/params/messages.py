"""POST /v1/messages, the API of Anthropic"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from decodekit_server.limits import MAX_MESSAGES, MAX_PARTS, MAX_TOOLS
from decodekit_server.params.chat import FunctionName, TextPart
from decodekit_server.params.fields import (
    Extras,
    Label,
    ModelName,
    Name,
    Params,
    Stops,
    Text,
    Tokens,
    TopP,
)


class UseBlock(Params):
    type: Literal["tool_use"]
    id: Name
    name: FunctionName
    input: dict[str, Any]


class ResultBlock(Params):
    type: Literal["tool_result"]
    tool_use_id: Name
    content: Text | Annotated[list[TextPart], Field(max_length=MAX_PARTS)] | None = None
    is_error: bool | None = None


class TurnText(TextPart):
    cache_control: None = None
    citations: None = None


Block = Annotated[TurnText | UseBlock | ResultBlock, Field(discriminator="type")]


class Turn(Params):
    role: Literal["user", "assistant"]
    content: Text | Annotated[list[Block], Field(min_length=1, max_length=MAX_PARTS)]


class InputTool(Params):
    name: FunctionName
    input_schema: dict[str, Any]
    description: Text | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    cache_control: None = None


class ToolChoice(Params):
    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool | None = None


class NamedToolChoice(Params):
    type: Literal["tool"]
    name: FunctionName
    disable_parallel_tool_use: bool | None = None


class Caller(Params):
    user_id: Label | None = None


class CountParams(Params):
    """POST /v1/messages/count_tokens, and what a message begins with."""

    model: ModelName
    messages: Annotated[list[Turn], Field(min_length=1, max_length=MAX_MESSAGES)]
    system: Text | Annotated[list[TurnText], Field(max_length=MAX_PARTS)] | None = None
    tools: Annotated[list[InputTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Annotated[ToolChoice | NamedToolChoice, Field(discriminator="type")] | None = None
    thinking: None = None
    mcp_servers: None = None
    context_management: None = None
    cache_control: None = None
    output_config: None = None
    speed: Literal["standard"] | None = None


class MessagesParams(CountParams):
    """POST /v1/messages"""

    max_tokens: Tokens
    temperature: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    top_p: TopP | None = None
    top_k: Annotated[int, Field(ge=0, le=1 << 20)] | None = None
    stop_sequences: Stops | None = None
    stream: bool | None = None
    metadata: Caller | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    container: None = None
    diagnostics: None = None
    inference_geo: None = None
    user_profile_id: None = None
    workspace_id: None = None
    decodekit: Extras | None = None
