"""Refuses vectors that must not become a score: not finite, without a usable length, or zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EncodingError

TINY_NORM = 1e-20
"""A vector this short, but not zero, has no direction in float32: the squares of its values are zero or nearly so."""


def check_vectors(vectors: NDArray[np.float32], texts: Sequence[str], *, allow_zero: bool = False) -> int:
    """Check raw pooled vectors before anything normalises them.

    Args:
        vectors: (U, D) float32.
        texts: The U texts, for messages.
        allow_zero: Keep vectors that are exactly zero, where the reference library gives them too (a StaticEmbedding of
            an empty text).

    Returns:
        How many vectors are exactly zero.

    Raises:
        EncodingError: A value or a norm is not finite in float32, or a norm is at most `TINY_NORM` and not zero; or a
            vector is zero and must not be.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))  # (U,) float32, as whoever normalises computes them
    values_finite = np.isfinite(vectors).all(axis=1)
    is_zero = ~vectors.any(axis=1)
    faults = (
        ("not finite (NaN or infinity)", ~values_finite),
        ("so long that its norm is not finite in float32", values_finite & ~np.isfinite(norms)),
        (f"so short (norm at most {TINY_NORM:g}) that it has no direction in float32", (norms <= TINY_NORM) & ~is_zero),
        ("zero", is_zero & (not allow_zero)),
    )
    for kind, bad in faults:
        if bad.any():
            first = texts[int(np.flatnonzero(bad)[0])][:80]
            raise EncodingError(
                f"{int(bad.sum())} of {len(texts)} vectors can't be used: the one of {first!r} is {kind}. "
                "Check the model's weights and dtype; no score is made of such vectors."
            )
    return int(is_zero.sum())
