"""The rule that tells a regression from noise, and its verdict on every task of a run. Pure: reads no file.

The rule is declared in every output (`GateRule.sentences`); the README says why it is so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from evaluation.analysis.gate.family import MIN_EXPERIMENTS, Family, Key, algorithm_noise, compare_all, suite_detectable
from evaluation.analysis.gate.matching import Case, match, paired_labels
from evaluation.analysis.gate.snapshots import Snapshot
from evaluation.analysis.number_formats import p_equation
from evaluation.analysis.run_view import differing
from evaluation.analysis.statistics.resampling import Interval
from evaluation.errors import UsageError

NEGLIGIBLE = 0.1
"""Points. A smaller change of a mean, or rise of a task, is not worth a verdict, however significant: two processors
sum in different orders, and a paired test finds the tiniest difference that always points one way."""
NOISE_ERRORS = 4.0
"""Clustering: a drop counts from four standard errors of the paired experiments. Were their differences normal, ten of
them went so far by chance once in 600 times, five once in 120."""
MIN_ALPHA, MAX_ALPHA = 0.001, 0.5


class Verdict(StrEnum):
    """What becomes of a task or a suite; the value is what people read."""

    REGRESSED = "REGRESSED"
    MISSING = "MISSING"
    FAILED = "FAILED"
    CHANGED = "CHANGED"
    UNJUDGED = "too small to judge"
    SMALL = "small drop"
    OK = "ok"
    IMPROVED = "improved"
    NEW = "new"

    @property
    def fails(self) -> bool:
        """Whether one of these fails the gate."""
        return self in {Verdict.REGRESSED, Verdict.MISSING, Verdict.FAILED, Verdict.CHANGED}


@dataclass(frozen=True, slots=True)
class GateRule:
    """What counts as a regression.

    Args:
        max_drop: Points that a task may lose, whatever the statistics.
        alpha: Level of the tests, after Holm's correction.

    Raises:
        UsageError: A value is out of range.
    """

    max_drop: float = 1.0
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop < math.inf:
            raise UsageError(f"--max-drop {self.max_drop:g}: give points, 0 or more.")
        if not MIN_ALPHA <= self.alpha < MAX_ALPHA:
            raise UsageError(f"--alpha {self.alpha:g}: give a level from {MIN_ALPHA} to less than {MAX_ALPHA}.")

    def sentences(self) -> tuple[str, ...]:
        """The rule in words, in the order in which it is applied."""
        drop, alpha = f"{self.max_drop:.2f} points", f"{self.alpha:g}"
        return (
            "A task that is missing or failed, or whose protocol, dataset, splits or metric changed, fails.",
            f"A task fails when it drops by more than {drop} and its one-sided p, adjusted after Holm over all tests "
            f"of this gate, is below {alpha}; such a drop without such a p is too small to judge and does not fail.",
            f"A model's suite fails when the mean of its tasks drops by more than {NEGLIGIBLE:g} points with such a p.",
            f"Clustering varies with the algorithm's chance: it fails when it drops by more than {drop} and by more "
            f"than {NOISE_ERRORS:g} standard errors of its paired experiments; it has no p and is in no suite.",
            f"A task of which nothing but the score is stored fails when it drops by more than {drop}.",
        )


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict on a task, or on the mean of a model's tasks. All numbers in points.

    Attributes:
        name: The task, or "mean of 7 tasks".
        change: The run's score - the baseline's.
        p: One-sided for a drop, adjusted; None where there is no test.
        detectable: The smallest true drop that such a test finds four times in five.
        reason: A sentence for people; empty where there is nothing to say.
    """

    label: str
    name: str
    verdict: Verdict
    baseline: float | None = None
    score: float | None = None
    change: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    detectable: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GateReport:
    """All verdicts.

    Attributes:
        tasks: One check a task and model.
        suites: One check a model with two or more tested tasks.
        notes: What else differs between baseline and run: weights, settings, versions.
    """

    run: str
    baseline: str
    rule: GateRule
    tasks: tuple[Check, ...]
    suites: tuple[Check, ...]
    notes: tuple[str, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        """Tasks and suites."""
        return (*self.tasks, *self.suites)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that fail the gate."""
        return tuple(check for check in self.checks if check.verdict.fails)

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures


def judge(baseline: Snapshot, run: Snapshot, rule: GateRule, *, n_resamples: int = 10_000) -> GateReport:
    """Hold a run against a baseline.

    Args:
        baseline: Complete (`check_complete`).
        run: May have failed and missing jobs, which fail.
        rule: The rule.
        n_resamples: At least so many; more where Holm's correction over many tests asks for smaller p.
    """
    cases = match(baseline, run)
    family = compare_all(cases, rule.alpha, n_resamples)
    return GateReport(
        run=run.name,
        baseline=baseline.name,
        rule=rule,
        tasks=tuple(_task_check(case, family, rule) for case in cases),
        suites=tuple(_suite_check(label, cases, family, rule) for label, _ in family.suites),
        notes=tuple(_notes(baseline, run)),
    )


# ------------------------------------------------------------------------------------------------------------- verdicts


def _task_check(case: Case, family: Family, rule: GateRule) -> Check:
    key = (case.label, case.task)
    baseline, score = _points(case.baseline), _points(case.score)
    if case.fault is not None:
        verdict = Verdict.NEW if case.fault.kind == "new" else Verdict(case.fault.kind.upper())
        return Check(case.label, case.task, verdict, baseline, score, reason=case.fault.reason)
    if key in family.mismatched:
        return Check(case.label, case.task, Verdict.CHANGED, baseline, score, reason=family.mismatched[key])
    difference = family.tasks.get(key)
    if difference is None:
        assert baseline is not None and score is not None, case
        change = score - baseline
        verdict, reason = _score_verdict(-change, rule)
        return Check(case.label, case.task, verdict, baseline, score, change, reason=reason)
    drop = -100 * difference.value
    if key in family.p_drop:
        verdict, reason = _tested_verdict(key, drop, family, rule)
    else:
        assert case.units is not None, case
        verdict, reason = _clustering_verdict(drop, algorithm_noise(*case.units), rule)
    return Check(
        label=case.label,
        name=case.task,
        verdict=verdict,
        baseline=baseline,
        score=score,
        change=-drop,
        interval=_interval(difference.interval),
        p=family.p_drop.get(key),
        detectable=_points(difference.detectable) if key in family.p_drop else None,
        reason=reason,
    )


def _score_verdict(drop: float, rule: GateRule) -> tuple[Verdict, str]:
    """Of a task with nothing but scores."""
    if drop > rule.max_drop:
        return Verdict.REGRESSED, f"dropped {_more_than(drop, rule)}; nothing but its score is stored"
    return Verdict.OK, "judged by its score alone: nothing else is stored"


def _clustering_verdict(drop: float, noise: float | None, rule: GateRule) -> tuple[Verdict, str]:
    """Of a task whose units are runs of an algorithm; `noise` is a standard error, 0-1."""
    if drop <= rule.max_drop:
        return Verdict.OK, ""
    if noise is None:
        few = f"fewer than {MIN_EXPERIMENTS} experiments can't tell it from the algorithm's chance"
        return Verdict.UNJUDGED, f"dropped {_more_than(drop, rule)}, but {few}"
    bound = f"{NOISE_ERRORS:g} standard errors of its experiments, {100 * NOISE_ERRORS * noise:.2f}"
    if drop > 100 * NOISE_ERRORS * noise:
        return Verdict.REGRESSED, f"dropped {_more_than(drop, rule)}, and more than {bound}"
    return Verdict.UNJUDGED, f"dropped {_more_than(drop, rule)}, but no more than {bound}"


def _tested_verdict(key: Key, drop: float, family: Family, rule: GateRule) -> tuple[Verdict, str]:
    difference, p, p_change = family.tasks[key], family.p_drop[key], family.p_change[key]
    if p is None:
        if drop > rule.max_drop:
            return Verdict.UNJUDGED, f"dropped {_more_than(drop, rule)}, but can't be tested: {difference.note}"
        return Verdict.OK, difference.note
    if drop > rule.max_drop:
        if p < rule.alpha:
            return Verdict.REGRESSED, f"dropped {_more_than(drop, rule)}, {_p(p)}"
        known = _points(difference.detectable)
        power = "" if known is None else f"; they show drops from about {known:.1f} points"
        judged = f"too small to judge with these {difference.n_units} units: {_p(p)}{power}"
        return Verdict.UNJUDGED, f"dropped {_more_than(drop, rule)}, which is {judged}"
    if drop > NEGLIGIBLE and p < rule.alpha:
        return Verdict.SMALL, f"dropped {drop:.2f} points, no more than {rule.max_drop:.2f}, but not by chance: {_p(p)}"
    if -drop > NEGLIGIBLE and p_change is not None and p_change < rule.alpha:
        return Verdict.IMPROVED, f"rose {-drop:.2f} points, {_p(p_change)}"
    return Verdict.OK, ""


def _suite_check(label: str, cases: Sequence[Case], family: Family, rule: GateRule) -> Check:
    key = (label, "")
    difference, p, p_change = family.suites[key], family.p_drop[key], family.p_change[key]
    assert p is not None and p_change is not None, key
    members = [case for case in cases if case.label == label and family.p_drop.get((label, case.task)) is not None]
    drop = -100 * difference.value
    verdict, reason = Verdict.OK, ""
    if p < rule.alpha and drop > NEGLIGIBLE:
        verdict, reason = Verdict.REGRESSED, f"the mean dropped {drop:.2f} points, {_p(p)}"
    elif drop > rule.max_drop:
        judged = f"too small to judge with these {len(members)} tasks: {_p(p)}"
        verdict, reason = Verdict.UNJUDGED, f"the mean dropped {_more_than(drop, rule)}, which is {judged}"
    elif p_change < rule.alpha and -drop > NEGLIGIBLE:
        verdict, reason = Verdict.IMPROVED, f"the mean rose {-drop:.2f} points, {_p(p_change)}"
    return Check(
        label=label,
        name=f"mean of {len(members)} tasks",
        verdict=verdict,
        baseline=100 * fmean(case.baseline for case in members if case.baseline is not None),
        score=100 * fmean(case.score for case in members if case.score is not None),
        change=-drop,
        interval=_interval(difference.interval),
        p=p,
        detectable=_points(suite_detectable(difference.interval, rule.alpha / family.n_tests)),
        reason=reason,
    )


def _more_than(drop: float, rule: GateRule) -> str:
    return f"{drop:.2f} points, more than {rule.max_drop:.2f}"


def _p(value: float) -> str:
    return f"{p_equation(value)} after Holm"


def _points(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _interval(interval: Interval | None) -> tuple[float, float] | None:
    return None if interval is None else (100 * interval.low, 100 * interval.high)


# ---------------------------------------------------------------------------------------------------------------- notes


def _notes(baseline: Snapshot, run: Snapshot) -> list[str]:
    """What differs beside the scores and fails nothing: weights, a model's settings, versions."""
    notes = []
    for before, now in paired_labels(baseline, run).items():
        old, new = baseline.models.get(before), run.models.get(now)
        if old is None or new is None:
            continue
        name = now if before == now else f"{now} (the baseline's {before})"
        same = all(old.get(part) == new.get(part) for part in ("weights_sha256", "tokenizer_sha256"))
        notes.append(f"{name}: {'the same' if same else 'other'} weights and tokenizer as in the baseline.")
        settings = differing(old.get("settings", {}), new.get("settings", {}))
        if settings:
            notes.append(f"{name}: {'; '.join(settings.values())}.")
    versions = [
        f"{name} {baseline.versions.get(name, 'none')} -> {run.versions.get(name, 'none')}"
        for name in dict.fromkeys([*baseline.versions, *run.versions])
        if baseline.versions.get(name) != run.versions.get(name)
    ]
    if versions:
        notes.append(f"Versions differ: {'; '.join(versions)}.")
    return notes
