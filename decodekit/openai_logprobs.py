"""Log-probabilities in the shapes that OpenAI's APIs give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from decodekit.answer import Token
from decodekit.tokenizer import Tokenizer


def of_chat(tokens: Sequence[Token], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """`choices[].logprobs.content` of chat completions."""

    def entry(id: int, logprob: float | None) -> dict[str, Any]:
        spelled = tokenizer.bytes_of(id)
        known = None if spelled is None else list(spelled)
        return {"token": tokenizer.spell(id), "logprob": logprob, "bytes": known}

    return [
        entry(token.id, token.logprob) | {"top_logprobs": [entry(*pair) for pair in token.top]}
        for token in tokens
    ]


def of_text(tokens: Sequence[Token], tokenizer: Tokenizer, offset: int = 0) -> dict[str, Any]:
    """`choices[].logprobs` of completions, of tokens whose text begins at the character `offset`."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [tokenizer.spell(token.id) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{tokenizer.spell(id): logprob for id, logprob in token.top} for token in tokens],
        "text_offset": offsets,
    }
