"""What the loop needs from a model: token ids in, logits out."""

from __future__ import annotations

from typing import Any, Protocol

from decodekit.ops import Array


class Cache(Protocol):
    """What a model remembers of the tokens read so far. A value."""

    @property
    def length(self) -> int:
        """How many tokens were read."""

    def keep(self, length: int) -> Any:
        """The cache after the first `length` of them."""

    def copy(self) -> Any:
        """The same, so that both can be continued."""


def new_cache(model: Model, adapter: str | None) -> Cache:
    """What is known before the first token, under an adapter that the model has."""
    return model.new_cache() if adapter is None else model.new_cache(adapter)  # type: ignore[call-arg]


class Model(Protocol):
    """A next-token predictor."""

    vocabulary: int  # V
    context_length: int  # the most tokens a cache holds

    def new_cache(self) -> Cache:
        """What is known before the first token."""

    def __call__(self, tokens: Array, cache: Any, *, last: int = 1) -> tuple[Array, Cache]:
        """Logits of what follows each of the `last` tokens, float [last, V]; and the cache after them.

        tokens  int [T], T >= last >= 0, those that follow `cache`
        """
