"""Fields that several APIs share, and the `decodekit` object that all of them take."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from decodekit.logprobs import MAX_TOP
from decodekit_server.limits import (
    MAX_BIASES,
    MAX_CHOICES,
    MAX_ID,
    MAX_IDS,
    MAX_NAME,
    MAX_STOP,
    MAX_STOP_IDS,
    MAX_STOPS,
    MAX_STRATEGIES,
    MAX_TEXT,
    MAX_TOKENS,
)

MAX_SEED = 2**64 - 1

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
ModelName = Annotated[str, Field(max_length=16_384, description="one of /v1/models")]
Ids = Annotated[list[Annotated[int, Field(ge=0, le=MAX_ID)]], Field(max_length=MAX_IDS, fail_fast=True)]
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP)]
Stops = Annotated[list[Stop], Field(max_length=MAX_STOPS)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Biases = Annotated[dict[Annotated[str, Field(pattern="^[0-9]{1,9}$")], Bias], Field(max_length=MAX_BIASES)]
Choices = Annotated[int, Field(ge=1, le=MAX_CHOICES)]
Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Top = Annotated[int, Field(ge=0, le=MAX_TOP)]
Label = Annotated[str, Field(max_length=512, description="names a caller; changes nothing here")]


class Params(BaseModel):
    """An object of a body: no unknown field, no number as a text."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Strategy(BaseModel):
    """A strategy or criterion by its registered name, its options beside it; see /v1/strategies."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: Annotated[str, Field(pattern=f"^[A-Za-z0-9_-]{{1,{MAX_NAME}}}$")]

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


Strategies = Annotated[list[Strategy], Field(max_length=MAX_STRATEGIES)]


class Extras(Params):
    """What this server can do beyond the API.

    processors   the whole chain, in order, instead of temperature, top_p, penalties and biases
    stopping     further stopping criteria
    logprobs_at  "raw", "final", or a strategy of the chain
    max_time     seconds of an answer, its wait included
    seed         for APIs that have no field for it
    sample       which answer of the seed is the first
    trace        give what every strategy did at each step
    echo_params  give the values that held, and where they came from
    """

    processors: Strategies | None = None
    stopping: Strategies = []
    min_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS)] = 0
    ignore_eos: bool = False
    stop_token_ids: Annotated[Ids, Field(max_length=MAX_STOP_IDS)] = []
    logprobs_at: Annotated[str, Field(max_length=MAX_NAME)] = "raw"
    max_time: Annotated[float, Field(gt=0, le=86_400)] | None = None
    speculate: Annotated[str, Field(max_length=MAX_NAME)] = "off"
    seed: Seed | None = None
    sample: Seed = 0
    trace: bool = False
    trace_top: Annotated[int, Field(ge=1, le=100)] = 20
    echo_params: bool = False
