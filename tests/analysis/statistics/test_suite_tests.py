"""The mean over tasks by hand and against scipy; ranks and groups of several models; planned power."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from support.populations import units

from evaluation.analysis.statistics.contributions import contributions, estimate, score_covariance, stacked
from evaluation.analysis.statistics.paired_tests import Difference, compare_units
from evaluation.analysis.statistics.power import examples_for, examples_to_rule_out, spread_of_changes, visible_drop
from evaluation.analysis.statistics.rank_tests import borda_points, borda_tests, corrected_pairs, groups, rank_intervals
from evaluation.analysis.statistics.suite_tests import TaskErrors, mean_differences, suite_difference
from evaluation.analysis.statistics.units import UnitPart, Units


def difference(value: float, error: float, df: float = 99.0, n: int = 100) -> Difference:
    return Difference(value, None, 0.5, 0.5, n, n_changed=n, error=error, df=df, n_clusters=n)


def test_mean_on_these_tasks_by_hand() -> None:
    """Errors 0.03 and 0.04: of the mean sqrt(0.0009 + 0.0016) / 2 = 0.025; Satterthwaite's degrees of freedom."""
    found = suite_difference([difference(0.02, 0.03), difference(0.06, 0.04)])
    df = 0.0025**2 / (0.0009**2 / 99 + 0.0016**2 / 99)
    assert (found.value, found.error, found.df) == pytest.approx((0.04, 0.025, df))
    assert found.p_two_sided == pytest.approx(2 * stats.t.sf(0.04 / 0.025, df))
    reach = stats.t.ppf(0.975, df) * 0.025
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((0.04 - reach, 0.04 + reach))
    assert found.other_tasks is None, "two tasks say nothing of others"


def test_rare_losses_of_a_small_task_bound_the_mean() -> None:
    """One of 12 queries lost 0.5: as many as 38 % may, and the task is half of the mean."""
    many = np.random.default_rng(0).normal(0.0, 0.01, 400)
    few = np.repeat([-0.5, 0.0], [1, 11])
    pairs = [[units("mean", "query", {"value": own}) for own in (each, np.zeros_like(each))] for each in (many, few)]
    found = suite_difference([compare_units(*pair) for pair in pairs])
    share = stats.binomtest(1, 12).proportion_ci(method="exact").high
    assert found.lower_bound == pytest.approx((many.mean() - 0.5 * share) / 2)
    assert found.interval is not None and found.lower_bound < found.interval.low


def test_mean_on_tasks_like_these_is_scipys_t_test_over_tasks() -> None:
    values = [0.02, 0.06, -0.01, 0.03, 0.05]
    found = suite_difference([difference(value, 0.001) for value in values]).other_tasks
    expected = stats.ttest_1samp(values, 0.0)
    assert found is not None and found.n_tasks == 5
    assert found.p_two_sided == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high))
    assert suite_difference([difference(value, 0.001) for value in values[:4]]).other_tasks is None


def test_noise_of_units_is_counted_once() -> None:
    """Equal tasks: the standard error on these tasks is that of all their units together."""
    rng = np.random.default_rng(0)
    values = [rng.normal(0, 0.2, n) for n in (400, 401, 402, 403)]
    pairs = [[units("mean", "query", {"value": own}) for own in (each, np.zeros_like(each))] for each in values]
    found = suite_difference([compare_units(*pair) for pair in pairs])
    assert found.error == pytest.approx(np.concatenate(values).std() / np.sqrt(1606), rel=0.02)


