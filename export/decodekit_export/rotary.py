"""
Rotary positions, left to the attention operator.

Su et al., "RoFormer", 2021, section 3.4, arXiv:2104.09864. A model turns queries and keys by
calling `apply_rotary_pos_emb(q, k, cos, sin)`. com.microsoft::GroupQueryAttention can do it in
passing, from tables of cosines and sines, which takes some ten small operators out of every
layer. Whether it would do the same is found out by asking: each call of a model is watched,
asked for its tables, and held against the operator's two ways to pair the numbers of a head.
A model with one call that is otherwise keeps its own code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

FUNCTION = "apply_rotary_pos_emb"
MULTIPLE = 16  # of head size and of the numbers that are turned, as the operator wants it
POSITIONS = [0, 1, 5]  # that are watched


@dataclass(frozen=True, slots=True)
class Rotation:
    """How one layer turns its queries and keys.

    cos, sin     [L, R / 2] for positions from 0 and the first R numbers of a head
    interleaved  number 2i is paired with 2i + 1; otherwise i with i + R / 2
    """

    cos: Tensor
    sin: Tensor
    interleaved: bool


def rotations(model: PreTrainedModel, length: int) -> list[Rotation]:
    """Of each layer that has one, in order, for positions below `length`; none where the operator cannot."""
    original = getattr(_module(model), FUNCTION, None)
    if original is None:
        return []
    tables = _Tables(model)
    found: list[Rotation | None] = []

    def watched(*args: Any, **kwargs: Any) -> Any:
        turned = original(*args, **kwargs)
        q, k, cos, sin = args[:4] if len(args) >= 4 else (None,) * 4
        found.append(_rotation(tables.of(cos, sin, length), (q, k), turned))
        return turned

    with _instead(model, watched), tables.watching(), torch.no_grad():
        ids = torch.ones(1, len(POSITIONS), dtype=torch.int64)
        model(input_ids=ids, position_ids=torch.tensor([POSITIONS]))
    known = [rotation for rotation in found if rotation is not None]
    return _shared(known) if len(known) == len(found) else []


class Turns(nn.Module):
    """The rotations of a model's layers, handed from where they were asked for to its attention."""

    def __init__(self, rotations: Sequence[Rotation]) -> None:
        super().__init__()
        self._rotations = list(rotations)
        self._next = iter(self._rotations)
        self._asked: Rotation | None = None

    @contextmanager
    def left_to_attention(self, model: PreTrainedModel) -> Iterator[None]:
        """Inside this context the model leaves queries and keys as they are, where attention turns them."""
        self._next = iter(self._rotations)

        def unturned(q: Tensor, k: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
            self._asked = next(self._next)
            return q, k

        with _instead(model, unturned) if self._rotations else nullcontext():
            yield

    def take(self) -> Rotation | None:
        """That of the layer that attends now."""
        asked, self._asked = self._asked, None
        return asked


def _module(model: PreTrainedModel) -> ModuleType:
    return sys.modules[type(model).__module__]


@contextmanager
def _instead(model: PreTrainedModel, function: Callable[..., Any]) -> Iterator[None]:
    """Inside this context the layers of the model call another function to turn queries and keys."""
    module, original = _module(model), getattr(_module(model), FUNCTION)
    setattr(module, FUNCTION, function)
    try:
        yield
    finally:
        setattr(module, FUNCTION, original)


class _Tables:
    """Which module made which cosines, and what it makes of other positions."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._modules = [m for m in model.modules() if type(m).__name__.endswith("RotaryEmbedding")]
        self._calls: list[tuple[Sequence[Tensor], nn.Module, tuple[Any, ...], dict[str, Any]]] = []
        self._made: dict[int, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            self._calls.append((output, module, args, kwargs))

        handles = [m.register_forward_hook(note, with_kwargs=True) for m in self._modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def of(self, cos: Any, sin: Any, length: int) -> tuple[Tensor, Tensor] | None:
        """Both for all positions below `length`, [L, R] as the module gives them; None if it is not known."""
        for i, (output, module, args, kwargs) in enumerate(list(self._calls)):
            if isinstance(output, tuple) and len(output) == 2 and output[0] is cos and output[1] is sin:
                if i not in self._made:
                    places = torch.arange(length)[None]
                    args = tuple(places if _is_positions(a) else a for a in args)
                    kwargs = {k: places if _is_positions(a) else a for k, a in kwargs.items()}
                    made = module.forward(*args, **kwargs)
                    self._made[i] = (made[0][0], made[1][0])
                return self._made[i]
        return None


def _shared(rotations: Sequence[Rotation]) -> list[Rotation]:
    """The same, with one pair of tables for layers that turn alike."""
    kinds: list[Rotation] = []
    shared = []
    for rotation in rotations:
        alike = (k for k in kinds if k.interleaved == rotation.interleaved and _equal(k, rotation))
        kind = next(alike, rotation)
        if kind is rotation:
            kinds.append(rotation)
        shared.append(kind)
    return shared


def _equal(one: Rotation, other: Rotation) -> bool:
    return torch.equal(one.cos, other.cos) and torch.equal(one.sin, other.sin)


def _is_positions(argument: Any) -> bool:
    return isinstance(argument, Tensor) and argument.dtype == torch.int64 and argument.tolist() == [POSITIONS]


def _rotation(
    tables: tuple[Tensor, Tensor] | None, before: tuple[Tensor, Tensor], after: Any
) -> Rotation | None:
    """The way of the operator that gives what the model's function gave; None if neither does."""
    if tables is None or any(table.ndim != 2 for table in tables):
        return None
    size = tables[0].shape[1]
    head = before[0].shape[-1]
    if size % MULTIPLE or head % MULTIPLE or size > head:
        return None
    for interleaved in (False, True):
        half = slice(0, None, 2) if interleaved else slice(0, size // 2)
        cos, sin = (table[:, half].contiguous() for table in tables)
        rotation = Rotation(cos, sin, interleaved)
        if all(torch.equal(_turned(x, rotation), y) for x, y in zip(before, after, strict=True)):
            return rotation
    return None


def _turned(states: Tensor, rotation: Rotation) -> Tensor:
    """What the operator does to states [B, heads, T, head_dim] at the watched positions."""
    cos, sin = rotation.cos[POSITIONS], rotation.sin[POSITIONS]
    size = 2 * cos.shape[1]
    first, second = (
        (states[..., 0:size:2], states[..., 1:size:2])
        if rotation.interleaved
        else (states[..., : size // 2], states[..., size // 2 : size])
    )
    pair = (first * cos - second * sin, second * cos + first * sin)
    turned = torch.stack(pair, -1).flatten(-2) if rotation.interleaved else torch.cat(pair, -1)
    return torch.cat([turned, states[..., size:]], -1)
