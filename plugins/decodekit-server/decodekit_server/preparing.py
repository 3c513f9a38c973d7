"""
Preparing requests, on threads of its own, so that none holds up the tokens of others.

Chains with strategies that a client named may take long to make, such as a grammar: they have
other threads than the rest.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from decodekit.decoder import Decoder
from decodekit.errors import TemplateError
from decodekit.preparation import Prepared
from decodekit_server import chains
from decodekit_server.ask import Ask, Dialogue, Prompt, Raw
from decodekit_server.errors import ApiError
from decodekit_server.limits import MAX_TRACE_TOKENS, Limits
from decodekit_server.models import Served

T = TypeVar("T")
THREADS = 4  # of each kind


@dataclass(frozen=True)
class Job:
    """A prepared request: one `Prepared` a prompt, all with one seed."""

    ask: Ask
    served: Served
    prepared: tuple[Prepared, ...]
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def seed(self) -> int:
        return self.prepared[0].seed

    @property
    def prompt_tokens(self) -> int:
        return sum(len(one.ids) for one in self.prepared)


class Preparing:
    """Prepares within the limits of a server."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._quick = ThreadPoolExecutor(THREADS, "decodekit prepare")
        self._slow = ThreadPoolExecutor(THREADS, "decodekit make")

    async def prepare(self, ask: Ask, served: Served, tenant: str) -> Job:
        """ApiError, or an error of decodekit, for what cannot be decoded."""
        check_size(ask, self.limits)
        made = ask.constraint is not None or ask.extras.processors or ask.extras.stopping
        work = partial(prepare_job, ask, served, tenant, self.limits)
        return await self._run(self._slow if made else self._quick, work)

    async def run(self, function: Callable[[], T]) -> T:
        """Something else that takes a moment."""
        return await self._run(self._quick, function)

    def close(self) -> None:
        for pool in (self._quick, self._slow):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, pool: ThreadPoolExecutor, function: Callable[[], T]) -> T:
        running = asyncio.get_running_loop().run_in_executor(pool, function)
        try:
            # Not `wait_for`, which in Python 3.11 forgets to be cancelled where the work ends just then.
            async with asyncio.timeout(self.limits.prepare_seconds):
                return await running
        except TimeoutError as exc:
            seconds = self.limits.prepare_seconds
            raise ApiError(
                503, "E_BUSY", f"not prepared within {seconds:g} s; ask for less, or later"
            ) from exc


def check_size(ask: Ask, limits: Limits) -> None:
    """Before anything is tokenized: answers times tokens."""
    answers = ask.n * len(ask.prompts)
    if answers > limits.queue:
        _too_much("n", f"{ask.n} answers to {len(ask.prompts)} prompts are {answers}", limits.queue)
    if ask.max_tokens is not None and ask.max_tokens > limits.answer_tokens:
        _too_much("max_tokens", f"{ask.max_tokens} tokens", limits.answer_tokens)
    if (total := answers * (ask.max_tokens or 1)) > limits.request_tokens:
        _too_much(
            "max_tokens", f"{answers} answers of {ask.max_tokens} tokens are {total}", limits.request_tokens
        )
    if ask.extras.trace and (answers > 1 or (ask.max_tokens or 0) > MAX_TRACE_TOKENS):
        raise ApiError(
            400,
            "E_PARAMETER",
            f"decodekit.trace: of one answer of at most {MAX_TRACE_TOKENS} tokens",
            "decodekit.trace",
        )


def prepare_job(ask: Ask, served: Served, tenant: str, limits: Limits) -> Job:
    """Encode the prompts, make the strategies, bind both to the model."""
    decoder, extras = served.decoder, ask.extras
    chain = chains.chain(ask, decoder.plugins.logits_processors)
    criteria = chains.criteria(ask, decoder.plugins.stopping_criteria)
    options: dict[str, Any] = {
        "min_new_tokens": extras.min_tokens,
        "stop": list(ask.stop),
        "stop_token_ids": extras.stop_token_ids,
        "ignore_eos": extras.ignore_eos,
        "max_time": min(extras.max_time or limits.answer_seconds, limits.answer_seconds),
        "criteria": criteria,
        "seed": seed(ask),
        "sample": extras.sample,
        "logprobs": ask.logprobs,
        "logprobs_at": extras.logprobs_at,
        "speculate": extras.speculate,
        "tenant": tenant,
        "adapter": served.adapter,
    }
    prepared: list[Prepared] = []
    for prompt in ask.prompts:
        decoder.check_length(_said(prompt))
        ids = encode(prompt, decoder)
        options["max_new_tokens"] = ask.max_tokens or _room(ask, decoder, len(ids), limits)
        prepared.append(decoder.prepare(ids, chain, **options))
        options["seed"] = prepared[0].seed
    return Job(ask, served, tuple(prepared))


def _said(prompt: Prompt) -> Any:
    """A prompt as the SDK takes it."""
    return (
        prompt.messages
        if isinstance(prompt, Dialogue)
        else prompt.text
        if isinstance(prompt, Raw)
        else prompt
    )


def encode(prompt: Prompt, decoder: Decoder) -> tuple[int, ...]:
    """The ids of a prompt, as the SDK has them for the same one."""
    if isinstance(prompt, Dialogue):
        if prompt.forced:
            with suppress(TemplateError):  # it knows no tools
                return decoder.chat.prompt(prompt.messages, prompt.tools)
        return decoder.chat.prompt(prompt.messages, () if prompt.forced else prompt.tools)
    if isinstance(prompt, Raw):
        prefix, ids = decoder.tokenizer.prefix, decoder.tokenizer.encode(prompt.text)
        return decoder.encode([*(() if tuple(ids[: len(prefix)]) == prefix else prefix), *ids])
    return decoder.encode(prompt)


def seed(ask: Ask) -> int | None:
    """The one that the client gave, in either place."""
    if None not in (ask.seed, ask.extras.seed):
        raise ApiError(400, "E_PARAMETER", "seed: give it or decodekit.seed, not both", "seed")
    return ask.extras.seed if ask.seed is None else ask.seed


def _room(ask: Ask, decoder: Decoder, prompt: int, limits: Limits) -> int | None:
    """Where no length was asked for: what fits; None: nothing does."""
    share = limits.request_tokens // (ask.n * len(ask.prompts))
    room = min(decoder.bundle.context_length - prompt, limits.answer_tokens, share)
    if ask.extras.trace:
        room = min(room, MAX_TRACE_TOKENS)
    return room if room > 0 else None


def _too_much(param: str, asked: str, most: int) -> None:
    raise ApiError(400, "E_LIMIT", f"{param}: {asked}; this server gives at most {most}", param)
