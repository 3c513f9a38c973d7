"""
The grid: weights in a few bits, a block of neighbours sharing one scale.

A block w of a row is stored as codes c in [0, 2^b), a float32 scale s and a zero point z, and stands
for (c - z) * s. Rounding twice changes nothing.

Symmetric: z is 2^(b-1) and not stored, and the scale is the number of largest size over -z, so that
this number is kept exactly. It is the symmetric block quantisation of onnxruntime's MatMulNBits and
of llama.cpp's Q4_0. Asymmetric: the codes reach from the smallest number of the block to the largest,
zero among them, which is finer where a block leans to one side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = {"int4": 4, "int8": 8}
BLOCKS = (16, 32, 64, 128, 256)
BLOCK = 32  # where nothing else is said
DROPPED = np.uint32(0xFF)  # bits of an asymmetric scale: the other 16, times up to 8 of a code, are exact

Weights = NDArray[np.float32]
Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Grid:
    """How finely weights are stored.

    bits       4 or 8
    block      numbers along a row that share a scale
    symmetric  whether zero is in the middle of the codes
    """

    bits: int
    block: int
    symmetric: bool = True

    def rounded(self, weights: Weights) -> Weights:
        """The nearest weights [N, K] that can be stored."""
        return _decode(*self._round(weights))[:, : weights.shape[1]]

    def encode(self, weights: Weights) -> tuple[Codes | Weights, ...] | None:
        """Codes uint8 [N, C, block * bits / 8], scales [N, C] and, asymmetric, zero points [N, C * bits / 8].

        None unless they give back every bit. C is K / block, rounded up: the last block is filled
        with zeros. Of two codes, or zero points, that share a byte the first is the lower half.
        """
        codes, scales, zeros = self._round(weights)
        if not np.array_equal(_decode(codes, scales, zeros)[:, : weights.shape[1]], weights):
            return None
        packed = self._packed(codes), scales[..., 0]
        return packed if self.symmetric else (*packed, self._packed(zeros[..., 0]))

    def _round(self, weights: Weights) -> tuple[NDArray[np.int16], Weights, NDArray[np.int16]]:
        """Codes [N, C, block], scales and zero points [N, C, 1]."""
        filled = np.pad(weights, [(0, 0), (0, -weights.shape[1] % self.block)])
        blocks = filled.reshape(len(weights), -1, self.block)
        return self._round_evenly(blocks) if self.symmetric else self._round_between(blocks)

    def _round_evenly(self, blocks: Weights) -> tuple[NDArray[np.int16], Weights, NDArray[np.int16]]:
        most = 2 ** (self.bits - 1)
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
        scales = largest / np.float32(-most)
        numbers = np.clip(_quotient(blocks, scales), -most, most - 1)
        return (numbers + most).astype(np.int16), scales, np.full(scales.shape, most, np.int16)

    def _round_between(self, blocks: Weights) -> tuple[NDArray[np.int16], Weights, NDArray[np.int16]]:
        top = 2**self.bits - 1
        low = np.minimum(blocks.min(-1, keepdims=True), 0)
        high = np.maximum(blocks.max(-1, keepdims=True), 0)
        scales = _shortened((high - low) / np.float32(top))
        zeros = _quotient(-low, scales)
        codes = np.clip(_quotient(blocks, scales) + zeros, 0, top)
        codes = np.where(
            blocks == low, 0, np.where(blocks == high, top, codes)
        )  # so that they are found again
        return codes.astype(np.int16), scales, zeros.astype(np.int16)

    def _packed(self, codes: NDArray[np.int16]) -> Codes:
        small: Codes = codes.astype(np.uint8)
        if self.bits == 4:
            small = np.pad(small, [(0, 0)] * (small.ndim - 1) + [(0, small.shape[-1] % 2)])
            small = (small[..., 0::2] | small[..., 1::2] << 4).astype(np.uint8)
        return np.ascontiguousarray(small)


def _quotient(numbers: Weights, scales: Weights) -> Weights:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(scales == 0, 0, np.rint(numbers / scales)).astype(np.float32)


def _shortened(scales: Weights) -> Weights:
    """The next numbers up that need no more than 16 bits."""
    return ((scales.view(np.uint32) + DROPPED) & ~DROPPED).view(np.float32)


def _decode(codes: NDArray[np.int16], scales: Weights, zeros: NDArray[np.int16]) -> Weights:
    return ((codes - zeros) * scales).astype(np.float32).reshape(len(codes), -1)
