"""POST /v1/messages: the API of Anthropic, for text and tools."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from decodekit.completion import Completion
from decodekit_server.answers import Choice, Update
from decodekit_server.api.reading import Calling, calling, text_of
from decodekit_server.api.writing import Event, is_cut
from decodekit_server.ask import Ask, Dialogue, Message, Sampling
from decodekit_server.params import CountParams, MessagesParams
from decodekit_server.params.fields import Extras
from decodekit_server.params.messages import InputTool, NamedToolChoice, ResultBlock, Turn, UseBlock
from decodekit_server.preparing import Job
from decodekit_server.tools import ToolCall, parser, taken


def question(params: CountParams) -> tuple[Dialogue, Calling]:
    """What the model is asked, and what it may call."""
    tools = _calling(params)
    return tools.asked(_messages(params)), tools


def ask(params: MessagesParams) -> Ask:
    dialogue, tools = question(params)
    return Ask(
        model=params.model,
        prompts=[dialogue],
        stream=bool(params.stream),
        max_tokens=params.max_tokens,
        sampling=Sampling(temperature=params.temperature, top_p=params.top_p, top_k=params.top_k),
        constraint=tools.constraint,
        stop=[*(params.stop_sequences or ()), *tools.stop],
        parsed=bool(tools.tools),
        extras=params.decodekit or Extras(),
    )


def _calling(params: CountParams) -> Calling:
    functions = [_function(tool) for tool in params.tools or ()]
    choice = params.tool_choice
    if choice is None:
        return calling(functions, "auto")
    single = choice.type != "none" and bool(choice.disable_parallel_tool_use)
    if isinstance(choice, NamedToolChoice):
        return calling(functions, "required", choice.name, single=single)
    return calling(functions, "required" if choice.type == "any" else choice.type, single=single)


def _function(tool: InputTool) -> Mapping[str, Any]:
    about = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, "parameters": tool.input_schema, **about}


def _messages(params: CountParams) -> Iterator[Message]:
    if params.system:
        yield {"role": "system", "content": text_of(params.system)}
    for turn in params.messages:
        yield from (
            [{"role": turn.role, "content": turn.content}] if isinstance(turn.content, str) else _turn(turn)
        )


def _turn(turn: Turn) -> Iterator[Message]:
    """Results of tools are messages of their own, before what else a turn says."""
    texts, calls = [], []
    for block in turn.content:
        assert not isinstance(block, str)
        if isinstance(block, ResultBlock):
            yield {"role": "tool", "content": text_of(block.content), "tool_call_id": block.tool_use_id}
        elif isinstance(block, UseBlock):
            function = {"name": block.name, "arguments": block.input}
            calls.append({"id": block.id, "type": "function", "function": function})
        else:
            texts.append(block.text)
    if texts or calls:
        message: dict[str, Any] = {"role": turn.role, "content": "".join(texts)}
        yield message | ({"tool_calls": calls} if calls else {})


class MessageWriter:
    def __init__(self, params: MessagesParams, job: Job) -> None:
        self._params, self._job = params, job
        self._open = ""  # kind of the block that is being written
        self._blocks, self._called = 0, False
        self._completion: Completion | None = None
        self._parser = parser(job.ask, job.id)

    def begin(self) -> list[Event]:
        return [_event("message_start", message=self._message([], None, 0))]

    def update(self, update: Update) -> list[Event]:
        self._completion = update.completion
        events: list[Event] = []
        for part in taken(self._parser, update.text, over=update.completion is not None):
            if isinstance(part, ToolCall):
                events += [*self._close(), *self._call(part)]
                continue
            if not self._open:
                self._open = "text"
                events.append(self._start({"type": "text", "text": ""}))
            delta = {"type": "text_delta", "text": part}
            events.append(_event("content_block_delta", index=self._blocks, delta=delta))
        return events

    def end(self, extras: dict[str, Any]) -> list[Event]:
        done = self._completion
        assert done is not None
        delta = self._ended(done, self._called)
        usage = {"input_tokens": self._job.prompt_tokens, "output_tokens": done.usage.completion_tokens}
        return [
            *self._close(),
            _event("message_delta", delta=delta, usage=usage),
            _event("message_stop", decodekit=extras),
        ]

    def whole(self, choices: Sequence[Choice], extras: dict[str, Any]) -> dict[str, Any]:
        (choice,) = choices
        done = choice.completion
        assert done is not None
        content: list[dict[str, Any]] = []
        for part in taken(self._parser, choice.text, over=True):
            if isinstance(part, ToolCall):
                content.append({**_use(part), "input": json.loads(part.arguments)})
            elif content and content[-1]["type"] == "text":
                content[-1]["text"] += part
            else:
                content.append({"type": "text", "text": part})
        called = any(block["type"] == "tool_use" for block in content)
        message = self._message(content, self._ended(done, called), done.usage.completion_tokens)
        return message | {"decodekit": extras}

    def _message(
        self, content: list[Any], ended: dict[str, Any] | None, output_tokens: int
    ) -> dict[str, Any]:
        return {
            "id": f"msg_{self._job.id}",
            "type": "message",
            "role": "assistant",
            "model": self._job.served.name,
            "content": content,
            **(ended or {"stop_reason": None, "stop_sequence": None}),
            "usage": {"input_tokens": self._job.prompt_tokens, "output_tokens": output_tokens},
        }

    def _ended(self, completion: Completion, called: bool) -> dict[str, Any]:
        stops = {repr(text): text for text in self._params.stop_sequences or ()}
        sequence = stops.get(completion.stopped_by)
        if called:
            reason = "tool_use"
        elif is_cut(completion):
            reason = "max_tokens"
        else:
            reason = "end_turn" if sequence is None else "stop_sequence"
        return {"stop_reason": reason, "stop_sequence": sequence}

    def _start(self, block: dict[str, Any]) -> Event:
        return _event("content_block_start", index=self._blocks, content_block=block)

    def _close(self) -> list[Event]:
        if not self._open:
            return []
        self._open, self._blocks = "", self._blocks + 1
        return [_event("content_block_stop", index=self._blocks - 1)]

    def _call(self, call: ToolCall) -> list[Event]:
        self._called, self._open = True, "tool_use"
        delta = {"type": "input_json_delta", "partial_json": call.arguments}
        return [
            self._start({**_use(call), "input": {}}),
            _event("content_block_delta", index=self._blocks, delta=delta),
            *self._close(),
        ]


def _use(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name}


def _event(name: str, **data: Any) -> Event:
    return name, {"type": name, **data}


writer = MessageWriter
