"""Intervals, differences and corrections by hand and against scipy; coverage and false alarms by simulation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support import populations
from support.populations import Pair, Rng, codes, units

from evaluation.analysis.statistics.contributions import contributions, estimate
from evaluation.analysis.statistics.corrections import holm, holm_in_families
from evaluation.analysis.statistics.intervals import Interval
from evaluation.analysis.statistics.paired_tests import (
    compare_pairs,
    compare_units,
    sample,
    score_interval,
    score_intervals,
)
from evaluation.analysis.statistics.sign_flips import Resampling
from evaluation.analysis.statistics.units import Units, score
from evaluation.errors import ComparisonError

FEW = Resampling(2000)
"""Resamples where a test needs no more."""


def pair(seed: int = 0, make: Callable[[Rng], Pair] = populations.queries) -> Pair:
    return make(np.random.default_rng(seed))


def of_values(*values: Any, kind: str = "query", task: str = "Task") -> Units:
    return units("mean", kind, *({"value": np.asarray(each, float)} for each in values), task=task)


# ------------------------------------------------------------------------------------------------- one task's score


def test_interval_of_equal_values_is_a_point_inside_and_none_at_a_limit() -> None:
    assert score_interval(of_values([0.5] * 20)) == Interval(0.5, 0.5, "Wilson")
    perfect, nothing = (score_interval(of_values([value] * 20)) for value in (1.0, 0.0))
    z = stats.norm.ppf(0.975)
    assert perfect is not None and (perfect.low, perfect.high) == (pytest.approx(20 / (20 + z * z)), 1.0)
    assert nothing is not None and (nothing.low, nothing.high) == (0.0, pytest.approx(z * z / (20 + z * z)))


@pytest.mark.parametrize("right", [0, 1, 17, 20])
def test_interval_of_a_share_is_scipys_wilson_interval(right: int) -> None:
    expected = stats.binomtest(right, 20).proportion_ci(method="wilson")
    found = score_interval(of_values([1.0] * right + [0.0] * (20 - right)))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_interval_is_close_to_scipys_bootstrap() -> None:
    values = pair()[0].parts[0].arrays["value"]
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, rng=np.random.default_rng(1)).confidence_interval
    found = score_interval(of_values(values))
    assert found is not None
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.05 * (expected.high - expected.low))


def test_interval_of_a_correlation_is_close_to_scipys_bootstrap() -> None:
    arrays = populations.graded_pairs(np.random.default_rng(0), 60)[0].parts[0].arrays
    expected = stats.bootstrap(
        (arrays["gold"], arrays["prediction"]),
        lambda gold, prediction: stats.spearmanr(gold, prediction).statistic,
        paired=True,
        vectorized=False,
        n_resamples=500,
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = score_interval(units("spearman", "example", dict(arrays)))
    assert found is not None
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.15 * (expected.high - expected.low))


def test_contributions_to_a_correlation_are_the_jackknifes_of_scipy() -> None:
    arrays = populations.graded_pairs(np.random.default_rng(0), 40)[0].parts[0].arrays
    gold, prediction = arrays["gold"], arrays["prediction"]
    without = np.array([stats.spearmanr(np.delete(gold, at), np.delete(prediction, at)).statistic for at in range(40)])
    (found,) = contributions(units("spearman", "example", dict(arrays))).values
    whole = stats.spearmanr(gold, prediction).statistic
    assert found == pytest.approx(whole + 39 * (without.mean() - without))


def test_same_data_give_the_same_figures_and_other_seeds_others() -> None:
    first, second = pair()
    found = compare_units(first, second, resampling=FEW)
    assert compare_units(first, second, resampling=FEW) == found
    assert compare_units(first, second, resampling=Resampling(2000, 1)) != found


def test_more_confidence_is_a_wider_interval() -> None:
    narrow, wide = (score_interval(pair()[0], confidence=level) for level in (0.8, 0.99))
    assert narrow is not None and wide is not None
    assert wide.low < narrow.low < narrow.high < wide.high


def test_subsets_count_alike_whatever_their_size() -> None:
    """The variance of a mean of means: (s1 / n1 + s2 / n2) / 4."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(0.5, 0.1, 400), rng.normal(0.3, 0.3, 40)]
    interval = score_interval(of_values(*parts))
    assert interval is not None
    expected = np.sqrt(sum(values.var() / len(values) for values in parts)) / 2
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * expected, rel=0.04)


