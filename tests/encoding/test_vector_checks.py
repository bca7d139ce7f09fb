"""Vectors that must not become a score, with hand-checked norms, and the zeros that may."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.encoding.vector_checks import check_vectors
from evaluation.errors import EncodingError

TEXTS = ["sound", "bad"]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ([np.nan, 1.0], "not finite"),
        ([np.inf, 1.0], "not finite"),
        ([3e20, 4e20], "its norm is not finite in float32"),  # 5e20, whose square is 2.5e41: above 3.4e38
        ([3e-21, 4e-21], "so short"),  # 5e-21
        ([3e-24, 4e-24], "so short"),  # whose squares are zero in float32
        ([0.0, 0.0], "zero"),
    ],
)
def test_a_vector_without_a_usable_length_is_refused_by_its_text(row: list[float], kind: str) -> None:
    with pytest.raises(EncodingError, match=rf"1 of 2 vectors can't be used: the one of 'bad' is .*{kind}"):
        check_vectors(np.array([[3.0, 4.0], row], np.float32), TEXTS)


@pytest.mark.parametrize("scale", [1e-19, 1.0, 1e18])
def test_any_other_length_is_fine(scale: float) -> None:
    assert check_vectors(np.array([[3.0, 4.0], [3 * scale, 4 * scale]], np.float32), TEXTS) == 0


def test_exact_zeros_are_counted_where_they_are_allowed() -> None:
    rows = np.array([[0.0, 0.0], [1.0, 0.0]], np.float32)
    assert check_vectors(rows, TEXTS, allow_zero=True) == 1
    with pytest.raises(EncodingError, match="so short"):
        check_vectors(np.array([[0.0, 0.0], [0.0, 1e-30]], np.float32), TEXTS, allow_zero=True)
