"""
Complex numbers as pairs of real ones, for models that turn by multiplying them.

ONNX has no complex type. Inside `complex_as_pairs`, the three functions of torch by which such
a model enters and leaves complex numbers make and read a `Pairs`, which multiplies as they do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Pairs:
    """Complex numbers of any shape."""

    real: Tensor
    imaginary: Tensor

    @property
    def device(self) -> torch.device:
        return self.real.device

    def __mul__(self, other: Pairs | Tensor | float) -> Pairs:
        if not isinstance(other, Pairs):
            return Pairs(self.real * other, self.imaginary * other)
        return Pairs(
            self.real * other.real - self.imaginary * other.imaginary,
            self.real * other.imaginary + self.imaginary * other.real,
        )

    def __getitem__(self, index: Any) -> Pairs:
        return Pairs(self.real[index], self.imaginary[index])

    def unsqueeze(self, dim: int) -> Pairs:
        return Pairs(self.real.unsqueeze(dim), self.imaginary.unsqueeze(dim))

    def to(self, *args: Any, **kwargs: Any) -> Pairs:
        return Pairs(self.real.to(*args, **kwargs), self.imaginary.to(*args, **kwargs))


def polar(size: Tensor, angle: Tensor) -> Pairs:
    return Pairs(size * torch.cos(angle), size * torch.sin(angle))


def view_as_complex(states: Tensor) -> Pairs:
    return Pairs(states[..., 0], states[..., 1])


def view_as_real(pairs: Pairs) -> Tensor:
    return torch.stack([pairs.real, pairs.imaginary], dim=-1)


@contextmanager
def complex_as_pairs() -> Iterator[None]:
    """Inside this context torch has pairs instead of complex numbers."""
    functions = (polar, view_as_complex, view_as_real)
    before = {f.__name__: getattr(torch, f.__name__) for f in functions}
    try:
        for function in functions:
            setattr(torch, function.__name__, function)
        yield
    finally:
        for name, original in before.items():
            setattr(torch, name, original)
