"""
The decoder: text in, text out. What an application holds.

It turns a prompt into ids, a chain into a sampler, the limits into criteria, runs the
loop, and gives text only once no stop string can take it back.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from importlib import metadata
from typing import Any, overload

from decodekit import chain as chains
from decodekit.bundle import Bundle, open_bundle
from decodekit.chat import Chat, Message
from decodekit.completion import Completion
from decodekit.errors import BundleError, PromptError
from decodekit.generate import stream
from decodekit.model import Model
from decodekit.ops import Array, keep
from decodekit.parameters import whole
from decodekit.plugins import Plugins, allowed_by_environment, load_plugins
from decodekit.processors import LogitsProcessor, State, Step
from decodekit.sampling import Sampler
from decodekit.stopping import StoppingCriterion
from decodekit.strategies.end_tokens import EndTokens
from decodekit.strategies.greedy import Greedy
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit.strategies.max_time import MaxTime
from decodekit.strategies.stop_strings import StopStrings
from decodekit.text_stream import TextStream
from decodekit.tokenizer import Tokenizer

Prompt = str | Sequence[int] | Sequence[Message]

MAX_SAMPLES = 128
MAX_LOGPROBS = 20


def load(
    path_or_name: str | os.PathLike[str],
    *,
    device: str = "auto",
    threads: int | None = None,
    plugins: Plugins | None = None,
) -> Decoder:
    """A decoder for the bundle in that folder, or for the embedded model of that name.

    device   "cpu", "cuda" (or an error), or "auto"
    threads  for one operator on the CPU; None: what onnxruntime thinks best
    plugins  None: the built-ins and all installed plugins that DECODEKIT_PLUGINS allows
    """
    from decodekit.onnx_model import load_model

    bundle = open_bundle(path_or_name)
    tokenizer = Tokenizer(bundle.tokenizer)
    if bundle.vocabulary < tokenizer.size:
        raise BundleError(
            f"{bundle.path}: the graph knows {bundle.vocabulary} tokens, the tokenizer {tokenizer.size}; "
            f"id {bundle.vocabulary} ({tokenizer.token(bundle.vocabulary)!r}) is out of reach; "
            "they are of different models"
        )
    model = load_model(bundle, device=device, threads=threads)
    return Decoder(model, tokenizer, bundle, plugins or load_plugins(allowed_by_environment()))


class Decoder:
    """Decodes prompts with one model. Safe to share between threads."""

    def __init__(self, model: Model, tokenizer: Tokenizer, bundle: Bundle, plugins: Plugins) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.bundle = bundle
        self.plugins = plugins
        self.chat = Chat(tokenizer, bundle.chat_template, min(bundle.stop_ids, default=None))
        self._origin = {  # of every recipe
            "bundle": bundle.name,
            "bundle_sha256": bundle.sha256,
            "decodekit": metadata.version("decodekit"),
        }

    @overload
    def generate(
        self, prompt: Prompt, chain: chains.Written = None, *, n: None = None, **options: Any
    ) -> Completion: ...
    @overload
    def generate(
        self, prompt: Sequence[Prompt], chain: chains.Written = None, **options: Any
    ) -> list[Completion]: ...
    @overload
    def generate(
        self, prompt: Prompt, chain: chains.Written = None, *, n: int, **options: Any
    ) -> list[Completion]: ...

    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        chain: chains.Written = None,
        *,
        n: int | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> Any:
        """The completion of a prompt. A list of prompts, or `n`, gives a list: prompt by prompt, n of each.

        prompt   text, messages, or token ids
        chain    "temperature=0.8, top_p=0.9", or LogitsProcessor objects; None: greedy
        n        answers per prompt, in [1, 128]; number i of them does not depend on n
        seed     in [0, 2^64); None: drawn, and told in the completion
        options  as for `stream`
        """
        if n is not None:
            whole("n", n, f"[1, {MAX_SAMPLES}]")
        seed = _seed(seed)
        many = _is_many(prompt)
        prompts: Any = prompt if many else [prompt]
        completions = [
            self.stream(one, chain, seed=seed, sample=i, **options).complete()
            for one in prompts
            for i in range(n or 1)
        ]
        return completions if many or n is not None else completions[0]

    def stream(
        self,
        prompt: Prompt,
        chain: chains.Written = None,
        *,
        max_new_tokens: int | None = None,
        stop: str | Sequence[str] = (),
        stop_token_ids: Sequence[int] = (),
        max_time: float | None = None,
        criteria: chains.Written = None,
        seed: int | None = None,
        sample: int = 0,
        logprobs: int | None = None,
    ) -> TextStream:
        """The same completion, piece by piece: iterate for text, then read `.completion`.

        max_new_tokens  None: as many as the context window has room for
        stop            strings that end the answer and are no part of it
        stop_token_ids  tokens that do, besides the model's own end tokens
        max_time        seconds
        criteria        further criteria, "name.parameter=value" or StoppingCriterion objects
        logprobs        in [0, 20]: give each token's log-probability and that many alternatives
        """
        ids = self.encode(prompt)
        if max_new_tokens is not None:
            whole("max_new_tokens: n", max_new_tokens, "[1, inf)")
        if logprobs is not None:
            whole("logprobs", logprobs, f"[0, {MAX_LOGPROBS}]")
        room = self.bundle.room(len(ids), max_new_tokens)
        processors = self.processors(chain)
        stopping = self._criteria(room, stop, stop_token_ids, max_time, criteria)
        seed, detokenizer = _seed(seed), self.tokenizer.detokenizer(continues=self.chat.continues)
        tokens = stream(
            self.model,
            ids,
            Sampler(self._reachable() + processors),
            stopping,
            seed=seed,
            sample=sample,
            detokenizer=detokenizer,
            logprobs=logprobs,
        )
        recipe = {
            **self._origin,
            "chain": [repr(p) for p in processors],
            "criteria": [repr(c) for c in stopping],
            "seed": seed,
            "sample": sample,
        }
        return TextStream(tokens, stopping, detokenizer, len(ids), recipe)

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids a prompt stands for, up to where the answer begins."""
        if isinstance(prompt, str) or (prompt and not isinstance(prompt[0], int)):
            if not prompt:
                raise PromptError("prompt is empty; give at least one character")
            return self.chat.prompt(prompt)  # type: ignore[arg-type]
        if not prompt:
            raise PromptError("prompt is empty; give at least one token id")
        for i, id in enumerate(prompt):
            if type(id) is not int or not 0 <= id < self.tokenizer.size:
                raise PromptError(f"prompt[{i}] must be a token id in [0, {self.tokenizer.size}), got {id!r}")
        return tuple(prompt)  # type: ignore[arg-type]

    def spell(self, id: int) -> str:
        """A token as text, or as the vocabulary spells it where it has none."""
        return self.tokenizer.decode([id]) or self.tokenizer.token(id) or ""

    def processors(self, chain: chains.Written) -> tuple[LogitsProcessor, ...]:
        """The strategies a chain names, in order, bound to this model's tokens."""
        processors = chains.parse(chain, self.plugins.logits_processors, LogitsProcessor) or (Greedy(),)
        return tuple(p.bind(self.tokenizer) for p in processors)

    def _criteria(
        self,
        room: int,
        stop: str | Sequence[str],
        stop_token_ids: Sequence[int],
        max_time: float | None,
        criteria: chains.Written,
    ) -> tuple[StoppingCriterion, ...]:
        written: list[StoppingCriterion] = [
            EndTokens([*self.bundle.stop_ids, *EndTokens(stop_token_ids).ids])
        ]
        if stop:
            written.append(StopStrings(stop))
        if max_time is not None:
            written.append(MaxTime(max_time))
        written += chains.parse(criteria, self.plugins.stopping_criteria, StoppingCriterion)
        return tuple(c.bind(self.tokenizer) for c in (*written, MaxNewTokens(room)))

    def _reachable(self) -> tuple[LogitsProcessor, ...]:
        """What keeps ids that pad the graph's vocabulary out of every draw."""
        padded = self.model.vocabulary > self.tokenizer.size
        return (KnownTokens(self.tokenizer.size),) if padded else ()


class KnownTokens(LogitsProcessor):
    """Remove candidates that the tokenizer does not have."""

    def __init__(self, size: int) -> None:
        self.size = size

    def process(self, logits: Array, step: Step, state: State) -> Array:
        return keep(logits, step.ids < self.size)


def _seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbits(53)  # every JSON reader keeps 53 bits
    whole("seed", seed, f"[0, {2**64})")
    return seed


def _is_many(prompt: Any) -> bool:
    return not isinstance(prompt, str) and bool(prompt) and not isinstance(prompt[0], int | dict)
