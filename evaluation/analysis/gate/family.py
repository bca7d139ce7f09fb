"""All tests of a gate as one family: a task's, a suite's, and p adjusted after Holm over all of them. Pure.

Judges nothing; `regression.py` does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from evaluation.analysis.gate.matching import Case
from evaluation.analysis.statistics.paired_tests import (
    Difference,
    SuiteDifference,
    compare_units,
    holm,
    suite_difference,
)
from evaluation.analysis.statistics.resampling import Interval, KeptDraws, Resampling
from evaluation.analysis.statistics.units import Units
from evaluation.errors import ComparisonError

CONFIDENCE, POWER = 0.95, 0.8
MIN_EXPERIMENTS = 5
"""Clustering: the standard error of fewer experiments says nothing."""

Key = tuple[str, str]
"""Label and task of a check; a suite's task is empty."""


@dataclass(frozen=True, slots=True)
class Family:
    """All tests of a gate: differences by key, p after Holm over all of them, and why a pair can't be compared."""

    n_tests: int
    tasks: dict[Key, Difference]
    suites: dict[Key, SuiteDifference]
    mismatched: dict[Key, str]
    p_drop: dict[Key, float | None]
    p_change: dict[Key, float | None]


def compare_all(cases: Sequence[Case], alpha: float, n_resamples: int) -> Family:
    """Compare all pairs of units, and each model's suite.

    Resamples are so many that a p, adjusted, can fall to half of alpha; `detectable` is told for the level that
    Holm's first step leaves a single task.
    """
    pairs = {(case.label, case.task): case.units for case in cases if case.units}
    tested = [key for key, (first, _) in pairs.items() if first.kind != "algorithm"]
    n_suites = sum(n > 1 for n in Counter(label for label, _ in tested).values())
    n_tests = max(len(tested) + n_suites, 1)
    resampling = Resampling(max(n_resamples, math.ceil(2 * n_tests / alpha)), kept=KeptDraws())
    tasks: dict[Key, Difference] = {}
    mismatched: dict[Key, str] = {}
    for key, (first, second) in pairs.items():
        try:
            tasks[key] = compare_units(
                first, second, confidence=CONFIDENCE, alpha=2 * alpha / n_tests, resampling=resampling
            )
        except ComparisonError as error:
            mismatched[key] = str(error)
    suites = {}
    for label in dict.fromkeys(label for label, _ in tested):
        members = [tasks[key] for key in tested if key[0] == label and key in tasks and tasks[key].p_drop is not None]
        if len(members) > 1:
            suites[label, ""] = suite_difference(members, confidence=CONFIDENCE)
    found: dict[Key, Difference | SuiteDifference] = {**{key: tasks[key] for key in tested if key in tasks}, **suites}
    p_drop = holm([difference.p_drop for difference in found.values()])
    p_change = holm([difference.p_two_sided for difference in found.values()])
    return Family(
        n_tests,
        tasks,
        suites,
        mismatched,
        dict(zip(found, p_drop, strict=True)),
        dict(zip(found, p_change, strict=True)),
    )


def algorithm_noise(first: Units, second: Units) -> float | None:
    """Standard error of a clustering task's difference over its paired experiments, 0-1; None with too few of them.

    Args:
        first: Units of kind "algorithm".
        second: The same experiments of the other model.
    """
    variances = []
    others = {(part.split, part.subset): part for part in second.parts}
    for part in first.parts:
        other = others[part.split, part.subset]
        values = dict(zip(other.ids, other.arrays["value"].tolist(), strict=True))
        differences = part.arrays["value"] - np.array([values[name] for name in part.ids])  # (N,)
        if differences.size < MIN_EXPERIMENTS:
            return None
        variances.append(float(np.var(differences, ddof=1)) / differences.size)
    return math.sqrt(sum(variances)) / len(variances)


def suite_detectable(interval: Interval | None, alpha: float) -> float | None:
    """The smallest true drop, 0-1, that a one-sided normal test at `alpha` finds with power 0.8.

    Args:
        interval: Of the suite's difference; its width gives the standard error.
        alpha: Level of the test.
    """
    if interval is None or interval.low == interval.high:
        return None
    quantile = NormalDist().inv_cdf
    error = (interval.high - interval.low) / (2 * quantile((1 + CONFIDENCE) / 2))
    return error * (quantile(1 - alpha) + quantile(POWER))
