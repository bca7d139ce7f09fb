"""Refuses vectors that must not become a score: not finite, without a usable length, or zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import EncodingError

TINY_NORM = 1e-20
"""A vector this short, but not zero, has no direction in float32: the squares of its values are zero or nearly so."""


_UNKNOWN = "Check the model's files and the precision that it runs in."
_REMEDIES = {
    "float16": "The forward pass ran in float16, which holds no number above 65,504: set dtype: bfloat16 or float32.",
    "bfloat16": "The forward pass ran in bfloat16: set dtype: float32.",
    "float32": "The forward pass ran in float32, so check the model's files; they may be damaged.",
}


def check_vectors(
    vectors: NDArray[np.float32], texts: Sequence[str], *, allow_zero: bool = False, dtype: str | None = None
) -> int:
    """Check raw pooled vectors before anything normalises them.

    Args:
        vectors: (U, D) float32.
        texts: The U texts, for messages.
        allow_zero: Keep vectors that are exactly zero, where the reference library gives them too (a StaticEmbedding of
            an empty text).
        dtype: The precision of the forward pass, for messages; None where it is not known.

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
                f"No score is made of such vectors. {_REMEDIES.get(dtype or '', _UNKNOWN)}"
            )
    return int(is_zero.sum())
