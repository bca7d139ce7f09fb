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

from evaluation.analysis.statistics.intervals import estimate_of, standard_error
from evaluation.analysis.statistics.paired_tests import (
    Difference,
    SuiteDifference,
    compare_units,
    holm,
    score_interval,
    suite_difference,
)
from evaluation.analysis.statistics.resampling import Interval, KeptDraws, Resampling
from evaluation.analysis.statistics.scorers import score_part
from evaluation.analysis.statistics.units import Units, score
from evaluation.errors import ComparisonError

FEW = Resampling(2000)
"""Resamples where a test needs no more."""


def pair(seed: int = 0, make: Callable[[Rng], Pair] = populations.queries) -> Pair:
    return make(np.random.default_rng(seed))


def of_values(*values: Any, kind: str = "query", task: str = "Task") -> Units:
    return units("mean", kind, *({"value": np.asarray(each, float)} for each in values), task=task)


# ------------------------------------------------------------------------------------------------- one task's score


def test_interval_of_equal_values_is_a_point() -> None:
    interval = score_interval(of_values([0.5] * 20), resampling=FEW)
    assert interval == Interval(0.5, 0.5, "percentile")


def test_interval_is_scipys_up_to_the_draw() -> None:
    values = pair()[0].parts[0].arrays["value"]
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, rng=np.random.default_rng(1)).confidence_interval
    found = score_interval(of_values(values), resampling=Resampling(20_000))
    assert found is not None
    width = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.03 * width)


def test_interval_of_a_correlation_is_scipys_up_to_the_draw() -> None:
    arrays = populations.graded_pairs(np.random.default_rng(0), 60)[0].parts[0].arrays
    expected = stats.bootstrap(
        (arrays["gold"], arrays["prediction"]),
        lambda gold, prediction: stats.spearmanr(gold, prediction).statistic,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = score_interval(units("spearman", "example", dict(arrays)), resampling=Resampling(20_000))
    assert found is not None
    assert found.method == "BCa"
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.08 * (expected.high - expected.low))


@pytest.mark.parametrize("make", [populations.graded_pairs, populations.labelled_pairs])
def test_draws_are_the_scores_of_the_examples_drawn(make: Callable[[Rng], Pair]) -> None:
    """Of two subsets, the second larger than a block; the seed says which examples are drawn."""
    first, second = (
        replace(one, parts=(*one.parts, *other.parts))
        for one, other in zip(make(np.random.default_rng(0), 60), make(np.random.default_rng(1), 200), strict=True)  # type: ignore[call-arg]
    )
    rng, expected = np.random.default_rng(5), np.zeros(100)
    for one, two in zip(first.parts, second.parts, strict=True):
        n = len(one.ids)
        for at, drawn in enumerate(rng.integers(0, n, (100, n))):
            pairs = [{name: array[..., drawn] for name, array in part.arrays.items()} for part in (one, two)]
            expected[at] += (score_part(first.statistic, pairs[0]) - score_part(first.statistic, pairs[1])) / 2
    found = estimate_of(first, second).draws(np.random.default_rng(5), Resampling(100))
    assert found == pytest.approx(expected, abs=1e-12)


def test_influence_of_a_correlation_is_scipys_jackknife() -> None:
    """All that its BCa interval needs beside the draws."""
    arrays = populations.graded_pairs(np.random.default_rng(0), 40)[0].parts[0].arrays
    gold, prediction = arrays["gold"], arrays["prediction"]
    without = np.array([stats.spearmanr(np.delete(gold, at), np.delete(prediction, at)).statistic for at in range(40)])
    (pulls,) = estimate_of(units("spearman", "example", dict(arrays))).influence()
    assert pulls == pytest.approx(39 / 40 * (without.mean() - without))


def test_same_data_give_the_same_interval_and_other_seeds_another() -> None:
    first, second = pair()
    assert score_interval(first, resampling=FEW) == score_interval(first, resampling=FEW)
    assert score_interval(first, resampling=FEW) != score_interval(first, resampling=Resampling(2000, 1))
    assert score_interval(first, resampling=FEW) != score_interval(replace(first, task="Other"), resampling=FEW)
    assert compare_units(first, second, resampling=FEW) == compare_units(first, second, resampling=FEW)


@pytest.mark.parametrize(
    "make",
    [populations.queries, populations.graded_pairs, populations.labelled_pairs, populations.labels]
    + [populations.translations],
)
def test_draws_kept_for_the_next_model_change_nothing(make: Callable[[Rng], Pair]) -> None:
    kept = Resampling(2000, kept=KeptDraws())
    for seed in (0, 1, 0):
        first, second = pair(seed, make)
        assert score_interval(first, resampling=kept) == score_interval(first, resampling=FEW)
        found, expected = compare_units(first, second, resampling=kept), compare_units(first, second, resampling=FEW)
        assert found == expected
        assert found.draws is not None and expected.draws is not None
        assert found.draws.tolist() == expected.draws.tolist()


