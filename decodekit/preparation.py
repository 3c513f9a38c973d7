"""
Preparation: from a prompt, a chain and settings to a checked request, not begun.

Everything a user gives is checked here, before anything runs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from decodekit.bundle import Bundle
from decodekit.chain import Link, Written, link, parse
from decodekit.chat import Chat
from decodekit.companion import Companion
from decodekit.detokenizer import Detokenizer
from decodekit.errors import ContextError, ParameterError, PromptError
from decodekit.logprobs import Logprobs
from decodekit.messages import Message
from decodekit.ops import Array, keep
from decodekit.plugins import Plugins
from decodekit.processors import LogitsProcessor, State, Step
from decodekit.sampling import Sampler
from decodekit.score import TokenScore
from decodekit.settings import Settings
from decodekit.stopping import StoppingCriterion
from decodekit.strategies.end_tokens import EndTokens
from decodekit.strategies.greedy import Greedy
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit.strategies.max_time import MaxTime
from decodekit.strategies.min_new_tokens import MinNewTokens
from decodekit.strategies.stop_strings import StopStrings
from decodekit.tokenizer import Tokenizer

Prompt = str | Sequence[int] | Sequence[Message]
LONG = 16  # characters a token, of a prompt that is looked at before it is encoded


@dataclass(frozen=True)
class Preparer:
    """Knows a model's tokens and limits, and what plugins offer."""

    bundle: Bundle
    tokenizer: Tokenizer
    chat: Chat
    plugins: Plugins
    vocabulary: int
    origin: Mapping[str, Any]  # of every record
    companion: Callable[[Sequence[int], str | None], Companion]

    def encode(self, prompt: Prompt, tools: Sequence[Mapping[str, Any]] = ()) -> tuple[int, ...]:
        """The ids a prompt stands for, up to where the answer begins."""
        if isinstance(prompt, str) or (prompt and not isinstance(prompt[0], int)):
            if not prompt:
                raise PromptError("prompt is empty; give at least one character")
            return self.chat.prompt(prompt, tools or None)  # type: ignore[arg-type]
        if tools:
            raise ParameterError("tools need a prompt that is rendered: text or messages, not token ids")
        return self.ids("prompt", prompt)  # type: ignore[arg-type]

    def check_length(self, prompt: Prompt) -> None:
        """ContextError where a text cannot fit by far, as its beginning shows; encoding it all takes long."""
        text = prompt if isinstance(prompt, str) else _last_text(prompt)
        most = self.bundle.context_length
        if len(text) <= LONG * most:
            return
        known = len(self.tokenizer.encode_plain(text.strip()[: LONG * most]))
        if known > 2 * most:
            raise ContextError(
                f"prompt of {len(text):,} characters, of which the first {LONG * most:,} are "
                f"{known:,} tokens, exceeds the context window of {most}; shorten the prompt"
            )

    def ids(self, name: str, ids: Sequence[int]) -> tuple[int, ...]:
        """Ids that a caller gave under that name, checked."""
        if not ids:
            raise PromptError(f"{name} is empty; give at least one token id")
        for i, id in enumerate(ids):
            if type(id) is not int or not 0 <= id < self.tokenizer.size:
                raise PromptError(f"{name}[{i}] must be a token id in [0, {self.tokenizer.size}), got {id!r}")
        return tuple(ids)

    def chain(self, written: Written) -> tuple[Link, ...]:
        """The strategies a chain names, in order, bound to this model's tokens; greedy if there is none."""
        registry = self.plugins.logits_processors
        links = parse(written, registry, LogitsProcessor) or (link(Greedy(), registry),)
        return tuple(replace(one, strategy=one.strategy.bind(self.tokenizer)) for one in links)

    def detokenizer(self) -> Detokenizer:
        """Fresh, for an answer's text."""
        return self.tokenizer.detokenizer(continues=self.chat.continues)

    def prepare(self, prompt: Prompt, chain: Written, settings: Settings) -> Prepared:
        self.bundle.check_adapter(settings.adapter)
        self.check_length(prompt)
        ids = self.encode(prompt, settings.tools)
        room = self.bundle.room(len(ids), settings.max_new_tokens)
        links = self.chain(chain)
        before = self._before(settings)
        names = (*(type(p).__name__ for p in before), *(one.name for one in links))
        logprobs = None
        if settings.logprobs is not None:
            logprobs = Logprobs(settings.logprobs, settings.logprobs_at, names)
        elif settings.logprobs_at != "raw":
            raise ParameterError("logprobs_at needs logprobs, the number of alternatives, which may be 0")
        return Prepared(
            preparer=self,
            ids=ids,
            room=room,
            links=links,
            names=names,
            sampler=Sampler((*before, *(one.strategy for one in links))),
            criteria=self._criteria(settings, room),
            logprobs=logprobs,
            second=self._second(links),
            settings=settings if settings.seed is not None else replace(settings, seed=secrets.randbits(53)),
        )

    def _second(self, links: Sequence[Link]) -> tuple[int, ...] | None:
        """The ids of a second prompt that a strategy asks for."""
        prompts = [
            (one.name, prompt) for one in links if (prompt := one.strategy.companion_prompt()) is not None
        ]
        if len(prompts) > 1:
            names = " and ".join(name for name, _ in prompts)
            raise ParameterError(f"{names} each have a prompt of their own; a chain has room for one of them")
        return self.encode(prompts[0][1]) if prompts else None

    def _before(self, settings: Settings) -> tuple[LogitsProcessor, ...]:
        """What comes before every chain: padding of the vocabulary and early ends are out of reach."""
        before: list[LogitsProcessor] = []
        if self.vocabulary > self.tokenizer.size:
            before.append(KnownTokens(self.tokenizer.size))
        if settings.min_new_tokens:
            ends = MinNewTokens(settings.min_new_tokens, self._ends(settings).ids)
            before.append(ends.bind(self.tokenizer))
        return tuple(before)

    def _ends(self, settings: Settings) -> EndTokens:
        own = () if settings.ignore_eos else self.bundle.stop_ids
        return EndTokens([*own, *EndTokens(settings.stop_token_ids).ids])

    def _criteria(self, settings: Settings, room: int) -> tuple[Link, ...]:
        registry = self.plugins.stopping_criteria
        own: list[StoppingCriterion] = [self._ends(settings)]
        if settings.stop:
            own.append(StopStrings(settings.stop, settings.min_new_tokens))
        if settings.max_time is not None:
            own.append(MaxTime(settings.max_time))
        links = [
            *(link(criterion, registry) for criterion in own),
            *parse(settings.criteria, registry, StoppingCriterion),
            link(MaxNewTokens(room), registry),
        ]
        return tuple(replace(one, strategy=one.strategy.bind(self.tokenizer)) for one in links)


