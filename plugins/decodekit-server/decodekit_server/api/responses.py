"""POST /v1/responses: the newer API of OpenAI, for text. Nothing is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from decodekit.answer import Token
from decodekit.completion import Completion
from decodekit_server.answers import Choice, Update
from decodekit_server.api.writing import Event, chat_logprobs
from decodekit_server.ask import Ask, Constraint, Dialogue, Message, Sampling
from decodekit_server.params import ResponsesParams
from decodekit_server.params.chat import JsonFormat
from decodekit_server.params.fields import Extras
from decodekit_server.params.responses import ResponseSchemaFormat
from decodekit_server.preparing import Job


def ask(params: ResponsesParams) -> Ask:
    wanted = params.text.format if params.text else None
    constraint = None
    if isinstance(wanted, JsonFormat):
        constraint = Constraint("json_schema", {"schema": {"type": "object"}}, "text.format")
    if isinstance(wanted, ResponseSchemaFormat):
        constraint = Constraint("json_schema", {"schema": wanted.schema_}, "text.format")
    return Ask(
        model=params.model,
        prompts=[Dialogue([*_messages(params)])],
        stream=bool(params.stream),
        max_tokens=params.max_output_tokens,
        sampling=Sampling(temperature=params.temperature, top_p=params.top_p),
        constraint=constraint,
        logprobs=(params.top_logprobs or 0) if params.include else params.top_logprobs,
        extras=params.decodekit or Extras(),
    )


def _messages(params: ResponsesParams) -> Iterator[Message]:
    if params.instructions:
        yield {"role": "system", "content": params.instructions}
    if isinstance(params.input, str):
        yield {"role": "user", "content": params.input}
        return
    for message in params.input:
        content = message.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        yield {"role": message.role, "content": text}


class ResponseWriter:
    def __init__(self, params: ResponsesParams, job: Job) -> None:
        self._params, self._job = params, job
        self._item = f"msg_{job.id}"
        self._text, self._number = "", 0
        self._tokens: list[Token] = []
        self._completion: Completion | None = None

    def begin(self) -> list[Event]:
        response = self._response("in_progress", None)
        return [
            self._event("response.created", response=response),
            self._event("response.in_progress", response=response),
            self._event("response.output_item.added", output_index=0, item=self._message("in_progress", [])),
            self._event("response.content_part.added", **self._place(), part=self._part("", ())),
        ]

    def update(self, update: Update) -> list[Event]:
        self._completion = update.completion
        self._text += update.text
        self._tokens += update.tokens
        if not update.text:
            return []
        logprobs = self._logprobs(update.tokens)
        delta = self._event(
            "response.output_text.delta", **self._place(), delta=update.text, logprobs=logprobs
        )
        return [delta]

    def end(self, extras: dict[str, Any]) -> list[Event]:
        done = self._completion
        assert done is not None
        part, status = self._part(self._text, self._tokens), _status(done)
        response = self._response(status, done) | {"decodekit": extras}
        return [
            self._event(
                "response.output_text.done",
                **self._place(),
                text=self._text,
                logprobs=self._logprobs(self._tokens),
            ),
            self._event("response.content_part.done", **self._place(), part=part),
            self._event("response.output_item.done", output_index=0, item=self._message(status, [part])),
            self._event(f"response.{status}", response=response),
        ]

    def whole(self, choices: Sequence[Choice], extras: dict[str, Any]) -> dict[str, Any]:
        (choice,) = choices
        assert choice.completion is not None
        self._text, self._tokens = choice.text, choice.tokens
        return self._response(_status(choice.completion), choice.completion) | {"decodekit": extras}

    def _response(self, status: str, completion: Completion | None) -> dict[str, Any]:
        params, output, counts = self._params, [], None
        if completion is not None:
            output = [self._message(status, [self._part(self._text, self._tokens)])]
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
            "output": output,
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": 1.0 if params.temperature is None else params.temperature,
            "text": {"format": wanted or {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": 1.0 if params.top_p is None else params.top_p,
            "truncation": "disabled",
            "usage": counts,
            "system_fingerprint": self._job.served.fingerprint,
        }

    def _message(self, status: str, content: list[Any]) -> dict[str, Any]:
        return {
            "id": self._item,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def _part(self, text: str, tokens: Sequence[Any]) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": self._logprobs(tokens)}

    def _logprobs(self, tokens: Sequence[Any]) -> list[dict[str, Any]]:
        return chat_logprobs(self._job.served.decoder.tokenizer, tokens)

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item, "output_index": 0, "content_index": 0}

    def _event(self, name: str, **data: Any) -> Event:
        self._number += 1
        return name, {"type": name, "sequence_number": self._number - 1, **data}


def _status(completion: Completion) -> str:
    return "incomplete" if completion.finish_reason in ("length", "time") else "completed"


writer = ResponseWriter
