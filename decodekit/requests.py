"""Requests: from what callers ask of a decoder to what its engine decodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from decodekit.answer import Answer, Token
from decodekit.chain import Written
from decodekit.completion import Completion, Usage
from decodekit.engine import Engine
from decodekit.errors import ParameterError, PromptError
from decodekit.model import Model
from decodekit.parameters import whole
from decodekit.preparation import Prepared, Preparer, Prompt
from decodekit.record import Entry, Record, numbers
from decodekit.request import Emit, Request
from decodekit.scorer import Scorer
from decodekit.settings import MAX_SAMPLES, Settings
from decodekit.speculate import DraftModel, Pace, PromptLookup
from decodekit.stopping import Stop
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
        parts = prepared.parts(sample)
        answer = Answer(**parts)
        traces = None if answer.looks_at_all else self.engine.reducer
        settings, sampler = prepared.settings, prepared.sampler
        request = Request(
            answer,
            prepared.room,
            emit,
            max_time=settings.max_time,
            tenant=settings.tenant,
            adapter=settings.adapter,
            leader=leader,
            pace=self._pace(prepared),
            plan=None if traces is None else traces.plan(sampler.processors),
        )

        def finish(text: str, tokens: tuple[Token, ...], stop: Stop) -> Completion:
            logprobs = prepared.logprobs
            return Completion(
                text=text,
                tokens=tokens,
                finish_reason=stop.reason,
                stopped_by=stop.by,
                seed=prepared.seed,
                sample=sample,
                usage=Usage(len(prepared.ids), len(tokens)),
                recipe=_record(prepared, sample, tokens, stop).to_json(),
                logprobs_at=logprobs.at if logprobs else "",
                prompt_logprobs=prepared.prompt_logprobs,
                speculation={} if request.pace is None else request.pace.to_json(),
            )

        takers = sampler.processors if sampler.takes_back else ()
        return request, Pieces(prepared.stopping, parts["detokenizer"], finish, takers)

    def _pace(self, prepared: Prepared) -> Pace | None:
        how, draft, costs = prepared.settings.speculate, self.draft, self.engine.costs
        if how == "draft" and draft is None:
            raise ParameterError("speculate 'draft' needs a draft model; load the model with draft=BUNDLE")
        if how == "off":
            return None
        if draft is not None and how != "lookup":
            return Pace(DraftModel(draft, prepared.sampler, self.preparer.vocabulary), costs)
        return Pace(PromptLookup(), costs)

    def start(
        self, prompt: Prompt, chain: Written, options: dict[str, Any], emit: Emit
    ) -> tuple[Request, Pieces]:
        """One that streams, handed in."""
        prepared = self.prepare(prompt, chain, options)
        request, pieces = self.request(prepared, prepared.settings.sample, emit)
        self.engine.submit(request)
        return request, pieces


def is_many(prompt: Any) -> bool:
    """Whether it is a list of prompts. PromptError where it is no prompt either."""
    if not isinstance(prompt, Sequence):
        raise PromptError(f"a prompt is text, messages, token ids, or a list of these, got {prompt!r:.80}")
    return not isinstance(prompt, str) and bool(prompt) and not isinstance(prompt[0], int | dict)


def _record(prepared: Prepared, sample: int, tokens: Sequence[Token], stop: Stop) -> Record:
    settings = prepared.settings
    return Record(
        **prepared.preparer.origin,
        chain=tuple(map(Entry.of, prepared.links)),
        criteria=tuple(map(Entry.of, prepared.criteria)),
        min_new_tokens=settings.min_new_tokens,
        stop_token_ids=tuple(sorted(settings.stop_token_ids)),
        ignore_eos=settings.ignore_eos,
        adapter=settings.adapter,
        seed=prepared.seed,
        sample=sample,
        prompt=prepared.ids,
        finish_reason=stop.reason,
        stopped_by=stop.by,
        **numbers(tokens),
    )
