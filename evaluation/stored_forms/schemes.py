"""Defines what each precision stores of a number, and what it reads back. One scheme per precision; knows no forms.

int8: the range of each dimension, lowest to highest value of the stored side, is cut into 255 steps. A code names its
step, as in `sentence_transformers.quantize_embeddings`, and is read back as the middle of the step. Code 255 is the
highest value alone, and read back as such; rounding may put it into the last step instead. A dimension with a single
value keeps it; values outside clip.

binary: a bit is x > 0 and scores as +1 or -1. No length is taken of the result, so that scores of two such vectors are
whole numbers and equal ones tie.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_STEPS: Final = 255
_OFFSET: Final = 128
"""Codes are stored as -128 to 127."""


class Ranges(NamedTuple):
    """The lowest and the highest value of each dimension, (D,) float32 each."""

    low: Floats
    high: Floats

    @property
    def steps(self) -> Floats:
        """(D,) float32 width of a step; 0 where a dimension has a single value."""
        return (self.high - self.low) / np.float32(_STEPS)


def int8_codes(vectors: Floats, ranges: Ranges) -> NDArray[np.int8]:
    """Returns (N, D) codes of (N, D) vectors."""
    steps = np.where(ranges.steps == 0, np.float32(1), ranges.steps)
    codes = np.clip(np.floor((vectors - ranges.low) / steps), 0, _STEPS)
    return (codes - _OFFSET).astype(np.int8)


def int8_values(codes: NDArray[np.int8], ranges: Ranges) -> Floats:
    """Returns the (N, D) float32 values that codes are read back as."""
    numbers = codes.astype(np.float32) + np.float32(_OFFSET)
    middles = ranges.low + (numbers + np.float32(0.5)) * ranges.steps
    return np.where(numbers == _STEPS, ranges.high, middles).astype(np.float32)


def binary_codes(vectors: Floats) -> NDArray[np.uint8]:
    """Returns (N, ceil(D / 8)) bytes, a bit per dimension, most significant bit first."""
    return np.packbits(vectors > 0, axis=-1)


def binary_values(codes: NDArray[np.uint8], n_dims: int) -> Floats:
    """Returns (N, D) float32 values, +1 and -1, of packed bits."""
    bits = np.unpackbits(codes, axis=-1, count=n_dims)
    return np.float32(2) * bits.astype(np.float32) - np.float32(1)


def float16_values(vectors: Floats) -> Floats:
    """Returns vectors as float16 holds them."""
    return vectors.astype(np.float16).astype(np.float32)
