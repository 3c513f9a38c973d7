"""
Parameters: what each API takes, field by field, with bounds. The published schema is made of these.

A field that an API has and this server does not support is there with the values that ask for
nothing; another value is refused by its name, as is a field that the API does not have.
"""

from decodekit_server.params.chat import ChatParams
from decodekit_server.params.completions import CompletionParams
from decodekit_server.params.fields import Params
from decodekit_server.params.messages import CountParams, MessagesParams
from decodekit_server.params.responses import ResponsesParams
from decodekit_server.params.text import DetokenizeParams, ScoreParams, TokenizeParams

__all__ = [
    "ChatParams",
    "CompletionParams",
    "CountParams",
    "DetokenizeParams",
    "MessagesParams",
    "Params",
    "ResponsesParams",
    "ScoreParams",
    "TokenizeParams",
]