def test_experiments_are_a_source_of_uncertainty() -> None:
    """Ten experiments that score apart widen what the same examples would give under one."""
    same = np.random.default_rng(0).random(500) < 0.8
    luck = np.linspace(-0.1, 0.1, 10)[:, None]
    apart = units("mean", "example", {"value": same + luck})
    expected = np.sqrt(same.var() / 500 + luck.var(ddof=1) / 10)
    assert estimate(contributions(apart)).error == pytest.approx(expected, rel=2e-3)
    interval = score_interval(apart)
    assert interval is not None
    assert interval.high - interval.low > 2 * 1.96 * expected


def test_jackknife_agrees_with_the_bootstrap_of_a_large_ranking() -> None:
    (part,) = populations.graded_pairs(np.random.default_rng(0), 3000)[0].parts
    rng, draws = np.random.default_rng(0), []
    for _ in range(400):
        drawn = rng.integers(0, 3000, 3000)
        draws.append(stats.spearmanr(part.arrays["gold"][drawn], part.arrays["prediction"][drawn]).statistic)
    found = estimate(contributions(units("spearman", "example", dict(part.arrays))))
    assert found.error == pytest.approx(np.std(draws), rel=0.12)


# ----------------------------------------------------------------------------------------------------- differences


def test_difference_of_means_has_scipys_chances() -> None:
    first, second = pair()
    values = [side.parts[0].arrays["value"] for side in (first, second)]
    found = compare_units(first, second)
    expected = [
        stats.permutation_test(
            values,
            lambda one, two, axis: np.mean(one, axis=axis) - np.mean(two, axis=axis),
            permutation_type="samples",
            vectorized=True,
            alternative=alternative,
            rng=np.random.default_rng(1),
        ).pvalue
        for alternative in ("two-sided", "less")
    ]
    assert (found.p_two_sided, found.p_drop) == pytest.approx(tuple(expected), abs=0.02)
    assert found.value == pytest.approx(values[0].mean() - values[1].mean())
    assert found.interval is not None
    assert found.interval.low < found.value < found.interval.high


def test_many_units_have_scipys_paired_t_test() -> None:
    first, second = pair(make=lambda rng: populations.queries(rng, 12_000))
    values = [side.parts[0].arrays["value"] for side in (first, second)]
    found = compare_units(first, second)
    assert found.p_two_sided == pytest.approx(stats.ttest_rel(*values).pvalue, rel=1e-3)
    assert found.p_drop == pytest.approx(stats.ttest_rel(*values, alternative="less").pvalue, rel=1e-3)
    interval = stats.ttest_rel(*values).confidence_interval()
    assert found.interval is not None and found.interval.method == "t"
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high), rel=1e-4)


def test_sides_exchanged_give_the_opposite_difference() -> None:
    for make in (populations.queries, populations.graded_pairs, populations.translations):
        first, second = pair(make=make)
        there, back = compare_units(first, second, resampling=FEW), compare_units(second, first, resampling=FEW)
        assert there.value == pytest.approx(-back.value)
        assert there.p_two_sided == pytest.approx(back.p_two_sided, abs=1e-3)
        assert there.p_drop is not None and back.p_drop is not None
        assert 1 - 1e-9 < there.p_drop + back.p_drop < 1.01  # patterns equal to the data count on both sides