def test_tasks_on_the_same_sentences_are_not_independent() -> None:
    """Two tasks that err on the same sentences know no more than one; two on different ones know more."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.2, 300)
    zeros = units("mean", "query", {"value": np.zeros(300)})
    once = compare_units(units("mean", "query", {"value": values}), zeros)
    assert suite_difference([once, once]).error == pytest.approx(once.error)
    other = compare_units(units("mean", "query", {"value": rng.permutation(values)}), zeros)
    assert once.error is not None
    assert suite_difference([once, other]).error == pytest.approx(once.error / np.sqrt(2), rel=0.1)


def test_order_of_queries_does_not_matter() -> None:
    """The second task lists the same 300 queries the other way round."""
    rng = np.random.default_rng(0)
    values, ids = rng.normal(0, 0.2, 300), tuple(f"q{at}" for at in range(300))

    def of(values: NDArray[np.float64], ids: tuple[str, ...]) -> Units:
        return Units("T", "Retrieval", "m", "mean", "query", (UnitPart("test", "default", ids, {"value": values}),))

    once, turned = (compare_units(of(values[::step], ids[::step]), of(np.zeros(300), ids[::step])) for step in (1, -1))
    assert suite_difference([once, turned]).error == pytest.approx(suite_difference([once, once]).error)


def test_a_task_of_few_queries_is_no_part_of_the_mean() -> None:
    """One query that falls by 10 points has no standard error; it would count as known exactly."""
    rng = np.random.default_rng(0)
    values = {"large": rng.normal(0, 0.2, 1_000), "tiny": np.array([-0.1])}
    found = [
        compare_units(*(units("mean", "query", {"value": side}) for side in (own, np.zeros_like(own))))
        for own in values.values()
    ]
    assert suite_difference(found).n_tasks == 1
    assert suite_difference(found).value == pytest.approx(found[0].value)


def test_clustering_takes_no_part_and_a_single_task_has_a_mean() -> None:
    algorithm = Difference(-0.5, None, None, None, 10, "algorithm noise only", error=0.01)
    assert suite_difference([difference(0.02, 0.03), algorithm]).value == 0.02
    assert suite_difference([algorithm]).n_tasks == 0


def test_suite_of_tasks_that_all_fall_alike_is_certain() -> None:
    ones, zeros = (units("mean", "query", {"value": np.full(500, value)}) for value in (1.0, 0.0))
    found = suite_difference([compare_units(zeros, ones)] * 3)
    assert found.p_drop is not None and found.p_drop < 1e-300
    same = suite_difference([compare_units(ones, ones)] * 3)
    assert (same.value, same.interval, same.p_two_sided, same.p_drop) == (0.0, None, 1.0, 1.0)


# ----------------------------------------------------------------------------------------------------- many models


def test_pairs_are_corrected_together() -> None:
    p = np.array([[np.nan, 0.01, 0.04], [0.01, np.nan, 0.5], [0.04, 0.5, np.nan]])
    expected = np.array([[np.nan, 0.03, 0.08], [0.03, np.nan, 0.5], [0.08, 0.5, np.nan]])
    assert corrected_pairs(p) == pytest.approx(expected, nan_ok=True)


def test_ranks_and_groups_by_hand() -> None:
    """a beats c and d, b beats d; a-b, b-c and c-d are not separated."""
    differences = np.array([[0, 1, 2, 3], [-1, 0, 1, 2], [-2, -1, 0, 1], [-3, -2, -1, 0]], float)
    p = np.ones((4, 4))
    for one, two in ((0, 2), (0, 3), (1, 3)):
        p[one, two] = p[two, one] = 0.01
    assert rank_intervals(differences, p, 0.05) == [(1, 2), (1, 3), (2, 4), (3, 4)]
    assert groups([0, 1, 2, 3], p, 0.05) == [[0, 1], [1, 2], [2, 3]]
    assert groups([0, 1, 2, 3], np.ones((4, 4)), 0.05) == [[0, 1, 2, 3]]
    assert groups([0, 1, 2, 3], np.zeros((4, 4)), 0.05) == []


def test_borda_points_by_hand() -> None:
    scores = np.array([[3.0, 1.0], [2.0, 1.0], [1.0, 5.0]])
    assert sum(borda_points(task) for task in scores.T).tolist() == [2.5, 1.5, 2.0]


def test_borda_test_separates_what_wins_everywhere_and_not_what_is_noise() -> None:
    scores = np.array([[60.0] * 20, [50.0] * 20, [50.01, 49.99] * 10])
    differences, p = borda_tests(scores, [np.eye(3)] * 20, seed=0)
    assert differences[0, 1] == 30.0
    assert p[0, 1] < 1e-6 and p[1, 2] > 0.5


def test_covariance_of_scores_is_that_of_paired_means() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 50)) + rng.normal(size=50)
    found = score_covariance(stacked([contributions(units("mean", "query", {"value": own})) for own in values]))
    assert found == pytest.approx(np.cov(values) / 50)


# ------------------------------------------------------------------------------------------------------------ power


def test_planned_power_is_the_normal_tests() -> None:
    assert visible_drop(1.0, 0.05) == pytest.approx(stats.norm.ppf(0.95) + stats.norm.ppf(0.8))
    n = examples_for(30.0, 2.0, 0.01)
    power = [stats.norm.cdf(2.0 * np.sqrt(each) / 30.0 - stats.norm.ppf(0.99)) for each in (n - 1, n)]
    assert power[0] < 0.8 <= power[1]
    assert examples_to_rule_out(0.5, 1.0) == pytest.approx((2.801585 / 2) ** 2)


def test_spread_of_changes_is_that_of_answers_that_turn() -> None:
    turned = np.array([1.0] * 5 + [-1.0] * 5 + [0.0] * 90)
    assert spread_of_changes(0.1) == pytest.approx(turned.std())


@pytest.mark.full
def test_nine_equal_models_are_rarely_separated() -> None:
    """2,000 sets of seven tasks: "X is better than Y" for any of 36 pairs in at most 5 %, up to simulation error."""
    rng, upper, n_sets = np.random.default_rng(6), np.triu_indices(9, 1), 2_000
    n_separated = 0
    for _ in range(n_sets):
        errors = []
        for task in range(7):
            scores = rng.normal(0.5, 0.2, 60) + rng.normal(0.0, 0.2, (9, 60))
            models = stacked([contributions(units("mean", "query", {"value": own})) for own in scores])
            own = estimate(models[upper[0]] - models[upper[1]])
            errors.append(TaskErrors(own.point, own.error, own.df, own.n_changed, own.residuals, task + 1))
        p = np.full((9, 9), np.nan)
        p[upper] = [pair.p_two_sided for pair in mean_differences(errors)]
        n_separated += bool(np.nanmin(corrected_pairs(p)) < 0.05)
    assert n_separated / n_sets <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / n_sets)
