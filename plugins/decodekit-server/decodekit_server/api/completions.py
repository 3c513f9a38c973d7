"""POST /v1/completions: text to text, past the chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from decodekit.answer import Token
from decodekit.completion import Completion
from decodekit.openai_logprobs import of_text
from decodekit_server.answers import Choice, Update
from decodekit_server.api.chunks import ChoiceWriter
from decodekit_server.api.reading import stops
from decodekit_server.api.writing import finish_reason
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


def _prompts(prompt: Any) -> Sequence[Prompt]:
    if isinstance(prompt, str):
        return [Raw(prompt)]
    if prompt and isinstance(prompt[0], int):
        return [prompt]
    if not prompt:
        raise ApiError(400, "E_PROMPT", "prompt: is empty; give at least one text or token id", "prompt")
    return [Raw(one) if isinstance(one, str) else one for one in prompt]


class CompletionWriter(ChoiceWriter):
    ID, OBJECT, CHUNK = "cmpl", "text_completion", "text_completion"

    def __init__(self, params: CompletionParams, job: Job) -> None:
        super().__init__(params, job)
        self._scored = params.logprobs is not None
        self._offsets: dict[int, int] = {}

    def _grown(self, update: Update) -> Sequence[dict[str, Any]]:
        return [self._said(update.index, update.text, update.tokens, update.completion)]

    def _choice(self, choice: Choice, completion: Completion) -> dict[str, Any]:
        return self._said(choice.index, choice.text, choice.tokens, completion)

    def _said(
        self, index: int, text: str, tokens: Sequence[Token], completion: Completion | None
    ) -> dict[str, Any]:
        return {
            "index": index,
            "text": text,
            "logprobs": self._logprobs(index, tokens) if self._scored else None,
            "finish_reason": None if completion is None else finish_reason(completion),
        }

    def _logprobs(self, index: int, tokens: Sequence[Token]) -> dict[str, Any]:
        tokenizer = self._job.served.decoder.tokenizer
        offset = self._offsets.get(index, 0)
        self._offsets[index] = offset + sum(len(token.text) for token in tokens)
        return of_text(tokens, tokenizer, offset)


writer = CompletionWriter
