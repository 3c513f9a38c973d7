"""POST /v1/score, /tokenize and /detokenize"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from decodekit_server.limits import MAX_IDS, MAX_MESSAGES
from decodekit_server.params.chat import ChatMessage
from decodekit_server.params.fields import Ids, ModelName, Params, Text, Top

ChatMessages = Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]


class ScoreParams(Params):
    """How probable a text is: by itself, or as the answer to a prompt or to messages."""

    model: ModelName
    text: Text | Ids
    prompt: Text | Ids | None = None
    messages: ChatMessages | None = None
    top: Top = 0
    stride: Annotated[int, Field(ge=1, le=MAX_IDS)] | None = None


class TokenizeParams(Params):
    """A prompt as the model is asked it, through its chat template; or the bare text."""

    model: ModelName
    prompt: Text | None = None
    messages: ChatMessages | None = None
    raw: bool = False  # the text by itself, without the chat template


class DetokenizeParams(Params):
    model: ModelName
    tokens: Ids
