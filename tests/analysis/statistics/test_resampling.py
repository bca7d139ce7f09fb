"""Intervals and p-values against scipy on the same numbers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from evaluation.analysis.statistics.resampling import (
    KeptDraws,
    bca_interval,
    blocks,
    chances,
    draw_counts,
    percentile_interval,
    resampled_means,
    sign_flips,
    swaps,
    t_chances,
    t_interval,
)


def generator() -> np.random.Generator:
    return np.random.default_rng(3)


def skewed(n: int = 80) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).beta(0.4, 1.5, n)


def test_blocks_cover_every_row_once() -> None:
    rows = [row for part in blocks(3000, 17) for row in range(part.start, part.stop)]
    assert rows == list(range(17))


@pytest.mark.parametrize(("n", "n_resamples"), [(5, 4000), (3000, 3000), (20_000, 3)])
def test_counts_are_those_of_draws_with_replacement(n: int, n_resamples: int) -> None:
    drawn = generator().integers(0, n, (n_resamples, n))
    found = np.full((n, n_resamples), np.nan)
    for columns, counts in draw_counts(generator(), n, n_resamples):
        found[:, columns] = counts
    assert [np.bincount(row, minlength=n).tolist() for row in drawn[[0, -1]]] == found.T[[0, -1]].tolist()
    assert (found.sum(axis=0) == n).all()


@pytest.mark.parametrize("decimals", [1, 12])
def test_resampled_means_have_the_bootstraps_moments(decimals: int) -> None:
    """Few distinct values are drawn another way than many."""
    values = np.round(skewed(400), decimals)
    means = resampled_means(generator(), values, 20_000)
    assert means.mean() == pytest.approx(values.mean(), abs=4 * values.std() / 20 / 141)
    assert means.std() == pytest.approx(values.std() / 20, rel=0.03)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_bca_interval_is_scipys_on_the_same_draws(confidence: float) -> None:
    values = skewed()
    draws = resampled_means(generator(), values, 5000)
    found = bca_interval(draws, values.mean(), (values - values.mean()) / len(values), confidence)
    given: Any = SimpleNamespace(bootstrap_distribution=draws)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=0, bootstrap_result=given, confidence_level=confidence, method="BCa"
    ).confidence_interval
    assert (found.low, found.high, found.method) == (pytest.approx(expected.low), pytest.approx(expected.high), "BCa")


def test_percentile_interval_is_scipys_on_the_same_draws() -> None:
    draws = resampled_means(generator(), skewed(), 5000)
    given: Any = SimpleNamespace(bootstrap_distribution=draws)
    expected = stats.bootstrap((skewed(),), np.mean, n_resamples=0, bootstrap_result=given, method="percentile")
    found = percentile_interval(draws, 0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval))


def test_few_degrees_of_freedom_widen_both_intervals() -> None:
    values = skewed()
    draws = resampled_means(generator(), values, 5000)
    pulls = (values - values.mean()) / len(values)
    for wide, narrow in (
        (bca_interval(draws, values.mean(), pulls, 0.95, df=5), bca_interval(draws, values.mean(), pulls, 0.95)),
        (percentile_interval(draws, 0.95, df=5), percentile_interval(draws, 0.95)),
    ):
        assert wide.low < narrow.low < values.mean() < narrow.high < wide.high


def test_draws_on_one_side_of_the_point_give_percentiles() -> None:
    interval = bca_interval(np.linspace(0.5, 0.6, 101), 0.4, np.array([-0.1, 0.1]), 0.9)
    assert interval.method == "percentile"
    assert (interval.low, interval.high) == pytest.approx((0.505, 0.595))


def test_t_interval_and_test_are_scipys_paired_ones() -> None:
    first, second = skewed(), skewed()[::-1] + 0.02
    difference = first - second
    expected = stats.ttest_rel(first, second)
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    interval = t_interval(difference.mean(), error, len(difference) - 1, 0.95)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    found = t_chances(difference.mean(), error, len(difference) - 1)
    assert found.two_sided == pytest.approx(expected.pvalue)
    assert found.drop == pytest.approx(stats.ttest_rel(first, second, alternative="less").pvalue)


def mean_difference(first: Any, second: Any, axis: int) -> Any:
    return np.mean(first, axis=axis) - np.mean(second, axis=axis)


def scipys_chance(first: Any, second: Any, alternative: Any) -> float:
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


def test_few_units_give_scipys_exact_chances() -> None:
    first, second = skewed(12), skewed(30)[18:]
    difference = (first - second) / 12
    permuted, exact = sign_flips(generator(), difference, 10_000)
    found = chances(difference.sum(), permuted, exact=exact)
    assert found.two_sided == pytest.approx(scipys_chance(first, second, "two-sided"), abs=1e-12)
    assert found.drop == pytest.approx(scipys_chance(first, second, "less"), abs=1e-12)


def test_many_units_give_scipys_chances_up_to_the_draw() -> None:
    first, second = skewed(), skewed()[::-1] + 0.07
    difference = (first - second) / len(first)
    permuted, exact = sign_flips(generator(), difference, 10_000)
    found = chances(difference.sum(), permuted, exact=exact)
    assert 0.02 < found.two_sided < 0.4
    assert found.two_sided == pytest.approx(scipys_chance(first, second, "two-sided"), abs=0.02)
    assert found.drop == pytest.approx(scipys_chance(first, second, "less"), abs=0.015)


def test_chances_count_the_data_itself_among_random_permutations() -> None:
    """One of four as far, none as low; the data's own is the fifth."""
    found = chances(-2.0, np.array([0.0, 1.0, 2.0, -1.0]), exact=False)
    assert found == (pytest.approx(2 / 5), pytest.approx(1 / 5))


