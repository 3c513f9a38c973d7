"""
Errors of the API: every exception becomes one status, one stable code and one line.

Two shapes leave the server: that of OpenAI, {"error": {message, type, param, code}}, and below
`/v1/messages` that of Anthropic, {"type": "error", "error": {type, message, code}}.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from decodekit.errors import (
    DecodekitError,
    EngineClosedError,
    EngineStalledError,
    ParameterError,
    PluginError,
    PromptError,
    QueueFullError,
    TemplateError,
    TokenizerError,
    UnknownNameError,
)
from decodekit.hint import hint

log = logging.getLogger("decodekit_server")

HEADERS = {
    401: {"www-authenticate": 'Basic realm="decodekit", charset="UTF-8"'},
    429: {"retry-after": "1"},  # seconds after which a full queue is worth another try
    503: {"retry-after": "1"},
}
_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_THEIRS = (ParameterError, PromptError, TemplateError, TokenizerError, UnknownNameError, PluginError)


class ApiError(DecodekitError):
    """What a client is told instead of an answer.

    param  the field it is about, where there is one
    more   headers, beside those of its status
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(" ".join(message.split()))
        self.status, self.code, self.param, self._more = status, code, param, dict(more or {})

    @property
    def kind(self) -> str:
        """The word both APIs have for it, roughly."""
        return _KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    @property
    def headers(self) -> dict[str, str]:
        return HEADERS.get(self.status, {}) | self._more

    def content(self, *, anthropic: bool) -> dict[str, Any]:
        """In the shape of one of the APIs."""
        if anthropic:
            kind = "api_error" if self.status >= 500 else self.kind
            return {"type": "error", "error": {"type": kind, "message": str(self), "code": self.code}}
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}


def is_anthropic(path: str) -> bool:
    """Whether errors of this path have Anthropic's shape."""
    return path == "/v1/messages" or path.startswith("/v1/messages/")


def api_error(error: BaseException) -> ApiError:
    """What a client is told of any exception. Faults of ours say no more than their code."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFullError):
        return ApiError(429, error.code, str(error))
    if isinstance(error, EngineClosedError | EngineStalledError):
        return ApiError(503, error.code, str(error))
    if isinstance(error, _THEIRS):
        return ApiError(400, error.code, str(error))
    if isinstance(error, DecodekitError):
        return ApiError(500, error.code, str(error))
    return ApiError(500, "E_INTERNAL", "the server failed; its log says where")


def told(error: BaseException) -> ApiError:
    """The same, and where a fault of ours is, in the log: without its message, which may quote a prompt."""
    answer = api_error(error)
    if answer.code == "E_INTERNAL":
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("%s\n%s", type(error).__name__, where)
    return answer


def invalid(error: ValidationError, model: type[BaseModel], body: Any) -> ApiError:
    """The first thing wrong with a body, by the name of its field."""
    first = max(error.errors(include_url=False), key=_telling)
    param = ".".join(_place(first["loc"], first["type"], body))
    if first["type"] == "extra_forbidden":
        return ApiError(400, "E_UNKNOWN_FIELD", f"{param}: no such field here{_near(first, model)}", param)
    what = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if first["type"] == "none_required":
        what = "is not supported here; leave it out"
    if first["type"] == "union_tag_invalid":
        known, param = first["ctx"]["expected_tags"], f"{param}.type"
        return ApiError(400, "E_PARAMETER", f"{param}: must be one of {known}", param)
    got = "" if first["type"] == "missing" else f", got {first['input']!r:.80}"
    return ApiError(400, "E_PARAMETER", f"{param or 'body'}: {what}{got}", param or None)


def not_one_of(name: str, known: Iterable[str]) -> str:
    """A way out for a name that is not there."""
    known = list(known)
    return hint(name, known, f"there are {', '.join(sorted(known)) or 'none'}")


def _telling(error: Mapping[str, Any]) -> tuple[bool, bool, int]:
    """Of the errors that the alternatives of a field give, the one about the alternative that was meant."""
    kind = error["type"]
    return kind == "extra_forbidden", not kind.endswith("_type"), len(error["loc"])


def _place(location: Sequence[int | str], kind: str, body: Any) -> Iterator[str]:
    """The parts of a location that a body has, or should: the others name alternatives of a union."""
    *outer, last = location or ("",)
    for part in outer:
        if _has(body, part):
            yield str(part)
            body = body[part]
    if _has(body, last) or kind == "missing":
        yield str(last)


def _has(value: Any, part: int | str) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, dict) and part in value


def _near(first: Mapping[str, Any], model: type[BaseModel]) -> str:
    """A field of that name, nearly."""
    if len(first["loc"]) != 1:
        return ""
    near = hint(str(first["loc"][0]), model.model_fields, "")
    return f"; {near}" if near else ""
