"""Texts to ids and back, and how probable they are."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

from decodekit.decoder import Decoder
from decodekit.scorer import Passage
from decodekit_server.api.chat import messages
from decodekit_server.api.messages import question
from decodekit_server.ask import Dialogue, Prompt, Raw
from decodekit_server.endpoint import Answer
from decodekit_server.errors import ApiError
from decodekit_server.generating import Desk
from decodekit_server.params import CountParams, DetokenizeParams, ScoreParams, TokenizeParams
from decodekit_server.preparing import encode


@dataclass(frozen=True)
class Texts:
    """Endpoints of one server."""

    desk: Desk

    async def tokenize(self, params: TokenizeParams, tenant: str) -> Answer:
        if (params.prompt is None) == (params.messages is None):
            raise ApiError(400, "E_PARAMETER", "prompt: give either a prompt or messages", "prompt")
        decoder = self.desk.models.find(params.model).decoder
        prompt: Prompt
        if params.messages is not None:
            prompt = Dialogue([*messages(params.messages)])
        elif params.raw or decoder.chat.continues:
            prompt = Raw(params.prompt or "")
        else:
            prompt = Dialogue([{"role": "user", "content": params.prompt or ""}])
        ids = await self.desk.preparing.run(lambda: encode(prompt, decoder))
        return {
            "tokens": list(ids),
            "texts": [decoder.tokenizer.spell(id) for id in ids],
            "count": len(ids),
            "max_model_len": decoder.bundle.context_length,
        }

    async def count(self, params: CountParams, tenant: str) -> Answer:
        dialogue, _ = question(params)
        decoder = self.desk.models.find(params.model).decoder
        return {"input_tokens": len(await self.desk.preparing.run(lambda: encode(dialogue, decoder)))}

    async def detokenize(self, params: DetokenizeParams, tenant: str) -> Answer:
        decoder = self.desk.models.find(params.model).decoder
        ids = decoder.encode(params.tokens)
        return {"prompt": await self.desk.preparing.run(lambda: decoder.tokenizer.decode(ids))}

    async def score(self, params: ScoreParams, tenant: str) -> Answer:
        self.desk.check_open()
        served = self.desk.models.find(params.model)
        decoder, scorer = served.decoder, served.decoder.scorer
        prompt = _prompt(params, decoder)
        passage = await self.desk.preparing.run(lambda: scorer.passage(params.text, prompt))
        self._check_size(decoder, passage, params.stride)
        stopped = threading.Event()
        try:
            score = await asyncio.to_thread(
                scorer.score,
                passage,
                top=params.top,
                stride=params.stride,
                adapter=served.adapter,
                wanted=lambda: not stopped.is_set(),  # nobody waits for an answer that is not wanted any more
            )
        finally:
            stopped.set()
        return {
            "model": served.name,
            "system_fingerprint": served.fingerprint,
            **score.to_json(),
            "usage": {"prompt_tokens": len(passage.ids), "total_tokens": len(passage.ids)},
        }

    def _check_size(self, decoder: Decoder, passage: Passage, stride: int | None) -> None:
        most = self.desk.preparing.limits.score_tokens
        read = sum(end - begin for begin, _, end in decoder.scorer.windows(passage, stride))
        if read > most:
            raise ApiError(
                400,
                "E_LIMIT",
                f"text: {read} tokens are to be read; this server reads at most {most}",
                "text",
            )


def _prompt(params: ScoreParams, decoder: Decoder) -> Any:
    """What comes before the text, as the scorer takes it."""
    if params.messages is None:
        return params.prompt
    if params.prompt is not None:
        raise ApiError(400, "E_PARAMETER", "prompt: give either a prompt or messages", "prompt")
    return [*messages(params.messages)]
