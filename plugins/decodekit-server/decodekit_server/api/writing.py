"""What the writers of all APIs share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from decodekit.answer import Token
from decodekit.completion import Completion
from decodekit.openai_logprobs import of_chat
from decodekit.tokenizer import Tokenizer
from decodekit_server import chains
from decodekit_server.answers import Choice, Update
from decodekit_server.ask import Ask
from decodekit_server.params import Params
from decodekit_server.preparing import Job, seed

Event = tuple[str, Any]  # its name, "" for none, and its data; a str is data as it is


class Writer(Protocol):
    """Writes the answer to one job, as a whole or event by event."""

    def begin(self) -> list[Event]: ...

    def update(self, update: Update) -> list[Event]: ...

    def end(self, extras: dict[str, Any]) -> list[Event]: ...

    def whole(self, choices: Sequence[Choice], extras: dict[str, Any]) -> dict[str, Any]: ...


class Api(Protocol):
    """A text API."""

    def ask(self, params: Any) -> Ask: ...

    def writer(self, params: Any, job: Job) -> Writer: ...


def finish_reason(completion: Completion) -> str:
    """The word of the APIs: "length" where a limit cut it short, of tokens or of time."""
    return "length" if completion.finish_reason in ("length", "time") else "stop"


def is_cut(completion: Completion) -> bool:
    """Whether a limit ended it."""
    return finish_reason(completion) == "length"


def usage(job: Job, completion_tokens: int) -> dict[str, int]:
    """Token counts as OpenAI names them; a prompt is counted once, however many answers it has."""
    return {
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": job.prompt_tokens + completion_tokens,
    }


def ended(completion: Completion) -> dict[str, Any]:
    """What this server says of an answer beyond the API."""
    return {
        "finish_reason": completion.finish_reason,
        "stopped_by": completion.stopped_by,
        "seed": completion.seed,
        "sample": completion.sample,
    }


def extras(job: Job, params: Params, choices: Sequence[Choice], trace: Any) -> dict[str, Any]:
    """The `decodekit` object of an answer."""
    found: dict[str, Any] = {"seed": job.seed}
    done = [choice.completion for choice in choices if choice.completion is not None]
    found["choices"] = [ended(completion) for completion in done]
    if job.ask.extras.echo_params:
        found["params"] = echo(job, params)
    if job.ask.extras.trace:
        found["trace"] = trace
    return found


def echo(job: Job, params: Params) -> dict[str, Any]:
    """The values that held, and where each came from: "request", "server" or "default"."""
    prepared, asked = job.prepared[0], params.model_fields_set
    values = chains.effective(job.ask.sampling)
    if job.ask.extras.processors is not None:
        values = {}
    source = {name: "request" if name in asked else "default" for name in values}
    found = {name: {"value": value, "from": source[name]} for name, value in values.items()}
    lengths = {"max_tokens", "max_completion_tokens", "max_output_tokens"} & asked
    found["max_tokens"] = {"value": prepared.room, "from": "request" if lengths else "server"}
    found["seed"] = {"value": job.seed, "from": "server" if seed(job.ask) is None else "request"}
    found["stop"] = {"value": list(job.ask.stop), "from": "request" if job.ask.stop else "default"}
    return {
        "values": found,
        "processors": chains.written(prepared.links),
        "stopping": chains.written(prepared.criteria),
    }


def chat_logprobs(tokenizer: Tokenizer, tokens: Sequence[Token]) -> list[dict[str, Any]]:
    """Log-probabilities in the shape of the chat API."""
    scored = [token for token in tokens if token.logprob is not None]
    return of_chat(scored, tokenizer)


def compact(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
