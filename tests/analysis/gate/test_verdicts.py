"""The rule of the gate, verdict by verdict, on units made from numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from evaluation.analysis.gate import verdicts
from evaluation.analysis.gate.rule import Check, GateReport, GateRule, Verdict
from evaluation.analysis.gate.snapshots import Snapshot
from evaluation.analysis.statistics.units import UnitPart, Units, score
from evaluation.analysis.task_scores import ScoredJob
from evaluation.errors import UsageError

RULE = GateRule(max_drop=1.0, alpha=0.05)
judge = partial(verdicts.judge, n_resamples=2_000)
N = 400


def job(task: str, values: np.ndarray, *, label: str = "model", kind: str = "query", **changes) -> ScoredJob:
    type_, metric = ("Clustering", "v_measure") if kind == "algorithm" else ("Retrieval", "map")
    part = UnitPart("test", "default", tuple(map(str, range(len(values)))), {"value": np.asarray(values, float)})
    units = Units(task, type_, metric, "mean", kind, (part,))
    found = {"score": score(units), "fault": "", "conditions": {"protocol": "e5"}, "units": units} | changes
    return ScoredJob(label=label, task=task, type=type_, metric=metric, aggregate=None, **found)


def snapshot(*jobs: ScoredJob, **changes) -> Snapshot:
    found = {"name": "run", "models": {}, "versions": {}} | changes
    return Snapshot(jobs=jobs, **found)


def values(seed: int = 1, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).random(n)


def noisy(drop: float, *, seed: int = 2, n: int = N, spread: float = 0.05) -> np.ndarray:
    """Values whose mean is exactly `drop` below those of `values`, with paired differences that scatter."""
    scatter = np.random.default_rng(seed).normal(0, spread, n)
    return values(n=n) - drop + scatter - scatter.mean()


def judged(before: np.ndarray, now: np.ndarray, rule: GateRule = RULE, **kind) -> Check:
    report = judge(snapshot(job("A", before, **kind)), snapshot(job("A", now, **kind)), rule)
    (check,) = report.checks
    assert report.passed is not check.verdict.fails
    return check


# --------------------------------------------------------------------------------------------------------------- tasks


def test_same_values_pass_without_a_word() -> None:
    check = judged(values(), values())
    assert (check.verdict, check.change, check.p, check.reason) == (Verdict.NO_DROP, 0.0, 1.0, "")


def test_large_and_significant_drop_fails() -> None:
    check = judged(values(), noisy(0.03))
    assert check.verdict is Verdict.REGRESSION
    assert check.change == pytest.approx(-3.0)
    assert check.p is not None and check.p < 0.001
    assert check.interval is not None and check.interval[0] < -3.0 < check.interval[1] < 0
    assert check.reason == "dropped 3.00 points, more than 1.00, p < 0.0001 after Holm"


def test_significant_drop_within_max_drop_passes_and_is_said() -> None:
    check = judged(values(), noisy(0.005, spread=0.01))
    assert check.verdict is Verdict.NO_DROP
    assert check.reason == "dropped 0.50 points, no more than 1.00, p < 0.0001 after Holm"


def test_drop_within_max_drop_whose_interval_reaches_beyond_is_inconclusive() -> None:
    check = judged(values(), noisy(0.009))
    assert check.verdict is Verdict.INCONCLUSIVE
    assert check.interval is not None and check.interval[0] < -1.0
    assert check.reason == "the change is too close to -1.00 for 400 queries to decide"


def test_large_drop_that_chance_explains_is_inconclusive_with_the_number_that_would_decide() -> None:
    """Power 0.8 for an interval that excludes -1: (1.960 + 0.842)**2 s**2 queries, s in points."""
    before, now = values(n=40), noisy(0.03, n=40, spread=0.3)
    check = judged(before, now)
    assert check.verdict is Verdict.INCONCLUSIVE
    assert check.p is not None and check.p > 0.05
    needed = (1.959964 + 0.841621) ** 2 * (100 * np.std(now - before, ddof=1)) ** 2
    said = re.search(r"40 queries cannot rule out a drop of 1.00 points; about ([\d,]+) would", check.reason)
    assert said is not None, check.reason
    assert needed <= float(said[1].replace(",", "")) <= 1.1 * needed, "rounded up to two digits"


def test_inconclusive_fails_where_conclusions_are_required() -> None:
    before, now = (snapshot(job("A", own)) for own in (values(n=40), noisy(0.03, n=40, spread=0.3)))
    assert judge(before, now, RULE).passed
    strict = judge(before, now, GateRule(require_conclusive=True))
    assert not strict.passed and [check.verdict for check in strict.failures] == [Verdict.INCONCLUSIVE]


def test_larger_max_drop_lets_a_drop_pass() -> None:
    assert judged(values(), noisy(0.03), GateRule(max_drop=2.9)).verdict is Verdict.REGRESSION
    assert judged(values(), noisy(0.03), GateRule(max_drop=4.0)).verdict is Verdict.NO_DROP


def test_stricter_alpha_lets_a_drop_pass() -> None:
    before, now = values(n=100), noisy(0.02, n=100, spread=0.1)
    p = judged(before, now).p
    assert p is not None and 0.01 < p < 0.05
    assert judged(before, now).verdict is Verdict.REGRESSION
    assert judged(before, now, GateRule(alpha=0.01)).verdict is Verdict.INCONCLUSIVE


def test_improvement_is_listed() -> None:
    check = judged(values(), noisy(-0.03))
    assert check.verdict is Verdict.NO_DROP
    assert check.reason == "rose 3.00 points, by more than chance"
    assert check.p is not None and check.p > 0.9, "p is one-sided, for a drop"


def test_difference_of_the_last_bits_is_nothing_however_it_points() -> None:
    """Another processor's sums: every query a little lower, which a paired test finds significant."""
    for sign in (-1, 1):
        jobs = [[job(f"T{n}", values(n) + shift) for n in range(8)] for shift in (0.0, sign * 1e-9)]
        report = judge(snapshot(*jobs[0]), snapshot(*jobs[1]), GateRule(max_drop=0.0) if sign > 0 else RULE)
        assert report.passed
        assert {check.verdict for check in report.checks} == {Verdict.NO_DROP}
        assert min(check.p for check in report.suites) < 0.05 or sign > 0, "significant, and still nothing"


