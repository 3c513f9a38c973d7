"""Requests: from what callers ask of a decoder to what its engine decodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from decodekit.chain import Written
from decodekit.engine import Engine
from decodekit.errors import ParameterError
from decodekit.model import Model
from decodekit.parameters import whole
from decodekit.preparation import Prepared, Preparer, Prompt
from decodekit.request import Emit, Request
from decodekit.scorer import Scorer
from decodekit.settings import MAX_SAMPLES, Settings
from decodekit.text_stream import Pieces


@dataclass(frozen=True)
class Requests:
    """Makes them for one engine.

    draft  a smaller model that guesses; None: there is none
    """

    preparer: Preparer
    engine: Engine
    scorer: Scorer
    draft: Model | None

    def prepare(self, prompt: Prompt, chain: Written, options: dict[str, Any]) -> Prepared:
        """One checked request of those that give their answer piece by piece."""
        settings = Settings.of(options)
        if settings.prompt_logprobs is not None:
            raise ParameterError("prompt_logprobs is for generate; beside a stream, use score(prompt ids)")
        return self._compiled(self.preparer.prepare(prompt, chain, settings))

    def prepare_all(
        self, prompt: Prompt | Sequence[Prompt], chain: Written, n: int | None, options: dict[str, Any]
    ) -> list[Prepared]:
        """One for each prompt, of `n` samples, with one seed."""
        if n is not None:
            whole("n", n, f"[1, {MAX_SAMPLES}]")
            if "sample" in options:
                raise ParameterError("n and sample exclude each other; n gives samples 0 to n - 1")
        prompts: Sequence[Any] = prompt if is_many(prompt) else [prompt]
        first = self._compiled(self.preparer.prepare(prompts[0], chain, Settings.of(options)))
        rest = (self.preparer.prepare(other, chain, first.settings) for other in prompts[1:])
        return [first, *rest]

    def _compiled(self, prepared: Prepared) -> Prepared:
        """The same, with the graph of its chain made where there is to be one: that takes time."""
        if self.engine.reducer is not None and prepared.logprobs is None:
            self.engine.reducer.plan(prepared.sampler.processors)
        return prepared

    def with_prompt_logprobs(self, prepared: list[Prepared]) -> list[Prepared]:
        """Where they are asked for: one more pass over each prompt, so that the answer's stay as they are."""
        settings = prepared[0].settings
        if (top := settings.prompt_logprobs) is None:
            return prepared
        passages = (self.scorer.passage(p.ids) for p in prepared)
        scores = (self.scorer.score(p, top=top, adapter=settings.adapter) for p in passages)
        return [replace(p, prompt_logprobs=s.tokens) for p, s in zip(prepared, scores)]

    def request(
        self, prepared: Prepared, sample: int, emit: Emit, leader: Request | None = None
    ) -> tuple[Request, Pieces]:
        """For one sample; not handed in."""
        if self.engine.deterministic and prepared.settings.speculate != "off":
            raise ParameterError(
                "speculate must be 'off' for a deterministic decoder: "
                "checking guesses takes kernels of another shape"
            )
        return prepared.request(
            sample,
            emit,
            costs=self.engine.costs,
            draft=self.draft,
            leader=leader,
            reducer=self.engine.reducer,
        )

    def start(
        self, prompt: Prompt, chain: Written, options: dict[str, Any], emit: Emit
    ) -> tuple[Request, Pieces]:
        """One that streams, handed in."""
        prepared = self.prepare(prompt, chain, options)
        request, pieces = self.request(prepared, prepared.settings.sample, emit)
        self.engine.submit(request)
        return request, pieces


def is_many(prompt: Any) -> bool:
    """Whether it is a list of prompts."""
    return not isinstance(prompt, str) and bool(prompt) and not isinstance(prompt[0], int | dict)