def test_exact_chances_of_three_pairs_by_hand() -> None:
    """Differences -1 -2 -3: of eight signs two sums are as far from 0 as -6, one as low."""
    permuted, exact = sign_flips(generator(), np.array([-1.0, -2.0, -3.0]), 100)
    assert sorted(permuted) == [-6, -4, -2, 0, 0, 2, 4, 6]
    assert chances(-6.0, permuted, exact=exact) == (0.25, 0.125)


def test_units_without_a_difference_do_not_count_as_signs() -> None:
    permuted, exact = sign_flips(generator(), np.array([0.0] * 5000 + [1.0]), 100)
    assert (sorted(permuted), exact) == ([-1.0, 1.0], True)


@pytest.mark.parametrize(("n", "n_resamples"), [(50, 3000), (4000, 1500)])
def test_swaps_are_fair_and_cover_all_resamples(n: int, n_resamples: int) -> None:
    found = np.full((n, n_resamples), np.nan)
    for columns, swapped in swaps(generator(), n, n_resamples):
        found[:, columns] = swapped
    assert set(np.unique(found)) == {0.0, 1.0}
    assert found.mean() == pytest.approx(0.5, abs=0.01)


def test_sums_under_random_signs_have_the_moments_of_such_sums() -> None:
    values = skewed(37)
    sums, exact = sign_flips(generator(), values, 20_000)
    assert not exact
    assert sums.mean() == pytest.approx(0.0, abs=4 * np.sqrt(np.sum(values**2) / 20_000))
    assert sums.var() == pytest.approx(np.sum(values**2), rel=0.03)
    single, _ = sign_flips(generator(), np.array([0.5] + [1e-9] * 40), 4000)
    assert set(np.round(single, 6)) == {0.5, -0.5}


def test_kept_draws_are_made_once_and_leave_the_generator_where_drawing_would() -> None:
    kept, made = KeptDraws(), []

    def draw(rng: np.random.Generator) -> Any:
        return kept.get(rng, "numbers", 10, 1, lambda: made.append(1) or rng.integers(0, 9, 10))

    first, second, other = generator(), generator(), np.random.default_rng(4)
    assert draw(first).tolist() == draw(second).tolist() != draw(other).tolist()
    assert len(made) == 2
    assert first.random() == second.random()


def test_oldest_kept_draws_go_first() -> None:
    kept, made = KeptDraws(max_bytes=200), []
    for seed in (0, 1, 0, 2, 0):  # 80 bytes each
        kept.get(np.random.default_rng(seed), "numbers", 10, 1, lambda seed=seed: made.append(seed) or np.zeros(10))  # type: ignore[misc]
    assert made == [0, 1, 2, 0]
    assert kept.keeps(10, 1, np.int64) and not kept.keeps(13, 1, np.int64)
