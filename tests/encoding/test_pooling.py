"""Pooling and normalising: numbers by hand, then a plain loop and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.preprocessing import normalize

from evaluation.config.grid import Pooling
from evaluation.encoding.pooling import l2_normalize, pool

HIDDEN = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, -100.0]], [[5.0, 6.0], [7.0, 8.0], [0.0, 1.0]]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


def loop(hidden: torch.Tensor, mask: torch.Tensor, how: Pooling) -> torch.Tensor:
    """The definition: a row and a token at a time."""
    rows = []
    for states, kept in zip(hidden.float(), mask, strict=True):
        tokens = [state for state, keep in zip(states, kept, strict=True) if keep]
        rows.append({"mean": sum(tokens) / len(tokens), "cls": tokens[0], "last": tokens[-1]}[how])
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("mean", [[2.0, 3.0], [4.0, 5.0]]),
        ("cls", [[1.0, 2.0], [5.0, 6.0]]),
        ("last", [[3.0, 4.0], [0.0, 1.0]]),
    ],
)
def test_pool_gives_hand_checked_numbers(how: Pooling, expected: list[list[float]]) -> None:
    assert pool(HIDDEN, MASK, how).tolist() == expected


@pytest.mark.parametrize("how", ["mean", "cls", "last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_pool_equals_a_plain_loop(how: Pooling, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(7, 11, 5, generator=generator).to(dtype)
    lengths = torch.tensor([1, 11, 2, 7, 1, 10, 3])
    mask = (torch.arange(11) < lengths[:, None]).long()
    pooled = pool(hidden, mask, how)
    assert pooled.dtype == torch.float32
    assert torch.allclose(pooled, loop(hidden, mask, how), rtol=0, atol=1e-6)


@pytest.mark.parametrize("how", ["mean", "cls", "last"])
def test_pool_ignores_padding(how: Pooling) -> None:
    other = HIDDEN.clone()
    other[0, 2] = 30_000.0
    assert torch.equal(pool(HIDDEN, MASK, how), pool(other, MASK, how))
    assert torch.allclose(pool(HIDDEN[:1, :2], MASK[:1, :2], how), pool(HIDDEN, MASK, how)[:1])


def test_mean_of_many_half_precision_states_is_not_rounded() -> None:
    hidden = torch.ones(1, 4_097, 1, dtype=torch.bfloat16)  # summed in bfloat16, ones stop counting at 256
    assert pool(hidden, torch.ones(1, 4_097, dtype=torch.long), "mean").item() == 1.0


def test_pool_leaves_its_arguments_alone() -> None:
    hidden, mask = HIDDEN.clone(), MASK.clone()
    pool(hidden, mask, "mean")
    assert torch.equal(hidden, HIDDEN)
    assert torch.equal(mask, MASK)


def test_l2_normalize_gives_hand_checked_rows() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, -2.0]], np.float32)
    unit = l2_normalize(vectors)
    assert np.allclose(unit, [[0.6, 0.8], [0.0, -1.0]], rtol=0, atol=1e-7)
    assert unit.dtype == np.float32
    assert vectors[0, 0] == 3.0


def test_zero_row_stays_zero() -> None:
    assert l2_normalize(np.zeros((2, 3), np.float32)).tolist() == [[0.0] * 3] * 2


def test_no_rows_stay_no_rows() -> None:
    assert l2_normalize(np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_l2_normalize_equals_scikit_learn() -> None:
    vectors = np.random.default_rng(5).normal(size=(50, 8)).astype(np.float32) * 40
    assert np.allclose(l2_normalize(vectors), normalize(vectors), rtol=0, atol=1e-6)