@pytest.mark.parametrize(
    "make",
    [populations.queries, populations.graded_pairs, populations.labelled_pairs, populations.labels]
    + [populations.translations, populations.amounts],
)
def test_model_against_itself_is_no_difference(make: Callable[[Rng], Pair]) -> None:
    found = compare_units(pair(make=make)[0], pair(make=make)[0], resampling=FEW)
    assert (found.value, found.p_two_sided, found.p_drop, found.note) == (0.0, 1.0, 1.0, "no unit differs")
    assert (found.interval, found.lower_bound) == (None, 0.0)


def test_one_query_that_falls_deeper_does_not_hide_that_all_fall() -> None:
    """Of 100 queries that all lose about a point, one loses 85: Student's t, with few degrees of freedom, says 0.07."""
    drops = np.linspace(0.011, 0.013, 100)
    base = np.full(100, 0.9)
    even = compare_units(of_values(base - drops), of_values(base))
    drops[0] = 0.85
    found = compare_units(of_values(base - drops), of_values(base))
    assert even.p_drop is not None and even.p_drop < 1e-10
    assert found.p_drop is not None and found.p_drop == pytest.approx(5 / 10_001, rel=0.01)
    assert found.interval is not None and found.interval.high < 0


def test_gold_labels_of_one_side_only_are_no_mismatch() -> None:
    """Baselines of earlier versions store no labels of tasks measured by accuracy."""
    right = np.tile([1, 0], (10, 20))
    without, with_gold = ({"value": right}, {"value": right, "gold": np.arange(40)})
    assert compare_units(units("mean", "example", with_gold), units("mean", "example", without)).value == 0.0
    with pytest.raises(ComparisonError, match="different gold values"):
        compare_units(units("mean", "example", with_gold), units("mean", "example", with_gold | {"gold": np.ones(40)}))


def test_clear_drop_is_seen_from_its_own_side_only() -> None:
    values = pair()[0].parts[0].arrays["value"]
    found = compare_units(of_values(values - 0.2), of_values(values + np.linspace(-0.1, 0.1, 200)))
    assert found.p_drop is not None and found.p_drop < 1e-20, "p goes on where random signs no longer resolve it"
    assert compare_units(of_values(values), of_values(values - 0.2)).p_drop == 1.0


@pytest.mark.parametrize("n", [1, 3, 9, 20, 500])
def test_p_is_exact_where_all_units_move_alike(n: int) -> None:
    found = compare_units(of_values([0.0] * n), of_values([1.0] * n))
    assert found.p_drop == 2.0**-n
    assert (found.interval is None) == (n < 10)
    if found.interval is not None:
        z = stats.norm.ppf(0.975)
        assert (found.interval.low, found.interval.high) == (-1.0, pytest.approx(-n / (n + z * z)))


def test_few_changed_units_have_an_exact_p_no_interval_and_a_bound() -> None:
    """Three of 80 queries lost: p = 2^-3; at most 10.6 % can change (Clopper and Pearson's upper limit)."""
    found = compare_units(of_values([0.0] * 3 + [1.0] * 77), of_values([1.0] * 80))
    assert (found.p_drop, found.interval, found.n_changed) == (0.125, None, 3)
    assert found.note == "only 3 of 80 units differ: no interval"
    assert found.lower_bound == pytest.approx(-stats.binomtest(3, 80).proportion_ci(method="exact").high)


def test_interval_and_p_never_contradict_each_other() -> None:
    rng = np.random.default_rng(0)
    for n in (10, 11, 14, 30, 199, 250):
        for _ in range(60):
            turned, shifted = rng.choice([0.0, -1.0, 1.0], n, p=[0.3, 0.45, 0.25]), rng.normal(0.3, 1, n)
            change = turned if rng.random() < 0.5 else shifted
            found = compare_units(of_values(change), of_values(np.zeros(n)), resampling=FEW)
            if found.interval is not None:
                assert found.p_two_sided is not None
                assert (found.p_two_sided <= 0.05) == (not found.interval.low <= 0 <= found.interval.high), found


