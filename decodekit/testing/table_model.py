"""A model without weights, and histories written as lists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from decodekit.history import History
from decodekit.ops import Array


@dataclass(frozen=True)
class Tokens:
    """The cache of a TableModel: the tokens themselves."""

    ids: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        return len(self.ids)

    def keep(self, length: int) -> Tokens:
        return Tokens(self.ids[:length])

    def copy(self) -> Tokens:
        return self


@dataclass(frozen=True)
class TableModel:
    """A bigram model: the logits after token i are row i of `table`, float [V, V]."""

    table: Array
    context_length: int = 1 << 20

    @property
    def vocabulary(self) -> int:
        return len(self.table)

    def new_cache(self) -> Tokens:
        return Tokens()

    def __call__(self, tokens: Array, cache: Tokens, *, last: int = 1) -> tuple[Array, Tokens]:
        return self.table[tokens[len(tokens) - last :]], Tokens((*cache.ids, *np.asarray(tokens).tolist()))


def histories(*rows: list[int], asked: int = 1) -> tuple[History, ...]:
    """One History per list of ids, of which the first `asked` are the prompt; seeds 0, 1, ..."""
    return tuple(History(frozen(np.asarray(ids, np.int64)), asked, seed) for seed, ids in enumerate(rows))


def frozen(array: Array) -> Array:
    """A view that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view
