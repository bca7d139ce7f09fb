"""Judges a run by a baseline: the verdict on every task and on each model's mean. Pure: reads no file.

The rule is `rule.py`'s, every output declares it, and docs/statistics.md explains it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from evaluation.analysis.gate.family import Family, Key, compare_all
from evaluation.analysis.gate.matching import Case, match, paired_labels
from evaluation.analysis.gate.rule import NEGLIGIBLE, NOISE_ERRORS, Check, GateReport, GateRule, Verdict
from evaluation.analysis.gate.snapshots import Snapshot
from evaluation.analysis.number_formats import counted, p_equation
from evaluation.analysis.statistics.collapse import has_collapsed, n_deciding
from evaluation.analysis.statistics.intervals import Interval
from evaluation.analysis.statistics.paired_tests import MIN_UNITS, Difference
from evaluation.analysis.statistics.power import examples_to_rule_out
from evaluation.analysis.statistics.suite_tests import SuiteDifference
from evaluation.analysis.statistics.units import Units
from evaluation.analysis.task_scores import differing

MIN_RUNS = 5
"""Clustering: the standard error of fewer runs of the algorithm says nothing."""
_ROUNDING = 1e-9
"""Points. A change is compared with max-drop up to this much, so that -1.0 is no more than 1."""
_UNCHANGED_SHARE = 0.05
"""Unchanged examples rule out a drop that would leave so many unchanged with this probability at most."""


def judge(baseline: Snapshot, run: Snapshot, rule: GateRule, *, n_resamples: int = 10_000) -> GateReport:
    """Judges a run by a baseline.

    Args:
        baseline: Complete (`check_complete`).
        run: May have failed and missing jobs, which fail.
        n_resamples: Random patterns of signs per test of few examples.
    """
    cases = match(baseline, run)
    family = compare_all(cases, n_resamples)
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
        verdict, reason = _untested_verdict(-change, "nothing but its score is stored", rule)
        return Check(case.label, case.task, verdict, baseline, score, change, reason=reason)
    if key in family.p_drop:
        assert case.units is not None, case
        verdict, reason = _tested_verdict(key, case.units[1], family, rule)
    else:
        verdict, reason = _clustering_verdict(difference, rule)
    return Check(
        label=case.label,
        name=case.task,
        verdict=verdict,
        baseline=baseline,
        score=score,
        change=100 * difference.value,
        interval=_interval(difference.interval),
        p=family.p_drop.get(key),
        reason=reason,
        unchanged=_is_unchanged(difference),
    )


def _untested_verdict(drop: float, why: str, rule: GateRule) -> tuple[Verdict, str]:
    """Of a task that has no test."""
    if _exceeds(drop, rule):
        return Verdict.REGRESSION, f"dropped {_more_than(drop, rule)}, and cannot be tested: {why}"
    rose = f"rose {-drop:.2f} points, but whether by more than chance " if drop < -NEGLIGIBLE else ""
    return Verdict.INCONCLUSIVE, f"{rose}cannot be tested: {why}"


def _clustering_verdict(difference: Difference, rule: GateRule) -> tuple[Verdict, str]:
    """Of a task whose units are runs of an algorithm."""
    drop = -100 * difference.value
    if difference.error is None or difference.n_clusters < MIN_RUNS:
        return _untested_verdict(drop, f"fewer than {MIN_RUNS} runs of the algorithm", rule)
    noise = f"{NOISE_ERRORS:g} standard errors of its paired runs, {100 * NOISE_ERRORS * difference.error:.2f}"
    if _exceeds(drop, rule):
        if drop > 100 * NOISE_ERRORS * difference.error:
            return Verdict.REGRESSION, f"dropped {_more_than(drop, rule)}, and more than {noise}"
        return Verdict.INCONCLUSIVE, f"dropped {_more_than(drop, rule)}, but no more than {noise}"
    if difference.lower_bound is not None and not _exceeds(-100 * difference.lower_bound, rule):
        return Verdict.NO_DROP, ""
    return Verdict.INCONCLUSIVE, f"its {difference.n_units} runs of the algorithm vary too much to decide"


def _tested_verdict(key: Key, baseline: Units, family: Family, rule: GateRule) -> tuple[Verdict, str]:
    difference, p, unit = family.tasks[key], family.p_drop[key], _unit_name(baseline.type)
    drop, n = -100 * difference.value, difference.n_clusters
    significant = p < rule.alpha
    if _exceeds(drop, rule):
        dropped = f"dropped {_more_than(drop, rule)}"
        if significant:
            return Verdict.REGRESSION, f"{dropped}, {_p(p)}"
        if few := _too_few(difference, baseline, family.task_factor, rule):
            return Verdict.REGRESSION, f"{dropped}, and no p can call it chance: {few}"
        if has_collapsed(baseline, -difference.value):
            return (
                Verdict.REGRESSION,
                f"collapsed: dropped {drop:.2f} points, most of what it had above a worthless model",
            )
        return Verdict.INCONCLUSIVE, f"{dropped}, {_p(p)}; {_missing(difference, unit, rule)}"
    if n < MIN_UNITS or difference.lower_bound is None:
        return Verdict.INCONCLUSIVE, _missing(difference, unit, rule)
    low = 100 * difference.lower_bound
    if not _exceeds(-low, rule):
        if drop > NEGLIGIBLE and significant:
            return Verdict.NO_DROP, f"dropped {drop:.2f} points, no more than {rule.max_drop:.2f}, {_p(p)}"
        return Verdict.NO_DROP, f"rose {-drop:.2f} points, by more than chance" if low > NEGLIGIBLE else ""
    return Verdict.INCONCLUSIVE, _missing(difference, unit, rule)


def _too_few(difference: Difference, baseline: Units, factor: int, rule: GateRule) -> str:
    """Why a task's units cannot show a collapse; empty where they can."""
    unit, n, deciding = _unit_name(baseline.type), difference.n_clusters, n_deciding(baseline)
    if n < MIN_UNITS:
        return f"it has {counted(n, f'independent {unit}')}"
    if difference.n_effective < MIN_UNITS:
        return f"a few of its {counted(n, unit)} carry most of the score"
    if deciding < MIN_UNITS:
        return f"it has {counted(deciding, unit)} with the rarer label"
    if factor * 2.0 ** -min(n, deciding) >= rule.alpha:
        return f"{counted(min(n, deciding), unit)} are too few for this gate's number of tests"
    return ""