def test_parallel_sentences_are_one_unit_however_many_languages() -> None:
    """Eight languages that fail on the same sentences know no more than one."""
    rng = np.random.default_rng(0)
    first, second = (rng.random(100) < 0.5).astype(float), (rng.random(100) < 0.7).astype(float)
    one = compare_units(of_values(first), of_values(second), resampling=FEW)
    eight = compare_units(of_values(*[first] * 8), of_values(*[second] * 8), resampling=FEW)
    assert eight.n_units == 800 and eight.n_clusters == 100
    assert eight.error == pytest.approx(one.error)
    assert eight.p_drop == pytest.approx(one.p_drop)


def test_queries_of_one_document_are_one_unit() -> None:
    rng = np.random.default_rng(0)
    values, cluster = np.repeat(rng.normal(0.02, 0.1, 50), 4), np.repeat(np.arange(50), 4)
    apart = units("mean", "query", {"value": values}), units("mean", "query", {"value": np.zeros(200)})
    together = [units("mean", "query", {**one.parts[0].arrays, "cluster": cluster}) for one in apart]
    found, naive = compare_units(*together, resampling=FEW), compare_units(*apart, resampling=FEW)
    assert (found.n_clusters, found.value) == (50, naive.value)
    assert found.error == pytest.approx(stats.sem(values[::4])) and naive.error is not None
    assert found.error > 1.9 * naive.error


def test_subsets_of_different_sizes_do_not_share_row_numbers() -> None:
    rng = np.random.default_rng(0)
    assert estimate(contributions(of_values(rng.random(30), rng.random(20)))).n_clusters == 50
    assert estimate(contributions(of_values(rng.random(30), rng.random(30)))).n_clusters == 30


def test_subset_of_one_query_takes_its_spread_from_the_others() -> None:
    rng = np.random.default_rng(0)
    many = rng.normal(0.0, 0.3, 1000)
    found = estimate(contributions(of_values(many, [0.2])))
    assert found.error == pytest.approx(np.sqrt(0.3**2 / 1000 + 0.3**2) / 2, rel=0.05)
    assert found.df < 5 and found.n_effective == pytest.approx(4.0, rel=0.01)


def test_model_with_another_scale_of_similarity_is_compared_by_order() -> None:
    """Cosines between 0.7 and 1 against cosines between 0 and 1, both ordering nearly as gold does."""
    rng = np.random.default_rng(0)
    gold = rng.normal(size=200)
    made = [gold + rng.normal(0, spread, 200) for spread in (0.5, 0.8)]
    plain, scaled = (
        compare_units(
            units("spearman", "example", {"gold": codes(gold), "prediction": codes(made[0])}),
            units("spearman", "example", {"gold": codes(gold), "prediction": change(codes(made[1]))}),
            resampling=FEW,
        )
        for change in (lambda ranks: ranks, lambda ranks: ranks * 1000)
    )
    assert plain.p_two_sided == scaled.p_two_sided and plain.interval == scaled.interval
    assert plain.p_two_sided is not None and plain.p_two_sided < 0.05


def test_clustering_is_algorithm_noise_and_never_significant() -> None:
    first = of_values(np.linspace(0.3, 0.4, 10), kind="algorithm")
    second = of_values(np.linspace(0.5, 0.7, 10), kind="algorithm")
    found = compare_units(first, second)
    assert (found.p_two_sided, found.p_drop) == (None, None)
    assert found.note == "algorithm noise only"
    assert found.interval is not None and found.interval.high < 0


def test_too_few_units_are_said_to_be_so() -> None:
    found = compare_units(of_values([0.1] * 9), of_values(np.linspace(0, 1, 9)))
    assert (found.value, found.interval, found.n_units) == (pytest.approx(-0.4), None, 9)
    assert found.note == "only 9 independent units: no interval"
    assert score_interval(of_values([0.1] * 9)) is None


