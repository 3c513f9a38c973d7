"""POST /v1/completions: text to text, past the chat template."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from decodekit.answer import Token
from decodekit.openai_logprobs import of_text
from decodekit_server.answers import Choice, Update
from decodekit_server.api.writing import Event, finish_reason, token_text, usage
from decodekit_server.ask import Ask, Prompt, Raw, Sampling
from decodekit_server.errors import ApiError
from decodekit_server.params import CompletionParams
from decodekit_server.params.fields import Extras
from decodekit_server.preparing import Job


def ask(params: CompletionParams) -> Ask:
    return Ask(
        model=params.model,
        prompts=_prompts(params.prompt),
        n=params.n or 1,
        stream=bool(params.stream),
        max_tokens=params.max_tokens,
        sampling=Sampling(
            temperature=params.temperature,
            top_p=params.top_p,
            frequency_penalty=params.frequency_penalty,
            presence_penalty=params.presence_penalty,
            logit_bias=params.logit_bias,
        ),
        stop=stops(params.stop),
        seed=params.seed,
        logprobs=params.logprobs,
        extras=params.decodekit or Extras(),
    )


def stops(stop: str | Sequence[str] | None) -> Sequence[str]:
    """The stop strings of a field that takes one or several."""
    return [stop] if isinstance(stop, str) else stop or ()


def _prompts(prompt: Any) -> Sequence[Prompt]:
    if isinstance(prompt, str):
        return [Raw(prompt)]
    if prompt and isinstance(prompt[0], int):
        return [prompt]
    if not prompt:
        raise ApiError(400, "E_PROMPT", "prompt: is empty; give at least one text or token id", "prompt")
    return [Raw(one) if isinstance(one, str) else one for one in prompt]


class CompletionWriter:
    def __init__(self, params: CompletionParams, job: Job) -> None:
        self._params, self._job = params, job
        self._tokens = 0
        self._left = job.ask.n * len(job.prepared)  # choices that have not ended
        self._last: dict[str, Any] = {}
        self._offsets: dict[int, int] = {}
        options = params.stream_options
        self._usage = bool(options and options.include_usage)
        self._head = {
            "id": f"cmpl-{job.id}",
            "object": "text_completion",
            "created": job.created,
            "model": job.served.name,
            "system_fingerprint": job.served.fingerprint,
        }

    def begin(self) -> list[Event]:
        return []

    def update(self, update: Update) -> list[Event]:
        done = update.completion
        if not update.text and done is None:
            return []
        choice: dict[str, Any] = {
            "index": update.index,
            "text": update.text,
            "logprobs": self._logprobs(update.index, update.tokens),
            "finish_reason": None if done is None else finish_reason(done),
        }
        chunk = self._chunk([choice])
        if done is not None:
            self._tokens += done.usage.completion_tokens
            self._left -= 1
            if not self._left:
                self._last = chunk
                return []
        return [("", chunk)]

    def end(self, extras: dict[str, Any]) -> list[Event]:
        events: list[Event] = [("", self._last | {"decodekit": extras})]
        if self._usage:
            events.append(("", self._chunk([]) | {"usage": usage(self._job, self._tokens)}))
        return [*events, ("", "[DONE]")]

    def whole(self, choices: Sequence[Choice], extras: dict[str, Any]) -> dict[str, Any]:
        done = [(c, c.completion) for c in choices if c.completion is not None]
        return {
            **self._head,
            "choices": [
                {
                    "index": choice.index,
                    "text": choice.text,
                    "logprobs": self._logprobs(choice.index, choice.tokens),
                    "finish_reason": finish_reason(completion),
                }
                for choice, completion in done
            ],
            "usage": usage(self._job, sum(completion.usage.completion_tokens for _, completion in done)),
            "decodekit": extras,
        }

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head, "choices": choices} | ({"usage": None} if self._usage else {})

    def _logprobs(self, index: int, tokens: Sequence[Token]) -> dict[str, Any] | None:
        if self._params.logprobs is None:
            return None
        tokenizer = self._job.served.decoder.tokenizer
        offset = self._offsets.get(index, 0)
        self._offsets[index] = offset + sum(len(token.text) for token in tokens)
        return of_text(tokens, partial(token_text, tokenizer), offset)


writer = CompletionWriter