def test_task_of_which_nothing_but_the_score_is_stored_is_judged_by_it() -> None:
    for drop, verdict in ((0.009, Verdict.INCONCLUSIVE), (0.011, Verdict.REGRESSION)):
        now = job("A", values(), units=None, score=0.5 - drop)
        (check,) = judge(snapshot(job("A", values(), score=0.5)), snapshot(now), RULE).checks
        assert (check.verdict, check.p) == (verdict, None)
        assert "stored" in check.reason


def test_drop_of_too_few_units_to_test_fails() -> None:
    check = judged(np.ones(3), np.zeros(3))
    assert check.verdict is Verdict.REGRESSION
    assert check.reason.endswith("and no p can call it chance: it has 3 independent queries")
    assert judged(np.zeros(3), np.ones(3)).verdict is Verdict.INCONCLUSIVE
    assert judged(np.ones(1), np.zeros(1)).reason.endswith("it has 1 independent query")


def test_so_few_unchanged_queries_that_they_show_nothing_are_inconclusive() -> None:
    one = judged(np.ones(1), np.ones(1))
    assert one.verdict is Verdict.INCONCLUSIVE and one.unchanged
    assert one.reason == "1 query cannot rule out a drop, although none changed; 10 without a change would"
    assert judged(values(n=9), values(n=9)).verdict is Verdict.INCONCLUSIVE
    assert judged(values(n=10), values(n=10)).verdict is Verdict.NO_DROP


def test_drop_of_exactly_max_drop_is_no_more_than_that() -> None:
    check = judged(np.full(300, 0.5), np.full(300, 0.49))
    assert check.verdict is Verdict.NO_DROP
    assert check.reason == "dropped 1.00 points, no more than 1.00, p < 0.0001 after Holm"


def test_queries_that_change_both_ways_are_not_unchanged() -> None:
    before, now = np.array([1.0] * 3 + [0.0] * 3 + [0.5] * 9), np.array([0.0] * 3 + [1.0] * 3 + [0.5] * 9)
    check = judged(before, now)
    assert (check.change, check.interval, check.unchanged) == (0.0, None, False)


def test_rise_of_a_score_alone_says_why_it_shows_nothing() -> None:
    now = job("A", values(), units=None, score=0.7)
    (check,) = judge(snapshot(job("A", values(), score=0.5)), snapshot(now), RULE).checks
    assert check.reason == (
        "rose 20.00 points, but whether by more than chance cannot be tested: nothing but its score is stored"
    )


def test_other_units_under_the_same_conditions_are_a_change() -> None:
    check = judged(values(), values()[:-1])
    assert check.verdict is Verdict.CHANGED
    assert "different" in check.reason


# ----------------------------------------------------------------------------------------------------------- clustering


