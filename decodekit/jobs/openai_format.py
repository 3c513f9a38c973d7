"""
The OpenAI batch format: a row's body to a task, completions to a response's body.

OpenAI, "Batch API", input and output objects, for /v1/completions and /v1/chat/completions.
`created` is 0: a response depends on bundle, settings and seed, not on the clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from decodekit.completion import Completion
from decodekit.errors import ParameterError
from decodekit.jobs.identities import OPENAI
from decodekit.jobs.tasks import OPTIONS, STAGES, Task, Tasks, check_names, checked_prompt, messages
from decodekit.openai_logprobs import of_chat, of_text
from decodekit.tokenizer import Tokenizer

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
IGNORED = ("user", "metadata", "store", "service_tier")  # no part of decoding
NEUTRAL: dict[str, tuple[Any, ...]] = {  # field -> the values at which it asks for nothing
    "stream": (False,),
    "stream_options": (),
    "echo": (False,),
    "best_of": (1,),
    "suffix": ("",),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "modalities": (["text"],),
}
SAME = (*STAGES, *(o for o in OPTIONS if o not in ("logprobs", "max_new_tokens", "prompt_logprobs")))
COMMON = frozenset((*SAME, *IGNORED, *NEUTRAL, "model", "n", "max_tokens", "decodekit", "logprobs"))
ONLY = {
    CHAT: frozenset(("messages", "max_completion_tokens", "top_logprobs")),
    TEXT: frozenset(("prompt",)),
}


def task_of(row: Mapping[str, Any], tasks: Tasks, model: str) -> Task:
    """What a row asks for.

    model  what rows call the model
    """
    check_names(row, OPENAI)
    url, body = row.get("url"), row.get("body")
    if row.get("method") != "POST" or url not in (*ONLY,):
        raise ParameterError(
            f"method and url must be POST and one of {', '.join(ONLY)}, "
            f"got {row.get('method')!r:.20} and {url!r:.60}"
        )
    if not isinstance(body, Mapping):
        raise ParameterError(f"body must be an object, got {body!r:.60}")
    body = {name: value for name, value in body.items() if value is not None}
    check_names(body, COMMON | ONLY[url], "body.")
    for name, values in NEUTRAL.items():
        if name in body and body[name] not in values:
            raise ParameterError(f"body.{name}: {body[name]!r:.60} cannot be honoured here; leave it out")
    if body.get("model") != model:
        raise ParameterError(f"body.model must be {model!r}, got {body.get('model')!r:.60}; see --model-name")
    given = {name: body[name] for name in OPTIONS if name in body and name in SAME}
    if "max_completion_tokens" in body and "max_tokens" in body:
        raise ParameterError("body: max_tokens and max_completion_tokens exclude each other; leave one out")
    if (limit := body.get("max_completion_tokens", body.get("max_tokens"))) is not None:
        given["max_new_tokens"] = limit
    if (logprobs := _logprobs(url, body)) is not None:
        given["logprobs"] = logprobs
    prompt = messages(body.get("messages")) if url == CHAT else checked_prompt(body.get("prompt"))
    own = body.get("decodekit")
    if not (tasks.chain or "temperature" in body or (isinstance(own, Mapping) and "processors" in own)):
        body["temperature"] = 1.0  # the API's default
    return tasks.task(body, prompt, given, n=body.get("n", 1))


def body_of(
    row: Mapping[str, Any],
    number: int,
    completions: Sequence[Completion],
    tokenizer: Tokenizer,
    fingerprint: str,
) -> dict[str, Any]:
    """The body of the response to a row."""
    chat = row["url"] == CHAT
    prompt = completions[0].usage.prompt_tokens
    length = sum(c.usage.completion_tokens for c in completions)
    return {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{number}",
        "object": "chat.completion" if chat else "text_completion",
        "created": 0,
        "model": row["body"]["model"],
        "system_fingerprint": fingerprint,
        "seed": completions[0].seed,
        "choices": [_choice(i, c, chat, tokenizer) for i, c in enumerate(completions)],
        "usage": {"prompt_tokens": prompt, "completion_tokens": length, "total_tokens": prompt + length},
    }


def _logprobs(url: str, body: Mapping[str, Any]) -> int | None:
    if url == TEXT:
        return body.get("logprobs")
    asked, top = body.get("logprobs", False), body.get("top_logprobs")
    if not isinstance(asked, bool):
        raise ParameterError(f"body.logprobs must be true or false, got {asked!r:.60}")
    if top is not None and not asked:
        raise ParameterError("body.top_logprobs needs logprobs true")
    return (0 if top is None else top) if asked else None


def _choice(index: int, completion: Completion, chat: bool, tokenizer: Tokenizer) -> dict[str, Any]:
    said: dict[str, Any] = {"index": index}
    if chat:
        said["message"] = {"role": "assistant", "content": completion.text, "refusal": None}
    else:
        said["text"] = completion.text
    logprobs: dict[str, Any] | None = None
    if completion.logprobs_at:
        tokens = completion.tokens
        logprobs = {"content": of_chat(tokens, tokenizer)} if chat else of_text(tokens, tokenizer)
    return said | {"logprobs": logprobs, "finish_reason": completion.finish_reason}
