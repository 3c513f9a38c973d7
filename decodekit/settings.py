"""Settings: what a request may ask for besides its prompt and its chain, checked where it enters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from decodekit.errors import ParameterError
from decodekit.hint import hint
from decodekit.logprobs import MAX_TOP
from decodekit.parameters import real, whole

MAX_SAMPLES = 128
SPECULATE = ("off", "auto", "lookup", "draft")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of `generate`, `stream`, `agenerate`, `astream`.

    max_new_tokens  >= 1; None: as many as the context window has room for
    min_new_tokens  >= 0: no end token before so many, and no stop string counts
    stop            strings that end the answer and are no part of it
    stop_token_ids  tokens that do, besides the model's own end tokens
    ignore_eos      go on at the model's own end tokens
    max_time        seconds, the wait for a free place included
    criteria        further criteria, "name.parameter=value" or StoppingCriterion objects
    seed            in [0, 2^64); None: drawn, and told in the completion
    sample          which answer of that seed, >= 0
    logprobs        in [0, 20]: give each token's log-probability and that many alternatives
    logprobs_at     "raw", "final", or a strategy of the chain: after which stage, see `Logprobs`
    prompt_logprobs in [0, 20]: the same of the prompt's tokens, raw; `generate` only
    speculate       "lookup": guess from what was written before; "draft": from the draft model;
                    "auto": from the draft model where there is one; "off". Tokens stay the same
    tenant          prefixes of prompts are shared between requests of one tenant only
    adapter         of the bundle, by name, under which the model decodes; None: as it is
    tools           JSON schemas of functions that the model may call, for templates that tell it
    """

    max_new_tokens: int | None = None
    min_new_tokens: int = 0
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool = False
    max_time: float | None = None
    criteria: Any = None
    seed: int | None = None
    sample: int = 0
    logprobs: int | None = None
    logprobs_at: str = "raw"
    prompt_logprobs: int | None = None
    speculate: str = "off"
    tenant: str = ""
    adapter: str | None = None
    tools: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None:
            whole("max_new_tokens: n", self.max_new_tokens, "[1, inf)")
        whole("min_new_tokens", self.min_new_tokens, "[0, inf)")
        if self.max_new_tokens is not None and self.min_new_tokens > self.max_new_tokens:
            raise ParameterError(
                f"min_new_tokens must be at most max_new_tokens, {self.max_new_tokens}, "
                f"got {self.min_new_tokens}"
            )
        if not isinstance(self.ignore_eos, bool):
            raise ParameterError(f"ignore_eos must be true or false, got {self.ignore_eos!r}")
        if self.max_time is not None:
            real("max_time: seconds", self.max_time, "(0, inf)")
        if self.seed is not None:
            whole("seed", self.seed, f"[0, {2**64})")
        whole("sample", self.sample, f"[0, {2**64})")
        if self.prompt_logprobs is not None:
            whole("prompt_logprobs", self.prompt_logprobs, f"[0, {MAX_TOP}]")
        if self.speculate not in SPECULATE:
            raise ParameterError(
                f"speculate must be one of {', '.join(map(repr, SPECULATE))}, got {self.speculate!r}"
            )
        if not isinstance(self.tenant, str):
            raise ParameterError(f"tenant must be a string, got {self.tenant!r}")
        if not isinstance(self.adapter, str | None):
            raise ParameterError(f"adapter must be a name or None, got {self.adapter!r}")
        if not isinstance(self.tools, list | tuple) or not all(isinstance(t, Mapping) for t in self.tools):
            raise ParameterError(f"tools must be a list of JSON schemas, got {self.tools!r:.80}")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """From keyword arguments; an unknown one is an error."""
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                way_out = hint(name, known, f"options: {', '.join(known)}")
                raise ParameterError(f"no option named {name!r}; {way_out}")
        return cls(**options)
