"""A completion: the answer to one prompt, with everything needed to know how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from decodekit.answer import Token
from decodekit.record import Record
from decodekit.score import TokenScore


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer.

    text           what belongs to the answer; a stop string or end token does not
    tokens         every token drawn, the one that ended the answer included
    finish_reason  "stop", "length", "time", or what a criterion named
    stopped_by     what fired, for people
    seed, sample   name the noise: the same two give the same tokens
    recipe         what gives the same again: a `Record` as plain data
    logprobs_at    the place in the chain where the tokens' log-probabilities are from; "": there are none
    prompt_logprobs  of the prompt's tokens, where they were asked for
    speculation    calls, guesses and those that were right; empty where nothing was guessed
    """

    text: str
    tokens: tuple[Token, ...]
    finish_reason: str
    stopped_by: str
    seed: int
    sample: int
    usage: Usage
    recipe: Mapping[str, Any]
    logprobs_at: str = ""
    prompt_logprobs: tuple[TokenScore, ...] = ()
    speculation: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the tokens."""
        return tuple(token.id for token in self.tokens)

    def record(self) -> Record:
        """What it takes to decode this answer again, or to check it."""
        return Record.from_json(self.recipe)

    @property
    def mean_logprob(self) -> float:
        """Mean log-probability of the tokens, nats; they must have been asked for."""
        values = [token.logprob for token in self.tokens if token.logprob is not None]
        return sum(values) / len(values) if values else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `json.dumps`."""
        tokens = [
            {"id": t.id, "text": t.text}
            | ({} if t.logprob is None else {"logprob": t.logprob, "top": [list(pair) for pair in t.top]})
            for t in self.tokens
        ]
        prompt = [token.to_json() for token in self.prompt_logprobs]
        return {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "stopped_by": self.stopped_by,
            "seed": self.seed,
            "sample": self.sample,
            "usage": asdict(self.usage),
            "tokens": tokens,
            **({"logprobs_at": self.logprobs_at} if self.logprobs_at else {}),
            **({"prompt_logprobs": prompt} if prompt else {}),
            "recipe": dict(self.recipe),
            "speculation": dict(self.speculation),
        }


def best(completions: Sequence[Completion]) -> Completion:
    """The one with the highest mean log-probability; of equals the first."""
    return max(completions, key=lambda completion: completion.mean_logprob)
