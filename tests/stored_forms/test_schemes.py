"""What each precision stores of a number and reads back: by hand, then as sentence-transformers codes it."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.stored_forms.schemes import (
    Ranges,
    binary_codes,
    binary_values,
    float16_values,
    int8_codes,
    int8_values,
)

RANGES = Ranges(np.array([0.0, -51.0, 0.5], np.float32), np.array([255.0, 459.0, 0.5], np.float32))
"""Steps of 1 and of 2, and a dimension with a single value."""


def test_int8_codes_name_their_step_and_clip() -> None:
    vectors = np.array([[0.0, -51, 0.5], [0.99, 203.5, 0.5], [254.5, 459, 0.5], [255.0, 999, 0.5], [-7.0, -52, 0.5]])
    codes = int8_codes(vectors.astype(np.float32), RANGES)
    assert codes.tolist() == [[-128, -128, -128], [-128, -1, -128], [126, 127, -128], [127, 127, -128], [-128] * 3]


def test_int8_is_read_back_to_the_middle_of_a_step() -> None:
    codes = np.array([[-128, -1, -128], [126, 127, -128], [127, -128, -128]], np.int8)
    assert int8_values(codes, RANGES).tolist() == [[0.5, 204, 0.5], [254.5, 459, 0.5], [255, -50, 0.5]]


def test_int8_codes_are_those_of_sentence_transformers() -> None:
    from sentence_transformers.util import quantize_embeddings

    vectors = np.random.default_rng(3).normal(size=(500, 48)).astype(np.float32)
    stored, others = vectors[:400], vectors[400:] * 2  # some of the others lie outside
    ranges = np.stack([stored.min(axis=0), stored.max(axis=0)])
    for rows in (stored, others):
        expected = quantize_embeddings(rows, "int8", ranges=ranges)
        np.testing.assert_array_equal(int8_codes(rows, Ranges(*ranges)), expected)


def test_int8_reads_back_within_half_a_step() -> None:
    vectors = np.random.default_rng(4).normal(size=(300, 16)).astype(np.float32)
    ranges = Ranges(vectors.min(axis=0), vectors.max(axis=0))
    error = np.abs(int8_values(int8_codes(vectors, ranges), ranges) - vectors)
    assert (error <= 0.501 * ranges.steps).all()
    assert error.max() > 0.4 * ranges.steps.min()


def test_binary_is_a_bit_per_dimension_scored_as_plus_and_minus_one() -> None:
    vectors = np.array([[0.1, -0.1, 0.0, 3, 1, 1, -1, 1, 0.5], [-1] * 9], np.float32)
    codes = binary_codes(vectors)
    assert codes.tolist() == [[0b10011101, 0b10000000], [0, 0]]
    assert binary_values(codes, 9).tolist() == [[1, -1, -1, 1, 1, 1, -1, 1, 1], [-1] * 9]


def test_binary_bits_are_those_of_sentence_transformers() -> None:
    from sentence_transformers.util import quantize_embeddings

    vectors = np.random.default_rng(5).normal(size=(20, 40)).astype(np.float32)
    np.testing.assert_array_equal(binary_codes(vectors), quantize_embeddings(vectors, "ubinary"))


@pytest.mark.parametrize(("value", "stored"), [(0.1, 0.0999755859375), (1.0, 1.0), (65504.0, 65504.0)])
def test_float16_keeps_eleven_bits(value: float, stored: float) -> None:
    assert float16_values(np.array([[value]], np.float32)).tolist() == [[stored]]
