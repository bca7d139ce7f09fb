"""Sign flips and intervals by hand and against scipy on the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from evaluation.analysis.statistics.intervals import t_interval, t_p_drop, uniform_change_interval, wilson_interval
from evaluation.analysis.statistics.sign_flips import FlipTest, Resampling, exact_p_drop, flip_tests


def skewed(n: int = 80) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).beta(0.4, 1.5, n)


def mean_difference(first: Any, second: Any, axis: int) -> Any:
    return np.mean(first, axis=axis) - np.mean(second, axis=axis)


def flip_test(contributions: Any, weights: Any, confidence: float, resampling: Resampling) -> FlipTest:
    (found,) = flip_tests(np.asarray(contributions)[None], weights, confidence, resampling)
    return found


def scipys_p(first: Any, second: Any, alternative: Any) -> float:
    test = stats.permutation_test(
        (first, second),
        mean_difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=10_000,
        alternative=alternative,
        rng=np.random.default_rng(1),
    )
    return float(test.pvalue)


def test_exact_p_of_three_pairs_by_hand() -> None:
    """Differences -1 -2 -3: of eight patterns of signs one sum is as low as -6; of 1 -2 -3 two are as low as -4."""
    assert exact_p_drop(np.array([-1.0, -2.0, -3.0])) == 1 / 8
    assert exact_p_drop(np.array([1.0, -2.0, -3.0])) == 2 / 8
    assert exact_p_drop(np.array([0.0, 0.0, 1.0])) == 1.0, "units without a difference have no sign"


def test_few_units_have_scipys_exact_p() -> None:
    first, second = skewed(12), skewed(30)[18:]
    assert exact_p_drop((first - second) / 12) == pytest.approx(scipys_p(first, second, "less"), abs=1e-12)


def test_many_units_have_scipys_p_up_to_the_draw() -> None:
    first, second = skewed(), skewed()[::-1] + 0.07
    found = flip_test((first - second) / 80, np.full(80, 1 / 80), 0.95, Resampling())
    assert found.n_drop / found.n == pytest.approx(scipys_p(first, second, "less"), abs=0.015)
    assert found.n_rise / found.n == pytest.approx(scipys_p(first, second, "greater"), abs=0.015)


def test_ends_of_the_interval_are_where_the_test_begins_to_reject() -> None:
    """Shifted to an end of its interval the mean is just not rejected; a little further it is."""
    differences, weights = skewed(40) - 0.2, np.full(40, 1 / 40)
    found = flip_test(differences / 40, weights, 0.95, Resampling())
    for end, side in ((found.interval.low, 1), (found.interval.high, -1)):
        p = [
            flip_test((differences - end - side * shift) / 40, weights, 0.95, Resampling()) for shift in (0.002, -0.002)
        ]
        inside, outside = ([one.n_rise / one.n, one.n_drop / one.n][side < 0] for one in p)
        assert outside <= 0.025 <= inside


def test_interval_of_ten_values_is_close_to_students() -> None:
    values = np.random.default_rng(4).normal(0.3, 1.0, 10)
    found = flip_test(values / 10, np.full(10, 0.1), 0.95, Resampling()).interval
    expected = stats.ttest_1samp(values, 0.0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.2)


def test_p_beyond_what_the_draws_resolve_is_anothers_up_to_a_limit() -> None:
    """No draw lies beyond the observed signs, which count as one of the patterns: at most 1 + 2 + 2 of 1,001."""
    values = np.linspace(-0.5, -0.4, 60)
    found = flip_test(values / 60, np.full(60, 1 / 60), 0.95, Resampling(1000))
    assert (found.n_drop, found.n) == (1, 1001)
    assert found.p_drop(1e-9) == 1e-9
    assert found.p_drop(0.07) == pytest.approx(5 / 1001)
    assert found.p_rise(0.5) == pytest.approx(1.0), "resolved"


def test_t_interval_and_p_are_scipys_paired_ones() -> None:
    first, second = skewed(), skewed()[::-1] + 0.02
    difference = first - second
    expected = stats.ttest_rel(first, second)
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    interval = t_interval(difference.mean(), error, len(difference) - 1, 0.95)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    less = stats.ttest_rel(first, second, alternative="less").pvalue
    assert t_p_drop(difference.mean(), error, len(difference) - 1) == pytest.approx(less)


def test_wilson_interval_of_a_correlation_stays_between_its_limits() -> None:
    found = wilson_interval(0.98, 0.02, 30, 1.96, (-1.0, 1.0))
    assert -1.0 < found.low < 0.98 < found.high < 1.0
    assert wilson_interval(1.0, 0.0, 30, 1.96, (-1.0, 1.0)).high == 1.0


def test_change_that_all_units_share_is_at_most_their_own() -> None:
    """Ten of ten: Wilson's lower limit is 10 / (10 + 1.96**2)."""
    found = uniform_change_interval(-0.5, 10, 0.95)
    assert (found.low, found.high) == (-0.5, pytest.approx(-0.5 * 10 / (10 + 1.959964**2)))


def test_several_differences_are_tested_as_each_alone() -> None:
    """More than fit into one block."""
    several = np.random.default_rng(5).normal(0.0, 1.0, (40, 30)) / 30
    weights = np.full(30, 1 / 30)
    together = flip_tests(several, weights, 0.95, Resampling(500))
    alone = [flip_test(own, weights, 0.95, Resampling(500)) for own in several]
    assert [one.n_drop for one in together] == [one.n_drop for one in alone]
    ends = [[(one.interval.low, one.interval.high) for one in found] for found in (together, alone)]
    assert np.allclose(*ends, rtol=0, atol=1e-12)