@dataclass(frozen=True)
class Prepared:
    """A checked request, from which those of its samples are made; see `requests`."""

    preparer: Preparer
    ids: tuple[int, ...]
    room: int
    links: tuple[Link, ...]
    names: tuple[str, ...]  # of the sampler's processors: of `links`, and of what comes before every chain
    sampler: Sampler
    criteria: tuple[Link, ...]
    logprobs: Logprobs | None
    settings: Settings
    second: tuple[int, ...] | None = None  # prompt of a strategy
    prompt_logprobs: tuple[TokenScore, ...] = ()

    @property
    def seed(self) -> int:
        """Names the noise; drawn when the request was prepared, if the caller gave none."""
        assert self.settings.seed is not None
        return self.settings.seed

    @property
    def stopping(self) -> tuple[StoppingCriterion, ...]:
        return tuple(one.strategy for one in self.criteria)

    def parts(self, sample: int) -> dict[str, Any]:
        """What an `Answer` that is not begun is made of; detokenizer and companion are fresh."""
        second, adapter = self.second, self.settings.adapter
        return {
            "prompt": self.ids,
            "sampler": self.sampler,
            "stopping": self.stopping,
            "seed": self.seed,
            "sample": sample,
            "detokenizer": self.preparer.detokenizer(),
            "logprobs": self.logprobs,
            "companion": None if second is None else self.preparer.companion(second, adapter),
        }


class KnownTokens(LogitsProcessor):
    """Remove candidates that the tokenizer does not have."""

    def __init__(self, size: int) -> None:
        self.size = size

    def process(self, logits: Array, step: Step, state: State) -> Array:
        return keep(logits, step.ids < self.size)


def origin(bundle: Bundle, model: Any) -> dict[str, Any]:
    """What names the model and the software, for records."""
    session = getattr(model, "session", None)
    runtime = {} if session is None else {"onnxruntime": session.version, "provider": model.provider}
    versions = {name: metadata.version(name) for name in ("decodekit", "numpy")}
    return {"bundle": bundle.name, "bundle_sha256": bundle.sha256, "made_by": versions | runtime}


def _last_text(messages: Any) -> str:
    """The text of the last message, which no template leaves out; "" where there is none."""
    last = messages[-1] if isinstance(messages, Sequence) and messages else None
    content = last.get("content") if isinstance(last, Mapping) else None
    return content if isinstance(content, str) else ""
