"""The gate fails a collapse of any task type, size and layout, with and without samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evaluation.analysis.gate.rule import GateReport, GateRule, Verdict
from evaluation.analysis.gate.snapshots import Snapshot
from evaluation.analysis.gate.verdicts import judge
from evaluation.analysis.statistics.collapse import has_collapsed
from evaluation.analysis.statistics.units import UnitPart, Units, score
from evaluation.analysis.task_scores import ScoredJob

Arrays = dict[str, np.ndarray]
SIZES = (1, 2, 5, 9, 10, 13, 17, 30, 100, 500)


def as_job(type_: str, statistic: str, parts: list[Arrays], *, task: str = "Collapsing", label: str = "m") -> ScoredJob:
    kind = "algorithm" if type_ == "Clustering" else "query" if type_ == "Retrieval" else "example"
    made = tuple(
        UnitPart(
            "test", f"s{at}", tuple(map(str, range(part["n"].shape[-1]))), {k: v for k, v in part.items() if k != "n"}
        )
        for at, part in enumerate(parts)
    )
    units = Units(task, type_, "metric", statistic, kind, made)  # type: ignore[arg-type]
    return ScoredJob(label, task, type_, "metric", None, score(units), "", {}, units)


def queries(rng: np.random.Generator, n: int, good: bool) -> Arrays:
    values = rng.uniform(0.4, 1.0, n)
    return {"n": values, "value": values if good else 0.03 * values}


def uniform(rng: np.random.Generator, n: int, good: bool) -> Arrays:
    return {"n": np.empty(n), "value": np.full(n, float(good))}


def labels(rng: np.random.Generator, n: int, good: bool) -> Arrays:
    return {"n": np.empty(n), "value": np.full((10, n), int(good))}


def translations(rng: np.random.Generator, n: int, good: bool) -> Arrays:
    gold = np.arange(n)
    return {"n": gold, "gold": gold, "prediction": gold if good else gold + n}


def graded(rng: np.random.Generator, n: int, good: bool) -> Arrays:
    gold = np.arange(n)
    return {"n": gold, "gold": gold, "prediction": gold if good else gold[::-1].copy()}


def constant(rng: np.random.Generator, n: int, good: bool) -> Arrays:
    """A broken model that gives every pair the same similarity."""
    gold = np.arange(n)
    return {"n": gold, "gold": gold, "prediction": gold if good else np.zeros(n, np.int64)}


def matched(rng: np.random.Generator, n: int, good: bool) -> Arrays:
    gold = (np.arange(n) % 2 == 0).astype(np.int64)
    return {"n": gold, "gold": gold, "prediction": (gold if good else -gold)[None]}


def unranked(rng: np.random.Generator, n: int, good: bool) -> Arrays:
    """A broken model that gives every pair the same similarity; a fifth of the pairs match."""
    gold = (np.arange(n) % 5 == 0).astype(np.int64)
    return {"n": gold, "gold": gold, "prediction": (gold * n + np.arange(n) if good else 0 * gold)[None]}


def amounts(rng: np.random.Generator, n: int, good: bool) -> Arrays:
    gold = np.arange(n)
    return {"n": gold, "gold": gold, "prediction": (gold if good else gold[::-1])[None].copy()}


KINDS: dict[str, tuple[str, str, Callable[..., Arrays], int]] = {  # type, statistic, units, smallest size
    "retrieval": ("Retrieval", "rounded mean", queries, 1),
    "retrieval, all alike": ("Retrieval", "rounded mean", uniform, 1),
    "accuracy": ("Classification", "mean", labels, 1),
    "bitext": ("BitextMining", "bitext f1", translations, 1),
    "STS, reversed": ("STS", "spearman", graded, 2),
    "STS, constant": ("STS", "spearman", constant, 2),
    "pairs": ("PairClassification", "ap", matched, 2),
    "pairs, constant": ("PairClassification", "ap", unranked, 2),
    "pairs, accuracy": ("PairClassification", "pair accuracy", unranked, 2),
    "pairs, F1": ("PairClassification", "pair f1", unranked, 2),
    "regression": ("Regression", "kendalltau", amounts, 3),
    "clustering": ("Clustering", "mean", uniform, 1),
}
LAYOUTS: dict[str, Callable[[int], list[int]]] = {
    "one subset": lambda n: [n],
    "and a subset of one": lambda n: [n, 1],
    "four subsets": lambda n: [n] * 4,
    "very unequal": lambda n: [n, max(n // 10, 1), max(n // 100, 1)],
}


def gate_of(before: ScoredJob, now: ScoredJob, n_others: int, rule: GateRule) -> GateReport:
    rng = np.random.default_rng(5)
    others = [
        as_job("Retrieval", "mean", [queries(rng, 60, True)], task=f"T{at}", label=f"m{at % 3}")
        for at in range(n_others)
    ]
    return judge(
        Snapshot("run", (before, *others), {}, {}), Snapshot("run", (now, *others), {}, {}), rule, n_resamples=2_000
    )


def collapsing(kind: str, sizes: list[int]) -> tuple[ScoredJob, ScoredJob] | None:
    type_, statistic, make, smallest = KINDS[kind]
    if min(sizes) < smallest:
        return None
    before, now = (
        as_job(type_, statistic, [make(rng, n, good) for n in sizes])
        for rng, good in ((np.random.default_rng(0), True), (np.random.default_rng(0), False))
    )
    return before, now


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_collapse_fails(kind: str, size: int) -> None:
    """Alone at alpha 0.05, and, where examples are few, among 45 other tasks of three models at 0.01."""
    for layout in LAYOUTS.values():
        pair = collapsing(kind, layout(size))
        if pair is None:
            continue
        for n_others, alpha in ((0, 0.05), (45, 0.01)) if size <= 30 else ((0, 0.05),):
            checks = gate_of(*pair, n_others, GateRule(alpha=alpha)).tasks
            found = next(check for check in checks if check.name == "Collapsing")
            assert found.verdict is Verdict.REGRESSION, (layout(size), n_others, found)


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_collapse_of_ten_thousand_fails(kind: str) -> None:
    test_collapse_fails(kind, 10_000)


@pytest.mark.parametrize("kind", KINDS)
def test_collapse_without_samples_fails(kind: str) -> None:
    pair = collapsing(kind, [100])
    assert pair is not None
    before, now = (replace(own, units=None) for own in pair)
    (check,) = gate_of(before, now, 0, GateRule()).checks
    assert check.verdict is Verdict.REGRESSION and "nothing but its score is stored" in check.reason


def test_three_tasks_of_which_every_query_drops_from_1_to_0_fail() -> None:
    jobs = [
        [as_job("Retrieval", "mean", [uniform(np.random.default_rng(0), 500, good)], task=f"T{at}") for at in range(3)]
        for good in (True, False)
    ]
    report = judge(*(Snapshot("run", tuple(own), {}, {}) for own in jobs), GateRule(alpha=0.001))
    assert [check.verdict for check in report.checks] == [Verdict.REGRESSION] * 4
    assert all(
        check.interval is not None and -100 <= check.interval[0] < check.interval[1] < -99 for check in report.checks
    )
    assert all(check.reason for check in report.checks)


def test_subset_of_one_query_vetoes_nothing_and_decides_nothing() -> None:
    """A drop of 25 points over 1,001 queries fails; without a drop the same layout passes."""
    rng = np.random.default_rng(0)
    many, one = rng.random(1000), rng.random(1)

    def judged(shift: float) -> Verdict:
        after = [many + shift + rng.normal(0, 0.1, 1000), one + shift]
        sides = [[{"n": own, "value": own} for own in values] for values in ([many, one], after)]
        pair = [Snapshot("run", (as_job("Retrieval", "mean", parts),), {}, {}) for parts in sides]
        (check,) = judge(*pair, GateRule()).checks
        return check.verdict

    assert judged(-0.25) is Verdict.REGRESSION
    assert judged(0.0) is not Verdict.REGRESSION


def test_nine_queries_that_lose_everything_fail_and_nine_that_wobble_do_not() -> None:
    def judged(after: Any) -> Verdict:
        sides = [[{"n": np.asarray(own), "value": np.asarray(own)}] for own in (np.full(9, 0.99), after)]
        pair = [Snapshot("run", (as_job("Retrieval", "mean", parts),), {}, {}) for parts in sides]
        (check,) = judge(*pair, GateRule()).checks
        return check.verdict

    assert judged(np.linspace(0, 0.002, 9)) is Verdict.REGRESSION
    assert judged(np.full(9, 0.99) + np.linspace(-0.01, 0.01, 9)) is Verdict.INCONCLUSIVE


def test_model_that_is_run_again_passes_whatever_the_layout() -> None:
    for kind in KINDS:
        for layout in LAYOUTS.values():
            pair = collapsing(kind, layout(30))
            if pair is None:
                continue
            report = gate_of(pair[0], pair[0], 3, GateRule())
            assert report.passed, (kind, report.failures)
            assert {check.verdict for check in report.checks} <= {Verdict.NO_DROP, Verdict.INCONCLUSIVE}
    for kind in KINDS:
        pair = collapsing(kind, [300])
        assert pair is not None
        report = gate_of(pair[0], pair[0], 0, GateRule(require_conclusive=True))
        assert {check.verdict for check in report.checks} == {Verdict.NO_DROP}, kind


def labelled(gold: np.ndarray, prediction: np.ndarray) -> ScoredJob:
    right = np.tile(gold == prediction, (10, 1)).astype(np.int64)
    return as_job("Classification", "mean", [{"n": gold, "value": right, "gold": gold}])


def test_classification_that_falls_to_the_most_frequent_label_has_collapsed() -> None:
    """Accuracy 100 -> 50, all that was above a constant answer: p = 2^-10 is 0.09 after 90 tests, no evidence alone."""
    gold = np.tile([0, 1], 10)
    checks = gate_of(labelled(gold, gold), labelled(gold, 0 * gold), 89, GateRule(alpha=0.01)).tasks
    found = next(check for check in checks if check.name == "Collapsing")
    assert found.p is not None and found.p > 0.01
    assert (found.verdict, found.reason[:10]) == (Verdict.REGRESSION, "collapsed:")


@pytest.mark.parametrize(("statistic", "constant"), [("mean", 0.75), ("macro f1", 3 / 7), ("weighted f1", 9 / 14)])
def test_constant_answer_scores_what_the_labels_say(statistic: str, constant: float) -> None:
    """30 of 40 examples have one label: F1 of it is 2 * 0.75 / 1.75 = 6 / 7, of the other 0."""
    gold = np.repeat([0, 1], [30, 10])
    part = {"n": gold, "gold": gold, "prediction": 0 * gold[None]} | (
        {"value": 1 - gold} if statistic == "mean" else {}
    )
    units = as_job("Classification", statistic, [part]).units
    assert units is not None
    assert score(units) == pytest.approx(constant)
    perfect = as_job("Classification", statistic, [part | {"prediction": gold[None], "value": 0 * gold + 1}]).units
    assert perfect is not None
    assert has_collapsed(perfect, 0.7 * (1 - constant)) and not has_collapsed(perfect, 0.6 * (1 - constant))


def test_fifty_six_equal_tasks_raise_no_pile_of_warnings() -> None:
    from evaluation.analysis.tables.gate_text import workflow_commands

    rng = np.random.default_rng(3)
    sides = [
        [
            as_job("Retrieval", "mean", [{"n": base, "value": base + rng.normal(0, 0.2, 100)}], task=f"T{at}")
            for at, base in enumerate(np.random.default_rng(1).random((56, 100)))
        ]
        for _ in range(2)
    ]
    report = judge(*(Snapshot("run", tuple(own), {}, {}) for own in sides), GateRule())
    assert report.passed
    assert len(workflow_commands(report)) <= 1
