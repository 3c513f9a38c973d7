"""POST /v1/chat/completions: messages to a message, which may call tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from decodekit.completion import Completion
from decodekit_server.answers import Choice, Update
from decodekit_server.api.completions import stops
from decodekit_server.api.writing import Event, chat_logprobs, finish_reason, usage
from decodekit_server.ask import Ask, Constraint, Dialogue, Message, Sampling
from decodekit_server.errors import ApiError
from decodekit_server.params import ChatParams
from decodekit_server.params.chat import ChatMessage, JsonFormat, NamedTool, SchemaFormat, Tool
from decodekit_server.params.fields import Extras
from decodekit_server.preparing import Job
from decodekit_server.tools import ForcedCall, MarkedCalls, ToolCall


def ask(params: ChatParams) -> Ask:
    tools = [] if params.tool_choice == "none" else params.tools or []
    if not tools and params.tool_choice not in (None, "none", "auto"):
        raise ApiError(400, "E_PARAMETER", "tool_choice: there are no tools to choose from", "tool_choice")
    constraint = _constraint(params, tools)
    return Ask(
        model=params.model,
        prompts=[Dialogue([*messages(params.messages)], _plain(tools), forced=_is_call(constraint))],
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
        constraint=constraint,
        stop=stops(params.stop),
        seed=params.seed,
        logprobs=_logprobs(params),
        parsed=bool(tools),
        extras=params.decodekit or Extras(),
    )


def _is_call(constraint: Constraint | None) -> bool:
    return constraint is not None and constraint.calls


def messages(given: Sequence[ChatMessage]) -> Iterator[Message]:
    """As the SDK takes them: content a text."""
    for i, message in enumerate(given):
        content = message.content
        if content is None and not message.tool_calls:
            raise ApiError(400, "E_PROMPT", f"messages.{i}.content: there is none", f"messages.{i}.content")
        text = content if isinstance(content, str) else "".join(part.text for part in content or ())
        plain: dict[str, Any] = {"role": message.role, "content": text}
        if message.name:
            plain["name"] = message.name
        if message.tool_call_id:
            plain["tool_call_id"] = message.tool_call_id
        if message.tool_calls:
            plain["tool_calls"] = [call.model_dump() for call in message.tool_calls]
        yield plain


def _plain(tools: Sequence[Tool]) -> Sequence[Mapping[str, Any]]:
    return [tool.model_dump(exclude_none=True) for tool in tools]


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


def _constraint(params: ChatParams, tools: Sequence[Tool]) -> Constraint | None:
    wanted = params.response_format
    choice = params.tool_choice
    forced = tools and choice not in (None, "auto")
    if forced and isinstance(wanted, JsonFormat | SchemaFormat):
        raise ApiError(
            400, "E_PARAMETER", "response_format: tool_choice forces a call; leave out one", "response_format"
        )
    if forced:
        named = [
            t for t in tools if not isinstance(choice, NamedTool) or t.function.name == choice.function.name
        ]
        if not named:
            raise ApiError(400, "E_PARAMETER", "tool_choice: names none of the tools", "tool_choice")
        return Constraint("tool_call", {"tools": _plain(named)}, "tool_choice", calls=True)
    if isinstance(wanted, JsonFormat):
        return Constraint("json_schema", {"schema": {"type": "object"}}, "response_format")
    if isinstance(wanted, SchemaFormat):
        schema = wanted.json_schema.schema_
        return Constraint("json_schema", {"schema": {} if schema is None else schema}, "response_format")
    return None


class ChatWriter:
    def __init__(self, params: ChatParams, job: Job) -> None:
        self._params, self._job = params, job
        self._tokens = 0
        self._parsers: dict[int, MarkedCalls | ForcedCall] = {}
        self._calls: dict[int, int] = {}
        self._left = job.ask.n * len(job.prepared)  # choices that have not ended
        self._last: dict[str, Any] = {}
        options = params.stream_options
        self._usage = bool(options and options.include_usage)
        self._head = {
            "id": f"chatcmpl-{job.id}",
            "object": "chat.completion",
            "created": job.created,
            "model": job.served.name,
            "system_fingerprint": job.served.fingerprint,
        }

    def begin(self) -> list[Event]:
        self._head["object"] = "chat.completion.chunk"
        return [self._chunk(i, {"role": "assistant", "content": ""}) for i in range(self._left)]

    def update(self, update: Update) -> list[Event]:
        done = update.completion
        if not update.text and done is None:
            return []
        deltas = [self._delta(update.index, part) for part in self._parts(update)]
        if not deltas and update.tokens and self._params.logprobs:
            deltas = [{}]
        events = []
        for i, delta in enumerate(deltas):
            tokens = update.tokens if i == 0 else ()
            events.append(self._chunk(update.index, delta, logprobs=self._logprobs(tokens)))
        if done is not None:
            self._tokens += done.usage.completion_tokens
            reason = "tool_calls" if self._calls.get(update.index) else finish_reason(done)
            events.append(self._chunk(update.index, {}, reason=reason))
            self._left -= 1
            if not self._left:
                _, self._last = events.pop()
        return events

    def end(self, extras: dict[str, Any]) -> list[Event]:
        events: list[Event] = [("", self._last | {"decodekit": extras})]
        if self._usage:
            counts = usage(self._job, self._tokens)
            events.append(("", {**self._head, "choices": [], "usage": counts}))
        return [*events, ("", "[DONE]")]

    def whole(self, choices: Sequence[Choice], extras: dict[str, Any]) -> dict[str, Any]:
        done = [(c, c.completion) for c in choices if c.completion is not None]
        return {
            **self._head,
            "choices": [self._choice(choice, completion) for choice, completion in done],
            "usage": usage(self._job, sum(completion.usage.completion_tokens for _, completion in done)),
            "decodekit": extras,
        }

    def _choice(self, choice: Choice, completion: Completion) -> dict[str, Any]:
        parser = self._parser()
        parts = [choice.text] if parser is None else [*parser.push(choice.text), *parser.end()]
        calls = [part for part in parts if isinstance(part, ToolCall)]
        text = "".join(part for part in parts if isinstance(part, str))
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message["content"] = text.strip() or None
            message["tool_calls"] = [_called(call) for call in calls]
        return {
            "index": choice.index,
            "message": message,
            "logprobs": self._logprobs(choice.tokens),
            "finish_reason": "tool_calls" if calls else finish_reason(completion),
        }

    def _parser(self) -> MarkedCalls | ForcedCall | None:
        ask = self._job.ask
        if not ask.parsed:
            return None
        return ForcedCall() if ask.constraint and ask.constraint.calls else MarkedCalls()

    def _parts(self, update: Update) -> list[str | ToolCall]:
        """Text and calls that are certain now."""
        if not self._job.ask.parsed:
            return [update.text] if update.text else []
        parser = self._parsers.get(update.index) or self._parser()
        assert parser is not None
        self._parsers[update.index] = parser
        parts = parser.push(update.text)
        return parts if update.completion is None else [*parts, *parser.end()]

    def _delta(self, index: int, part: str | ToolCall) -> dict[str, Any]:
        if isinstance(part, str):
            return {"content": part}
        number = self._calls[index] = self._calls.get(index, 0) + 1
        return {"tool_calls": [{"index": number - 1, **_called(part)}]}

    def _chunk(
        self, index: int, delta: dict[str, Any], *, logprobs: Any = None, reason: str | None = None
    ) -> Event:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return "", {**self._head, "choices": [choice]} | ({"usage": None} if self._usage else {})

    def _logprobs(self, tokens: Sequence[Any]) -> dict[str, Any] | None:
        if not self._params.logprobs:
            return None
        tokenizer = self._job.served.decoder.tokenizer
        return {"content": chat_logprobs(tokenizer, tokens), "refusal": None}


def _called(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


writer = ChatWriter