@pytest.mark.parametrize(("make", "n"), [(populations.graded_pairs, 49), (populations.amounts, 49)])
def test_difference_of_correlations_of_few_units_has_no_interval_but_a_p_and_a_cautious_limit(
    make: Callable[..., Pair], n: int
) -> None:
    found = compare_units(*make(np.random.default_rng(0), n), resampling=FEW)
    assert found.interval is None and found.p_two_sided is not None
    assert found.note == "only 49 units: too few for the interval of a correlation's difference"
    assert found.lower_bound is not None and found.lower_bound < found.value
    assert compare_units(*make(np.random.default_rng(0), n + 1), resampling=FEW).interval is not None


def test_units_in_another_order_are_paired_by_id() -> None:
    first, second = pair()
    part = second.parts[0]
    order = np.random.default_rng(0).permutation(len(part.ids))
    shuffled = replace(part, ids=tuple(part.ids[at] for at in order), arrays={"value": part.arrays["value"][order]})
    expected = compare_units(first, second, resampling=FEW)
    found = compare_units(first, replace(second, parts=(shuffled,)), resampling=FEW)
    assert found == replace(expected, value=pytest.approx(expected.value))


def changed(units: Units, **changes: Any) -> Units:
    return replace(units, parts=(replace(units.parts[0], **changes),))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda u: replace(u, task="Other"), r"Task \(metric\) cannot be compared with Other \(metric\)"),
        (lambda u: replace(u, metric="map"), r"Task \(metric\) cannot be compared with Task \(map\)"),
        (lambda u: changed(u, subset="en"), "Task: one side was scored on test/s0, the other on test/en"),
        (
            lambda u: changed(u, ids=("x", *u.parts[0].ids[1:])),
            "Task, split 'test', subset 's0': .*only one of them has '0'",
        ),
        (
            lambda u: changed(u, arrays={**u.parts[0].arrays, "gold": u.parts[0].arrays["gold"][::-1]}),
            "different gold values",
        ),
    ],
)
def test_what_does_not_match_is_refused_by_name(spoil: Callable[[Units], Units], message: str) -> None:
    first, second = pair(make=populations.graded_pairs)
    with pytest.raises(ComparisonError, match=message):
        compare_units(first, spoil(second))
    assert ComparisonError.exit_code == 2


def test_other_numbers_of_experiments_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ComparisonError, match="different numbers of experiments"):
        compare_units(populations.labels(rng)[0], populations.labels(rng, experiments=5)[0])


# ------------------------------------------------------------------------------------------------- several tasks


def test_holm_by_hand() -> None:
    """Smallest of four times 4, next times 3, never below the one before, never above 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, None, 0.7]) == [1.0, None, 1.0]
    assert holm([None, 0.04]) == [None, 0.04]
    assert holm([]) == []


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    """Go up from the smallest p while p_(k) <= alpha / (m - k); Holm 1979."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        p_values = (rng.random(rng.integers(1, 9)) ** 3).tolist()
        for alpha in (0.01, 0.05, 0.2):
            order, rejected = np.argsort(p_values), set()
            for rank, at in enumerate(order):
                if p_values[at] > alpha / (len(p_values) - rank):
                    break
                rejected.add(int(at))
            adjusted = holm(p_values)
            assert {at for at, p in enumerate(adjusted) if p is not None and p <= alpha} == rejected


def test_families_share_alpha_and_a_small_one_keeps_its_power() -> None:
    assert holm_in_families([[0.01, 0.5], [0.004]]) == [[pytest.approx(0.04), 1.0], [pytest.approx(0.008)]]
    assert holm_in_families([[0.01, 0.5], []]) == [[0.02, 0.5], []]
    assert holm_in_families([[None, 0.3]]) == [[None, 0.3]]


# ------------------------------------------------------------------------------------------------------ simulation

