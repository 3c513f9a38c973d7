"""
A comparison: one prompt, several chains, and what each chain keeps at the first tokens.

The first tokens are those of greedy decoding, so that every chain is asked about the
same places. What a chain keeps there depends on its state at the start, as it should.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from decodekit.completion import Completion
from decodekit.decoder import Decoder
from decodekit.history import Sequence as Row
from decodekit.ops import softmax
from decodekit.parameters import whole
from decodekit.preparation import Prompt
from decodekit.processors import Step
from decodekit.sampling import Sampler


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token at one place: its probability under the model, and under each chain (0: removed)."""

    id: int
    text: str
    probability: float
    under: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Place:
    """The candidates for one token, best first, and how many each chain keeps of all."""

    candidates: Sequence[Candidate]
    kept: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the chains do at the first places, and the answer of each."""

    places: Sequence[Place]
    completions: Mapping[str, Completion]

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `json.dumps`."""
        return {
            "places": [asdict(place) for place in self.places],
            "completions": {chain: completion.to_json() for chain, completion in self.completions.items()},
        }


def compare(
    decoder: Decoder,
    prompt: Prompt,
    chains: Sequence[str],
    *,
    places: int = 2,
    top: int = 8,
    seed: int = 0,
    max_new_tokens: int | None = None,
) -> Comparison:
    """Decode `prompt` with each of `chains`, and look at the first `places` with the `top` candidates."""
    whole("places", places, "[1, inf)")
    whole("top", top, "[1, inf)")
    samplers = {chain: Sampler(decoder.processors(chain), compact=False) for chain in chains}
    completions = {c: decoder.generate(prompt, c, seed=seed, max_new_tokens=max_new_tokens) for c in chains}
    looked_at = decoder.engine.call(lambda: _places(decoder, prompt, samplers, places, top))
    return Comparison(looked_at, completions)


def _places(
    decoder: Decoder, prompt: Prompt, samplers: Mapping[str, Sampler], places: int, top: int
) -> list[Place]:
    row = Row(decoder.encode(prompt))
    states = {chain: sampler.init(1) for chain, sampler in samplers.items()}
    logits, cache = decoder.model(row.history().ids, decoder.model.new_cache())
    looked_at = []
    for _ in range(places):
        step = Step.dense((row.history(),), decoder.model.vocabulary)
        under = {c: softmax(s.shape(logits, step, states[c])[1])[0] for c, s in samplers.items()}
        looked_at.append(_place(decoder, logits[0], under, top))

        best = int(np.argmax(logits[0]))
        row.append(best)
        if best in decoder.bundle.stop_ids:
            break
        logits, cache = decoder.model(row.history().ids[-1:], cache)
    return looked_at


def _place(decoder: Decoder, logits: np.ndarray, under: Mapping[str, np.ndarray], top: int) -> Place:
    probabilities = softmax(logits)
    best = np.argsort(-probabilities, kind="stable")[:top]
    candidates = [
        Candidate(
            int(i),
            decoder.tokenizer.spell(int(i)),
            float(probabilities[i]),
            {c: float(p[i]) for c, p in under.items()},
        )
        for i in best
    ]
    return Place(candidates, {c: int(np.count_nonzero(p)) for c, p in under.items()})
