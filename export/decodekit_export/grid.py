"""
The grid: weights in a few bits, a block of neighbours sharing one scale.

A block w of a row is stored as whole numbers q in [-2^(b-1), 2^(b-1)) and a float32 scale s, and
stands for q * s. The scale is the number of largest size over -2^(b-1), so that this number is kept
exactly; the others are rounded to the nearest. It is the symmetric block quantisation of
onnxruntime's MatMulNBits and of llama.cpp's Q4_0. Rounding twice changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = {"int4": 4, "int8": 8}
BLOCKS = (16, 32, 64, 128, 256)

Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Grid:
    """How finely weights are stored.

    bits   4 or 8
    block  numbers along a row that share a scale
    """

    bits: int
    block: int

    def rounded(self, weights: Weights) -> Weights:
        """The nearest weights [N, K] that can be stored."""
        return self._decode(*self._round(weights))[:, : weights.shape[1]]

    def encode(self, weights: Weights) -> tuple[NDArray[np.uint8], Weights] | None:
        """Codes uint8 [N, C, block * bits / 8] and scales [N, C]; None unless both give back every bit.

        C is K / block, rounded up: the last block is filled with zeros. A code is q + 2^(bits - 1);
        of two that share a byte the first is the lower half.
        """
        numbers, scales = self._round(weights)
        if not np.array_equal(self._decode(numbers, scales)[:, : weights.shape[1]], weights):
            return None
        codes = (numbers + 2 ** (self.bits - 1)).astype(np.uint8)
        if self.bits == 4:
            codes = codes[..., 0::2] | codes[..., 1::2] << 4
        return np.ascontiguousarray(codes), scales

    def _round(self, weights: Weights) -> tuple[NDArray[np.int16], Weights]:
        """Numbers [N, C, block] and scales [N, C]."""
        most = 2 ** (self.bits - 1)
        filled = np.pad(weights, [(0, 0), (0, -weights.shape[1] % self.block)])
        blocks = filled.reshape(len(weights), -1, self.block)
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
        scales = largest / np.float32(-most)
        with np.errstate(divide="ignore", invalid="ignore"):
            numbers = np.where(scales == 0, 0, np.rint(blocks / scales))
        return np.clip(numbers, -most, most - 1).astype(np.int16), scales[..., 0]

    def _decode(self, numbers: NDArray[np.int16], scales: Weights) -> Weights:
        return (numbers * scales[..., None]).astype(np.float32).reshape(len(numbers), -1)