FAMILIES: dict[str, tuple[Callable[[Rng], Pair], float | None]] = {
    "per-query nDCG": (populations.queries, populations.QUERIES_MEAN),
    "Spearman": (populations.graded_pairs, populations.SPEARMAN),
    "average precision": (populations.labelled_pairs, populations.AVERAGE_PRECISION),
    "accuracy over experiments": (populations.labels, populations.label_accuracy()),
    "accuracy, experiments far apart": (
        lambda rng: populations.labels(rng, spread=0.4),
        populations.label_accuracy(0.4),
    ),
    "macro F1 over experiments": (lambda rng: populations.labels(rng, statistic="macro f1"), None),
    "bitext F1": (populations.translations, None),
    "Kendall's tau over experiments": (populations.amounts, populations.KENDALL),
}
"""Two equally good models' units, and their true score; None where only simulation tells."""


def simulate(family: str, n_sets: int, n_resamples: int) -> dict[str, float]:
    """Coverage of the score's and of the difference's 95 % interval, and false alarms at 5 %."""
    make, truth = FAMILIES[family]
    if truth is None:
        truth = populations.mean_over_data(make, score, 2000, seed=1)
    rng = np.random.default_rng(2)
    shares = np.zeros(4)
    for at in range(n_sets):
        first, second = make(rng)
        one = sample(first)
        (interval,) = score_intervals([one])
        (found,) = compare_pairs([(one, sample(second, one))], resampling=Resampling(n_resamples, at))
        assert interval is not None and found.interval is not None
        assert found.p_drop is not None and found.p_two_sided is not None
        shares += [
            interval.low <= truth <= interval.high,
            found.interval.low <= 0 <= found.interval.high,
            found.p_drop <= 0.05,
            found.p_two_sided <= 0.05,
        ]
    names = ("coverage of score", "coverage of difference", "false drops", "false differences")
    return dict(zip(names, (shares / n_sets).tolist(), strict=True))


@pytest.mark.full
@pytest.mark.parametrize("family", FAMILIES)
def test_interval_covers_the_truth_on_two_thousand_data_sets(family: str, record_property: Any) -> None:
    found = simulate(family, 2000, 1000)
    record_property("shares", found)
    assert 0.93 <= found["coverage of score"] <= 0.97, found
    assert 0.93 <= found["coverage of difference"] <= 0.97, found
    assert found["false drops"] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 2000), found  # two deviations of such a share
    assert found["false differences"] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 2000), found


@pytest.mark.parametrize("family", ["per-query nDCG", "accuracy over experiments"])
def test_interval_covers_the_truth_in_short(family: str) -> None:
    """Two hundred data sets: a coverage of 95 % stays within 3.3 deviations; 88 % or 99.9 % would not."""
    found = simulate(family, 200, 500)
    for side in ("score", "difference"):
        assert 0.90 <= found[f"coverage of {side}"] <= 0.995, found
    assert found["false drops"] <= 0.10, found


@pytest.mark.full
def test_fifty_tasks_are_compared_in_seconds(record_property: Any) -> None:
    """Of the types and sizes of MTEB(eng, v1), 10,000 patterns of signs; processor time of one core."""
    sizes: dict[Callable[..., Pair], tuple[int, ...]] = {
        populations.queries: (300, 6980, 50, 400, 6666, 648, 1406, 7405, 323, 10_000, 300, 1000, 49, 1700, 1595, 1570)
        + (1765, 1501, 1000, 880, 1155, 375, 1000, 3000),
        populations.labels: (670, 4000, 5000, 3080, 2000, 2500, 4386, 2974, 4386, 2974, 5000, 3534),
        populations.graded_pairs: (100, 9927, 3108, 1500, 3750, 3000, 250, 197, 1379, 500),
        populations.labelled_pairs: (101_000, 16_777, 51_534, 1000),
    }
    rng = np.random.default_rng(0)
    pairs = [make(rng, n) for make, numbers in sizes.items() for n in numbers]
    started = time.process_time()
    differences = [compare_units(*both) for both in pairs]
    elapsed_s = time.process_time() - started
    record_property("elapsed_s", elapsed_s)
    assert len(differences) == 50
    assert elapsed_s < 10, elapsed_s
