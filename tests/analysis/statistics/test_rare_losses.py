"""The bound of a drop where few units changed, on subsets small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from support.populations import units

from evaluation.analysis.statistics.contributions import contributions, estimate
from evaluation.analysis.statistics.rare_losses import rare_loss_bound


def bound(*changes: np.ndarray) -> float | None:
    found = contributions(units("mean", "query", *({"value": own} for own in changes)))
    return rare_loss_bound(estimate(found), found.clusters, 0.95)


def upper(changed: int, n: int) -> float:
    return float(stats.binomtest(changed, n).proportion_ci(method="exact").high)


def lost(changed: int, n: int, by: float) -> np.ndarray:
    return np.repeat([-by, 0.0], [changed, n - changed])


def test_unchanged_units_bound_a_drop_by_the_rule_of_three() -> None:
    assert bound(np.zeros(300)) == pytest.approx(-(1 - 0.05 ** (1 / 300)))
    assert bound(np.zeros(300)) == pytest.approx(-3 / 300, rel=0.01)


def test_small_silent_subset_bounds_the_drop_however_large_the_other() -> None:
    """22 % of 12 silent queries can lose everything, and they are half of the score."""
    assert bound(lost(3, 1000, 0.25), lost(0, 12, 0.0)) == pytest.approx(-0.5 * (1 - 0.05 ** (1 / 12)))
    assert bound(lost(20, 1000, 0.25), lost(0, 12, 0.0)) == pytest.approx(-0.5 * (1 - 0.05 ** (1 / 12)))
    assert bound(lost(3, 1000, 0.25), lost(1, 12, 0.1)) == pytest.approx(-0.5 * 0.1 * upper(1, 12))


def test_few_changes_of_one_subset_bound_as_many_as_can_change() -> None:
    assert bound(lost(3, 80, 0.5)) == pytest.approx(-0.5 * upper(3, 80))
    assert bound(lost(9, 9, 0.5)) == pytest.approx(-0.5), "all changed"
    assert bound(lost(10, 80, 0.5)) is None, "their spread bounds the drop"


def test_parallel_subsets_are_as_many_units_as_one_of_them() -> None:
    found = contributions(units("mean", "query", {"value": np.zeros(150)}, {"value": np.zeros(150)}))
    assert found.clusters.weights.shape == (150,)
    assert rare_loss_bound(estimate(found), found.clusters, 0.95) == pytest.approx(-(1 - 0.05 ** (1 / 150)))