def _missing(difference: Difference, unit: str, rule: GateRule) -> str:
    """How many examples would decide."""
    if rule.max_drop == 0:
        return "no number of examples rules out every drop: give a --max-drop above 0"
    assert difference.error is not None, difference
    n, low = difference.n_clusters, difference.lower_bound
    if _is_unchanged(difference):
        return f"{counted(n, unit)} cannot rule out a drop, although none changed; {MIN_UNITS} without a change would"
    ratio = examples_to_rule_out(100 * difference.error, rule.max_drop)
    kept = math.log1p(-min(rule.max_drop / 100, 1 - _ROUNDING))  # logarithm of the share of unchanged examples
    if n < MIN_UNITS or low is None:
        ratio = max(ratio, math.log(_UNCHANGED_SHARE) / kept / n)
    elif difference.interval is None or low < difference.interval.low:
        ratio = max(ratio, math.log1p(max(low, _ROUNDING - 1)) / kept)
    if ratio <= 1:
        return f"the change is too close to -{rule.max_drop:.2f} for {counted(n, unit)} to decide"
    wanted = _rounded(n * ratio)
    return (
        f"{counted(n, unit)} cannot rule out a drop of {rule.max_drop:.2f} points; "
        f"about {wanted} would if there is none"
    )


def _suite_check(label: str, cases: Sequence[Case], family: Family, rule: GateRule) -> Check:
    key = (label, "")
    difference, p = family.suites[key], family.p_drop[key]
    members = [case for case in cases if case.label == label and _is_in_mean(family.tasks.get((label, case.task)))]
    drop, low = -100 * difference.value, 100 * difference.lower_bound
    if p < rule.alpha and drop > NEGLIGIBLE:
        verdict, reason = Verdict.REGRESSION, f"the mean dropped {drop:.2f} points, {_p(p)}"
    elif not _exceeds(-low, rule):
        verdict = Verdict.NO_DROP
        reason = f"the mean rose {-drop:.2f} points, by more than chance" if low > NEGLIGIBLE else ""
    else:
        verdict = Verdict.INCONCLUSIVE
        reason = f"the mean dropped {_more_than(drop, rule)}, {_p(p)}; " if _exceeds(drop, rule) else ""
        reason += _missing_of_mean(difference, {case.task: family.tasks[label, case.task] for case in members}, rule)
    return Check(
        label=label,
        name=f"mean of {counted(len(members), 'task')}",
        verdict=verdict,
        baseline=100 * fmean(case.baseline for case in members if case.baseline is not None),
        score=100 * fmean(case.score for case in members if case.score is not None),
        change=-drop,
        interval=_interval(difference.interval),
        p=p,
        reason=reason,
        unchanged=all(_is_unchanged(family.tasks[label, case.task]) for case in members),
    )


