"""POST /v1/responses: the newer API of OpenAI, for text and functions. Nothing is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from decodekit.answer import Token
from decodekit.completion import Completion
from decodekit_server.answers import Choice, Update
from decodekit_server.api.reading import Calling, calling, text_of
from decodekit_server.api.writing import Event, chat_logprobs, is_cut
from decodekit_server.ask import Ask, Constraint, Message, Sampling
from decodekit_server.errors import ApiError
from decodekit_server.params import ResponsesParams
from decodekit_server.params.chat import JsonFormat
from decodekit_server.params.fields import Extras, Params
from decodekit_server.params.responses import (
    FunctionChoice,
    InputCall,
    InputResult,
    ResponseSchemaFormat,
)
from decodekit_server.preparing import Job
from decodekit_server.tools import ToolCall, parser, taken


def ask(params: ResponsesParams) -> Ask:
    tools, constraint = _calling(params), _format(params)
    logprobs = (params.top_logprobs or 0) if params.include else params.top_logprobs
    if tools.constraint and constraint:
        raise ApiError(
            400, "E_PARAMETER", "text.format: tool_choice forces a call; leave out one", "text.format"
        )
    if tools.tools and logprobs is not None:
        field = "include" if params.include else "top_logprobs"
        raise ApiError(400, "E_UNSUPPORTED", f"{field}: of text alone; leave it out, or the tools", field)
    return Ask(
        model=params.model,
        prompts=[tools.asked(_messages(params))],
        stream=bool(params.stream),
        max_tokens=params.max_output_tokens,
        sampling=Sampling(temperature=params.temperature, top_p=params.top_p),
        constraint=tools.constraint or constraint,
        stop=tools.stop,
        logprobs=logprobs,
        parsed=bool(tools.tools),
        extras=params.decodekit or Extras(),
    )


def _calling(params: ResponsesParams) -> Calling:
    functions = [tool.model_dump(exclude_none=True, exclude={"type"}) for tool in params.tools or ()]
    choice, single = params.tool_choice or "auto", params.parallel_tool_calls is False
    if isinstance(choice, FunctionChoice):
        return calling(functions, "required", choice.name, single=single)
    return calling(functions, choice, single=single)


def _format(params: ResponsesParams) -> Constraint | None:
    wanted = params.text.format if params.text else None
    if isinstance(wanted, JsonFormat):
        return Constraint("json_schema", {"schema": {"type": "object"}}, "text.format")
    if isinstance(wanted, ResponseSchemaFormat):
        return Constraint("json_schema", {"schema": wanted.schema_}, "text.format")
    return None


def _messages(params: ResponsesParams) -> Iterable[Message]:
    """Calls are parts of what the assistant says before them, as chat templates have it."""
    found: list[dict[str, Any]] = []
    if params.instructions:
        found.append({"role": "system", "content": params.instructions})
    if isinstance(params.input, str):
        return [*found, {"role": "user", "content": params.input}]
    for item in params.input:
        if isinstance(item, InputCall):
            if not found or found[-1]["role"] != "assistant":
                found.append({"role": "assistant", "content": ""})
            found[-1].setdefault("tool_calls", []).append(_called(item))
        elif isinstance(item, InputResult):
            found.append({"role": "tool", "content": text_of(item.output), "tool_call_id": item.call_id})
        else:
            found.append({"role": item.role, "content": text_of(item.content)})
    return found


def _called(item: InputCall) -> dict[str, Any]:
    function = {"name": item.name, "arguments": item.arguments}
    return {"id": item.call_id, "type": "function", "function": function}


class ResponseWriter:
    """An answer is a list of items, written one after the other: messages, and calls of functions."""

    def __init__(self, params: ResponsesParams, job: Job) -> None:
        self._params, self._job = params, job
        self._parser = parser(job.ask, job.id)
        self._items: list[dict[str, Any]] = []  # that are whole
        self._number = 0
        self._text: list[str] | None = None  # of the message that is being written; None: there is none
        self._tokens: list[Token] = []
        self._completion: Completion | None = None

    def begin(self) -> list[Event]:
        response = self._response("in_progress", None)
        return [
            self._event("response.created", response=response),
            self._event("response.in_progress", response=response),
        ]

    def update(self, update: Update) -> list[Event]:
        self._completion = update.completion
        events, tokens = [], update.tokens
        for part in taken(self._parser, update.text, over=update.completion is not None):
            if isinstance(part, ToolCall):
                events += [*self._close("completed"), *self._call(part)]
            else:
                events += self._say(part, tokens)
                tokens = ()
        self._tokens += tokens
        return events

    def end(self, extras: dict[str, Any]) -> list[Event]:
        done = self._completion
        assert done is not None
        status = "incomplete" if is_cut(done) else "completed"
        opened = [] if self._items else self._open()  # an answer without text is a message without text
        closed = self._close(status)
        response = self._response(status, done) | {"decodekit": extras}
        return [*opened, *closed, self._event(f"response.{status}", response=response)]

    def whole(self, choices: Sequence[Choice], extras: dict[str, Any]) -> dict[str, Any]:
        """What the last event of a stream has."""
        (choice,) = choices
        self.update(Update(0, choice.text, tuple(choice.tokens), choice.completion))
        *_, (_, last) = self.end(extras)
        response: dict[str, Any] = last["response"]
        return response

    def _open(self) -> list[Event]:
        """Begin a message, unless one is being written."""
        if self._text is not None:
            return []
        self._text = []
        return [
            self._added(self._message("in_progress", [])),
            self._event("response.content_part.added", **self._place(), part=self._part()),
        ]

    def _say(self, text: str, tokens: Sequence[Token]) -> list[Event]:
        opened = self._open()
        assert self._text is not None
        self._text.append(text)
        self._tokens += tokens
        logprobs = self._logprobs(tokens)
        delta = self._event("response.output_text.delta", **self._place(), delta=text, logprobs=logprobs)
        return [*opened, delta]

    def _close(self, status: str) -> list[Event]:
        """End the message that is being written."""
        if self._text is None:
            return []
        place, part = self._place(), self._part()
        said = {"text": part["text"], "logprobs": part["logprobs"]}
        message = self._message(status, [part])
        self._text, self._tokens = None, []
        return [
            self._event("response.output_text.done", **place, **said),
            self._event("response.content_part.done", **place, part=part),
            self._done(message),
        ]

    def _call(self, call: ToolCall) -> list[Event]:
        item = {
            "id": f"fc_{self._job.id}_{len(self._items)}",
            "type": "function_call",
            "status": "completed",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }
        place = {"item_id": item["id"], "output_index": len(self._items)}
        name = "response.function_call_arguments"
        return [
            self._added(item | {"status": "in_progress", "arguments": ""}),
            self._event(f"{name}.delta", **place, delta=call.arguments),
            self._event(f"{name}.done", **place, name=call.name, arguments=call.arguments),
            self._done(item),
        ]

    def _added(self, item: dict[str, Any]) -> Event:
        return self._event("response.output_item.added", output_index=len(self._items), item=item)

    def _done(self, item: dict[str, Any]) -> Event:
        self._items.append(item)
        return self._event("response.output_item.done", output_index=len(self._items) - 1, item=item)

    def _response(self, status: str, completion: Completion | None) -> dict[str, Any]:
        params, counts = self._params, None
        if completion is not None:
            given, made = self._job.prompt_tokens, completion.usage.completion_tokens
            counts = {
                "input_tokens": given,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": made,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": given + made,
            }
        wanted = params.text.format.model_dump(by_alias=True) if params.text and params.text.format else None
        return {
            "id": f"resp_{self._job.id}",
            "object": "response",
            "created_at": self._job.created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": params.instructions,
            "max_output_tokens": params.max_output_tokens,
            "metadata": {},
            "model": self._job.served.name,
            "output": [*self._items],
            "parallel_tool_calls": params.parallel_tool_calls is not False and bool(params.tools),
            "previous_response_id": None,
            "store": False,
            "temperature": 1.0 if params.temperature is None else params.temperature,
            "text": {"format": wanted or {"type": "text"}},
            "tool_choice": _plain(params.tool_choice) or ("auto" if params.tools else "none"),
            "tools": [_plain(tool) for tool in params.tools or ()],
            "top_p": 1.0 if params.top_p is None else params.top_p,
            "truncation": "disabled",
            "usage": counts,
            "system_fingerprint": self._job.served.fingerprint,
        }

    def _message(self, status: str, content: list[Any]) -> dict[str, Any]:
        return {
            "id": self._place()["item_id"],
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def _part(self) -> dict[str, Any]:
        text, logprobs = "".join(self._text or ()), self._logprobs(self._tokens)
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}

    def _logprobs(self, tokens: Sequence[Token]) -> list[dict[str, Any]]:
        return chat_logprobs(self._job.served.decoder.tokenizer, tokens)

    def _place(self) -> dict[str, Any]:
        """Of the message that is being written."""
        index = len(self._items)
        return {"item_id": f"msg_{self._job.id}_{index}", "output_index": index, "content_index": 0}

    def _event(self, name: str, /, **data: Any) -> Event:
        self._number += 1
        return name, {"type": name, "sequence_number": self._number - 1, **data}


def _plain(value: Any) -> Any:
    return value.model_dump(exclude_none=True) if isinstance(value, Params) else value


writer = ResponseWriter
