"""POST /v1/chat/completions: messages to a message, which may call tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from decodekit.answer import Token
from decodekit.completion import Completion
from decodekit_server.answers import Choice, Update
from decodekit_server.api.chunks import ChoiceWriter
from decodekit_server.api.reading import Calling, calling, stops, text_of
from decodekit_server.api.writing import Event, chat_logprobs, finish_reason
from decodekit_server.ask import Ask, Constraint, Message, Sampling
from decodekit_server.errors import ApiError
from decodekit_server.params import ChatParams
from decodekit_server.params.chat import ChatMessage, JsonFormat, NamedTool, SchemaFormat
from decodekit_server.params.fields import Extras
from decodekit_server.preparing import Job
from decodekit_server.tools import Parser, Part, ToolCall, parser, taken


def ask(params: ChatParams) -> Ask:
    tools = _calling(params)
    return Ask(
        model=params.model,
        prompts=[tools.asked(messages(params.messages))],
        n=params.n or 1,
        stream=bool(params.stream),
        max_tokens=_max_tokens(params),
        sampling=Sampling(
            temperature=params.temperature,
            top_p=params.top_p,
            frequency_penalty=params.frequency_penalty,
            presence_penalty=params.presence_penalty,
            logit_bias=params.logit_bias,
        ),
        constraint=tools.constraint or _format(params),
        stop=[*stops(params.stop), *tools.stop],
        seed=params.seed,
        logprobs=_logprobs(params),
        parsed=bool(tools.tools),
        extras=params.decodekit or Extras(),
    )


def messages(given: Sequence[ChatMessage]) -> Iterator[Message]:
    """As the SDK takes them: content a text."""
    for i, message in enumerate(given):
        if message.content is None and not message.tool_calls:
            raise ApiError(400, "E_PROMPT", f"messages.{i}.content: there is none", f"messages.{i}.content")
        plain: dict[str, Any] = {"role": message.role, "content": text_of(message.content)}
        if message.name:
            plain["name"] = message.name
        if message.tool_call_id:
            plain["tool_call_id"] = message.tool_call_id
        if message.tool_calls:
            plain["tool_calls"] = [call.model_dump() for call in message.tool_calls]
        yield plain


def _max_tokens(params: ChatParams) -> int | None:
    if None not in (params.max_tokens, params.max_completion_tokens):
        raise ApiError(
            400, "E_PARAMETER", "max_tokens: give it or max_completion_tokens, not both", "max_tokens"
        )
    return params.max_completion_tokens or params.max_tokens


def _logprobs(params: ChatParams) -> int | None:
    if params.logprobs:
        return params.top_logprobs or 0
    if params.top_logprobs:
        raise ApiError(400, "E_PARAMETER", "top_logprobs: needs logprobs: true", "top_logprobs")
    return None


def _calling(params: ChatParams) -> Calling:
    functions = [tool.function.model_dump(exclude_none=True) for tool in params.tools or ()]
    choice, single = params.tool_choice or "auto", params.parallel_tool_calls is False
    if isinstance(choice, NamedTool):
        tools = calling(functions, "required", choice.function.name, single=single)
    else:
        tools = calling(functions, choice, single=single)
    if tools.constraint and isinstance(params.response_format, JsonFormat | SchemaFormat):
        raise ApiError(
            400, "E_PARAMETER", "response_format: tool_choice forces a call; leave out one", "response_format"
        )
    return tools


def _format(params: ChatParams) -> Constraint | None:
    wanted = params.response_format
    if isinstance(wanted, JsonFormat):
        return Constraint("json_schema", {"schema": {"type": "object"}}, "response_format")
    if isinstance(wanted, SchemaFormat):
        schema = wanted.json_schema.schema_
        return Constraint("json_schema", {"schema": {} if schema is None else schema}, "response_format")
    return None


class ChatWriter(ChoiceWriter):
    ID, OBJECT, CHUNK = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, params: ChatParams, job: Job) -> None:
        super().__init__(params, job)
        self._scored = bool(params.logprobs)
        self._parsers: dict[int, Parser] = {}
        self._calls: Counter[int] = Counter()

    def begin(self) -> list[Event]:
        deltas = [self._delta(i, {"role": "assistant", "content": ""}) for i in range(self._left)]
        return [("", self._chunk([delta])) for delta in deltas]

    def _grown(self, update: Update) -> Sequence[dict[str, Any]]:
        index, done = update.index, update.completion
        deltas = [self._added(index, part) for part in self._parts(index, update.text, over=done is not None)]
        if not deltas and update.tokens and self._scored:
            deltas = [{}]
        grown = [
            self._delta(index, delta, logprobs=self._logprobs(() if i else update.tokens))
            for i, delta in enumerate(deltas)
        ]
        if done is not None:
            reason = "tool_calls" if self._calls[index] else finish_reason(done)
            grown.append(self._delta(index, {}, reason=reason))
        return grown

    def _choice(self, choice: Choice, completion: Completion) -> dict[str, Any]:
        parts = self._parts(choice.index, choice.text, over=True)
        calls = [part for part in parts if isinstance(part, ToolCall)]
        text = "".join(part for part in parts if isinstance(part, str))
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message["content"] = text or None
            message["tool_calls"] = [_called(call) for call in calls]
        return {
            "index": choice.index,
            "message": message,
            "logprobs": self._logprobs(choice.tokens),
            "finish_reason": "tool_calls" if calls else finish_reason(completion),
        }

    def _parts(self, index: int, text: str, *, over: bool) -> list[Part]:
        """Text and calls that are certain now."""
        if index not in self._parsers:
            self._parsers[index] = parser(self._job.ask, f"{self._job.id}_{index}")
        return taken(self._parsers[index], text, over=over)

    def _added(self, index: int, part: Part) -> dict[str, Any]:
        if isinstance(part, str):
            return {"content": part}
        self._calls[index] += 1
        return {"tool_calls": [{"index": self._calls[index] - 1, **_called(part)}]}

    def _delta(
        self, index: int, delta: dict[str, Any], *, logprobs: Any = None, reason: str | None = None
    ) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        if not self._scored:
            return None
        tokenizer = self._job.served.decoder.tokenizer
        return {"content": chat_logprobs(tokenizer, tokens), "refusal": None}


def _called(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


writer = ChatWriter