def _missing_of_mean(mean: SuiteDifference, tasks: Mapping[str, Difference], rule: GateRule) -> str:
    """What would decide a mean."""
    ratio = examples_to_rule_out(100 * mean.error, rule.max_drop) if rule.max_drop else 0.0
    if ratio > 1:
        return f"about {ratio:.1f} times as many examples per task would decide"
    rarest = min(tasks, key=lambda task: tasks[task].rare_losses)
    lowest = mean.value + tasks[rarest].rare_losses / len(tasks)
    if mean.lower_bound == lowest < mean.value:
        return f"too few examples of {rarest} changed to rule out rare losses: more examples of it would"
    return f"the change is too close to -{rule.max_drop:.2f} to decide"


def _is_in_mean(difference: Difference | None) -> bool:
    return difference is not None and difference.is_in_means


def _is_unchanged(difference: Difference) -> bool:
    """Whether no unit differs."""
    return difference.n_changed == 0 and not difference.error


def _exceeds(drop: float, rule: GateRule) -> bool:
    return drop > rule.max_drop + _ROUNDING


def _unit_name(type_: str) -> str:
    """What a unit of a task type is called."""
    if type_ == "BitextMining":
        return "sentence"
    return "query" if "Retrieval" in type_ or "Reranking" in type_ else "example"


def _more_than(drop: float, rule: GateRule) -> str:
    return f"{drop:.2f} points, more than {rule.max_drop:.2f}"


def _rounded(n: float) -> str:
    """A number to two digits, rounded up."""
    step = 10 ** max(math.floor(math.log10(n)) - 1, 0)
    return f"{math.ceil(n / step) * step:,}"


def _p(value: float) -> str:
    return f"{p_equation(value)} after Holm"


def _points(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _interval(interval: Interval | None) -> tuple[float, float] | None:
    return None if interval is None or interval.low == interval.high else (100 * interval.low, 100 * interval.high)


# ---------------------------------------------------------------------------------------------------------------- notes


def _notes(baseline: Snapshot, run: Snapshot) -> list[str]:
    """What differs besides the scores and fails nothing: weights, a model's settings, versions."""
    notes = []
    for before, now in paired_labels(baseline, run).items():
        old, new = baseline.models.get(before), run.models.get(now)
        if old is None or new is None:
            continue
        name = now if before == now else f"{now} (the baseline's {before})"
        same = all(old.get(part) == new.get(part) for part in ("weights_sha256", "tokenizer_sha256"))
        how = "the same weights and tokenizer as" if same else "other weights or another tokenizer than"
        notes.append(f"{name}: {how} in the baseline.")
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