def test_clustering_fails_beyond_max_drop_and_four_standard_errors_only() -> None:
    before = np.full(10, 0.5)
    scatter = np.array([1, -1] * 5) * 0.03  # of the mean: 3 * sqrt(10 / 9) / sqrt(10) = 1 point
    for drop, verdict in ((0.009, Verdict.INCONCLUSIVE), (0.039, Verdict.INCONCLUSIVE), (0.041, Verdict.REGRESSION)):
        check = judged(before, before - drop + scatter, kind="algorithm")
        assert (check.verdict, check.p) == (verdict, None), drop
    assert "more than 4 standard errors of its paired runs, 4.00" in check.reason
    assert judged(before, before - 0.009, kind="algorithm").verdict is Verdict.NO_DROP
    even = judged(before, before - 0.011, kind="algorithm")
    assert (even.verdict, even.interval) == (Verdict.REGRESSION, None), "no noise at all, and so no interval"


def test_drop_of_few_runs_of_clustering_fails_as_it_cannot_be_tested() -> None:
    check = judged(np.full(4, 0.9), np.full(4, 0.1), kind="algorithm")
    assert check.verdict is Verdict.REGRESSION
    assert check.reason.endswith("cannot be tested: fewer than 5 runs of the algorithm")


def test_clustering_is_in_no_suite_and_no_correction() -> None:
    before = [job("A", values(1)), job("B", values(2)), job("C", np.full(10, 0.5), kind="algorithm")]
    now = [job("A", values(1)), job("B", values(2)), job("C", np.full(10, 0.1), kind="algorithm")]
    report = judge(snapshot(*before), snapshot(*now), RULE)
    (suite,) = report.suites
    assert (suite.name, suite.change, suite.verdict) == ("mean of 2 tasks", 0.0, Verdict.NO_DROP)
    assert [check.name for check in report.failures] == ["C"]


# --------------------------------------------------------------------------------------------------------------- suites


def test_p_is_adjusted_over_all_tasks_models_and_suites() -> None:
    """A borderline drop fails alone and not among many: Holm over ten tasks, and half of alpha for the two means."""
    before, now = values(n=100), noisy(0.02, n=100, spread=0.1)
    alone = judged(before, now).p
    others = [job(f"T{n}", values(n), label="other") for n in range(8)]
    report = judge(
        snapshot(job("A", before), job("B", before), *others), snapshot(job("A", now), job("B", before), *others), RULE
    )
    found = {(check.label, check.name): check for check in report.checks}
    assert len(found) == 12
    assert alone is not None
    assert found["model", "A"].p == pytest.approx(2 * 10 * alone, rel=0.25)
    assert found["model", "A"].verdict is Verdict.INCONCLUSIVE


def test_small_drops_everywhere_fail_as_a_suite() -> None:
    before = [job(f"T{n}", values(n)) for n in range(12)]
    now = [job(f"T{n}", values(n) - 0.006 + 0.1 * (values(100 + n) - 0.5)) for n in range(12)]
    report = judge(snapshot(*before), snapshot(*now), RULE)
    assert {check.verdict for check in report.tasks} <= {Verdict.NO_DROP, Verdict.NO_DROP, Verdict.INCONCLUSIVE}
    (suite,) = report.suites
    assert suite.verdict is Verdict.REGRESSION
    assert suite.baseline is not None and suite.score is not None and suite.change is not None
    assert suite.score - suite.baseline == pytest.approx(suite.change)
    assert suite.reason == f"the mean dropped {-suite.change:.2f} points, p < 0.0001 after Holm"
    assert not report.passed


def test_suite_improvement_is_listed() -> None:
    before = [job(f"T{n}", values(n)) for n in range(12)]
    now = [job(f"T{n}", values(n) + 0.02 + 0.1 * (values(100 + n) - 0.5)) for n in range(12)]
    (suite,) = judge(snapshot(*before), snapshot(*now), RULE).suites
    assert suite.verdict is Verdict.NO_DROP and "the mean rose" in suite.reason


def test_mean_with_a_small_task_of_few_changes_is_inconclusive() -> None:
    """One of 12 queries lost everything: 38 % may, 19 points of the mean, whatever the other task's 400 queries say."""
    lost = np.where(np.arange(12) == 0, 0.0, 1.0)
    before = snapshot(job("A", values()), job("B", np.ones(12)))
    (suite,) = judge(before, snapshot(job("A", values()), job("B", lost)), GateRule(max_drop=15)).suites
    assert suite.change == pytest.approx(-100 / 24)
    assert (suite.verdict, suite.reason) == (
        Verdict.INCONCLUSIVE,
        "too few examples of B changed to rule out rare losses: more examples of it would",
    )