def test_more_confidence_is_a_wider_interval() -> None:
    narrow, wide = (score_interval(pair()[0], confidence=level, resampling=FEW) for level in (0.8, 0.99))
    assert narrow is not None and wide is not None
    assert wide.low < narrow.low < narrow.high < wide.high


def test_subsets_count_alike_whatever_their_size() -> None:
    """The variance of a mean of means: (s1 / n1 + s2 / n2) / 4."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(0.5, 0.1, 400), rng.normal(0.3, 0.3, 40)]
    interval = score_interval(of_values(*parts), resampling=Resampling(20_000))
    assert interval is not None
    expected = np.sqrt(sum(values.var() / len(values) for values in parts)) / 2
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * expected, rel=0.04)


def test_experiments_are_a_source_of_uncertainty() -> None:
    """Ten experiments that score apart widen what the same examples would give under one."""
    same = np.random.default_rng(0).random(500) < 0.8
    luck = np.linspace(-0.1, 0.1, 10)[:, None]
    apart = units("mean", "example", {"value": same + luck})
    expected = np.sqrt(same.var() / 500 + luck.var(ddof=1) / 10)
    assert standard_error(estimate_of(apart).influence())[0] == pytest.approx(expected, rel=2e-3)
    interval = score_interval(apart, resampling=FEW)
    assert interval is not None
    assert interval.high - interval.low > 2 * 1.96 * expected


def test_very_many_units_give_students_interval_close_to_the_bootstraps() -> None:
    many = pair(make=lambda rng: populations.queries(rng, 12_000))[0]
    found = score_interval(many)
    assert found is not None
    assert found.method == "t"
    values = many.parts[0].arrays["value"]
    draws = [np.random.default_rng(at).choice(values, 12_000).mean() for at in range(2000)]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=1e-3)


def test_jackknife_of_groups_agrees_with_the_bootstrap_of_a_large_ranking() -> None:
    large = populations.graded_pairs(np.random.default_rng(0), 3000)[0]
    estimate = estimate_of(large)
    draws = estimate.draws(np.random.default_rng(0), Resampling(400))
    assert standard_error(estimate.influence())[0] == pytest.approx(draws.std(), rel=0.12)


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
    assert found.p_two_sided == pytest.approx(stats.ttest_rel(*values).pvalue)
    assert found.p_drop == pytest.approx(stats.ttest_rel(*values, alternative="less").pvalue)
    interval = stats.ttest_rel(*values).confidence_interval()
    assert found.interval == Interval(pytest.approx(interval.low), pytest.approx(interval.high), "t")


def test_sides_exchanged_give_the_opposite_difference() -> None:
    for make in (populations.queries, populations.graded_pairs, populations.translations):
        first, second = pair(make=make)
        there, back = compare_units(first, second, resampling=FEW), compare_units(second, first, resampling=FEW)
        assert there.value == pytest.approx(-back.value)
        assert there.p_two_sided == pytest.approx(back.p_two_sided, abs=1e-9)
        assert there.p_drop is not None and back.p_drop is not None
        assert 1 < there.p_drop + back.p_drop < 1.01  # draws equal to the data count on both sides


@pytest.mark.parametrize(
    "make",
    [populations.queries, populations.graded_pairs, populations.labelled_pairs, populations.labels]
    + [populations.translations, populations.amounts],
)
def test_model_against_itself_is_no_difference(make: Callable[[Rng], Pair]) -> None:
    found = compare_units(pair(make=make)[0], pair(make=make)[0], resampling=FEW)
    assert (found.value, found.p_two_sided, found.p_drop, found.note) == (0.0, 1.0, 1.0, "no unit differs")
    assert found.interval == Interval(0.0, 0.0, "percentile")
    assert found.detectable is None


def test_clear_drop_is_seen_from_its_own_side_only() -> None:
    values = pair()[0].parts[0].arrays["value"]
    found = compare_units(of_values(values - 0.2), of_values(values + np.linspace(-0.1, 0.1, 200)))
    assert found.p_drop == pytest.approx(1 / 10_001)
    assert found.p_two_sided == pytest.approx(1 / 10_001)
    assert compare_units(of_values(values), of_values(values - 0.2)).p_drop == 1.0


def test_detectable_difference_by_hand() -> None:
    """Hundred differences with deviation s: (1.960 + 0.842) s / 10."""
    differences = np.random.default_rng(0).normal(0, 0.2, 100)
    found = compare_units(of_values(differences), of_values(np.zeros(100)), resampling=FEW)
    assert found.detectable == pytest.approx((1.959964 + 0.841621) * differences.std(ddof=1) / 10, rel=1e-6)


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
    assert plain == scaled
    assert plain.p_two_sided is not None and plain.p_two_sided < 0.05


def test_clustering_is_algorithm_noise_and_never_significant() -> None:
    first = of_values(np.linspace(0.3, 0.4, 10), kind="algorithm")
    second = of_values(np.linspace(0.5, 0.7, 10), kind="algorithm")
    found = compare_units(first, second)
    assert (found.p_two_sided, found.p_drop, found.detectable, found.draws) == (None, None, None, None)
    assert found.note == "algorithm noise only"
    assert found.interval is not None and found.interval.high < 0


def test_too_few_units_are_said_to_be_so() -> None:
    found = compare_units(of_values([0.1] * 9), of_values(np.linspace(0, 1, 9)))
    assert found == Difference(pytest.approx(-0.4), None, None, None, 9, None, "too few units")
    assert score_interval(of_values([0.1] * 9)) is None
    assert score_interval(of_values(np.linspace(0, 1, 20), [0.5])) is None


def test_units_in_another_order_are_paired_by_id() -> None:
    first, second = pair()
    part = second.parts[0]
    order = np.random.default_rng(0).permutation(len(part.ids))
    shuffled = replace(part, ids=tuple(part.ids[at] for at in order), arrays={"value": part.arrays["value"][order]})
    expected = compare_units(first, second, resampling=FEW)
    assert compare_units(first, replace(second, parts=(shuffled,)), resampling=FEW) == expected


def changed(units: Units, **changes: Any) -> Units:
    return replace(units, parts=(replace(units.parts[0], **changes),))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda u: replace(u, task="Other"), r"Task \(metric\) can't be compared with Other \(metric\)"),
        (lambda u: replace(u, metric="map"), r"Task \(metric\) can't be compared with Task \(map\)"),
        (lambda u: changed(u, subset="en"), "Task: one side was scored on test/s0, the other on test/en"),
        (lambda u: changed(u, ids=("x", *u.parts[0].ids[1:])), "Task, split 'test', subset 's0': .*'0' is in one"),
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


def suite(n_tasks: int, seed: int, effect: float = 0.0, spread: float = 0.0) -> list[Pair]:
    """Tasks of 100 queries, on each of which the first model is better by `effect`, give or take `spread`."""
    rng = np.random.default_rng(seed)
    pairs = []
    for task in range(n_tasks):
        shared, own = rng.normal(0, 0.2, 100), rng.normal(0, 0.1, (2, 100))
        first = 0.5 + shared + own[0] + effect + spread * rng.normal()
        pairs.append((of_values(first, task=f"T{task}"), of_values(0.5 + shared + own[1], task=f"T{task}")))
    return pairs


def compare_suites(pairs: list[Pair]) -> SuiteDifference:
    return suite_difference([compare_units(*both, resampling=FEW) for both in pairs])


def test_suites_mean_and_interval() -> None:
    """Ten tasks that differ by 2 points, give or take 1: standard error of about 1 / sqrt(10) and noise."""
    pairs = suite(10, 0, effect=0.02, spread=0.01)
    found = compare_suites(pairs)
    assert found.value == pytest.approx(np.mean([score(one) - score(two) for one, two in pairs]))
    assert found.n_tasks == 10
    assert found.interval is not None and found.p_two_sided is not None and found.p_drop is not None
    assert 0.0 < found.interval.low < found.value < found.interval.high < 0.05
    assert found.p_two_sided < 0.05 < 0.9 < found.p_drop
    assert compare_suites(pairs) == found


def test_clustering_and_tiny_tasks_take_no_part_in_the_suite() -> None:
    noise = (of_values(np.linspace(0.3, 0.4, 10), kind="algorithm"), of_values(np.ones(10), kind="algorithm"))
    tiny = (of_values([0.1, 0.2]), of_values([0.9, 0.8]))
    pairs = suite(4, 0)
    assert compare_suites([*pairs, noise, tiny]) == compare_suites(pairs)


def test_suite_of_one_task_has_no_interval() -> None:
    found = compare_suites(suite(1, 0))
    assert (found.interval, found.p_two_sided, found.p_drop, found.n_tasks) == (None, None, None, 1)
    assert compare_suites([]).n_tasks == 0


def test_suite_without_any_difference_is_certain() -> None:
    same = [(first, first) for first, _ in suite(3, 0)]
    found = compare_suites(same)
    assert (found.value, found.p_two_sided, found.p_drop) == (0.0, 1.0, 1.0)
    assert found.interval == Interval(0.0, 0.0, "percentile")


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
        interval = score_interval(first, resampling=Resampling(n_resamples, at))
        found = compare_units(first, second, resampling=Resampling(n_resamples, at))
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
@pytest.mark.parametrize("spread", [0.0, 0.03])
def test_suite_raises_no_more_false_alarms_than_alpha(spread: float) -> None:
    """Eight tasks without a difference, or with differences that cancel out."""
    drops = [_suite_drop(suite(8, seed, spread=spread)) for seed in range(2000)]
    assert np.mean(drops) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 2000)


def _suite_drop(pairs: list[Pair]) -> bool:
    found = suite_difference([compare_units(one, two, resampling=Resampling(1000)) for one, two in pairs])
    return found.p_drop is not None and found.p_drop <= 0.05


@pytest.mark.full
def test_fifty_tasks_are_compared_in_seconds(record_property: Any) -> None:
    """Of the types and sizes of MTEB(eng, v1), 10,000 resamples each; processor time of one core."""
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
    assert elapsed_s < 30, elapsed_s
