"""Log-probabilities in the shapes that OpenAI's APIs give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from decodekit.answer import Token

Spell = Callable[[int], tuple[str, list[int] | None]]  # text and bytes of a token


def of_chat(tokens: Sequence[Token], spell: Spell) -> list[dict[str, Any]]:
    """`choices[].logprobs.content` of chat completions."""

    def entry(id: int, logprob: float | None) -> dict[str, Any]:
        text, spelled = spell(id)
        return {"token": text, "logprob": logprob, "bytes": spelled}

    return [
        entry(token.id, token.logprob) | {"top_logprobs": [entry(*pair) for pair in token.top]}
        for token in tokens
    ]


def of_text(tokens: Sequence[Token], spell: Spell, offset: int = 0) -> dict[str, Any]:
    """`choices[].logprobs` of completions, of tokens whose text begins at the character `offset`."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [spell(token.id)[0] for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{spell(id)[0]: logprob for id, logprob in token.top} for token in tokens],
        "text_offset": offsets,
    }