def test_models_have_a_suite_each() -> None:
    jobs = [job(f"T{n}", values(n), label=label) for label in ("a", "b") for n in range(2)]
    report = judge(snapshot(*jobs), snapshot(*jobs), RULE)
    assert [(check.label, check.name) for check in report.suites] == [
        ("a", "mean of 2 tasks"),
        ("b", "mean of 2 tasks"),
    ]


# --------------------------------------------------------------------------------------------- what can't be compared


def gone(report: GateReport) -> dict[str, tuple[Verdict, str]]:
    return {check.name: (check.verdict, check.reason) for check in report.failures}


def test_missing_failed_and_changed_tasks_fail_by_name() -> None:
    before = [job(name, values()) for name in "ABCD"]
    now = [
        job("A", values()),
        job("B", values(), conditions={"protocol": "none"}),
        job("C", values(), score=None, fault="no memory", units=None),
    ]
    report = judge(snapshot(*before), snapshot(*now), RULE)
    assert not report.passed
    assert gone(report) == {
        "B": (Verdict.CHANGED, "protocol 'e5' -> 'none'"),
        "C": (Verdict.FAILED, "no memory"),
        "D": (Verdict.MISSING, "the run has no such task"),
    }


def test_new_task_passes_and_new_failed_task_fails() -> None:
    before = snapshot(job("A", values()))
    report = judge(before, snapshot(job("A", values()), job("B", values())), RULE)
    assert report.passed
    assert [check.verdict for check in report.tasks] == [Verdict.NO_DROP, Verdict.NEW]
    failed = job("B", values(), score=None, fault="never ended", units=None)
    assert not judge(before, snapshot(job("A", values()), failed), RULE).passed


def test_notes_name_other_weights_settings_and_versions() -> None:
    old = {"weights_sha256": "1", "tokenizer_sha256": "2", "settings": {"dtype": "float32", "max_length": 512}}
    new = old | {"weights_sha256": "3", "settings": {"dtype": "bfloat16", "max_length": 512}}
    before = snapshot(job("A", values(), label="old"), models={"old": old}, versions={"mteb": "1", "scipy": "1"})
    now = snapshot(job("A", values(), label="new"), models={"new": new}, versions={"mteb": "2", "scipy": "1"})
    assert judge(before, now, RULE).notes == (
        "new (the baseline's old): other weights or another tokenizer than in the baseline.",
        "new (the baseline's old): dtype 'float32' -> 'bfloat16'.",
        "Versions differ: mteb 1 -> 2.",
    )
    assert judge(before, before, RULE).notes == ("old: the same weights and tokenizer as in the baseline.",)


# ----------------------------------------------------------------------------------------------------- corrections fire


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize(("models", "tasks"), [(1, 1), (1, 7), (3, 7), (3, 15), (1, 56), (12, 56)])
def test_smallest_reachable_p_of_every_layout_is_far_below_alpha(models: int, tasks: int, alpha: float) -> None:
    """Of 30 queries that all drop, corrected over the whole gate: of a task, and of a model's mean."""
    labels = [f"m{at}" for at in range(models)]
    before = [job(f"T{at}", values(at, 30), label=label) for label in labels for at in range(tasks)]
    falling = [job(f"T{at}", 0.5 * values(at, 30), label=labels[0]) for at in range(tasks)]
    report = judge(snapshot(*before), snapshot(*falling, *before[tasks:]), GateRule(alpha=alpha), n_resamples=500)
    failing = {(check.label, check.name) for check in report.failures}
    assert len(failing) == tasks + (tasks > 1), report.failures
    worst = max(check.p for check in report.failures if check.p is not None)
    assert worst < 0.01 * alpha


# ----------------------------------------------------------------------------------------------------------------- rule


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GateRule(max_drop=-0.1), "--max-drop -0.1: give points, 0 or more"),
        (lambda: GateRule(max_drop=math.nan), "--max-drop nan"),
        (lambda: GateRule(max_drop=math.inf), "--max-drop inf"),
        (lambda: GateRule(alpha=0.0), "--alpha 0: give a level from 0.001 to less than 0.5"),
        (lambda: GateRule(alpha=0.5), "--alpha 0.5"),
        (lambda: GateRule(alpha=math.nan), "--alpha nan"),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], GateRule], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make()


def test_rule_is_declared_with_its_numbers() -> None:
    text = " ".join(GateRule(max_drop=1.5, alpha=0.01).sentences())
    for part in ("1.50 points", "0.01", "Holm", "Inconclusive", "0.1 points", "4 standard errors", "protocol"):
        assert part in text
