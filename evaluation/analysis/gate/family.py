"""Runs all tests of a gate (each task's, and each model's mean over tasks) and corrects p over all of them.

`verdicts.py` judges them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.analysis.gate.matching import Case
from evaluation.analysis.statistics.corrections import holm_in_families
from evaluation.analysis.statistics.paired_tests import Difference, compare_units
from evaluation.analysis.statistics.sign_flips import Resampling
from evaluation.analysis.statistics.suite_tests import SuiteDifference, suite_difference
from evaluation.errors import ComparisonError

CONFIDENCE = 0.95

Key = tuple[str, str]
"""Label and task of a check; a suite's task is empty."""


@dataclass(frozen=True, slots=True)
class Family:
    """All tests of a gate.

    Attributes:
        tasks: Differences of the tasks whose units are stored on both sides.
        suites: Each model's mean difference over its tested tasks, of which there are at least two.
        mismatched: Why units of a task cannot be paired.
        p_drop: One-sided p by key, corrected over the whole gate; of tasks and suites that have a test.
        task_factor: What the smallest p of a task is multiplied by in the correction.
    """

    tasks: dict[Key, Difference]
    suites: dict[Key, SuiteDifference]
    mismatched: dict[Key, str]
    p_drop: dict[Key, float]
    task_factor: int


def compare_all(cases: Sequence[Case], n_resamples: int) -> Family:
    """Compares all pairs of units, and each model's mean over its tasks.

    Tasks are one family of tests and means another, so that a mean keeps its power beside many tasks.
    """
    tasks: dict[Key, Difference] = {}
    mismatched: dict[Key, str] = {}
    for case in cases:
        if case.units is None:
            continue
        key = (case.label, case.task)
        try:
            tasks[key] = compare_units(*case.units, confidence=CONFIDENCE, resampling=Resampling(n_resamples))
        except ComparisonError as error:
            mismatched[key] = str(error)
    suites: dict[Key, SuiteDifference] = {}
    for label in dict.fromkeys(label for label, _ in tasks):
        members = [found for key, found in tasks.items() if key[0] == label and found.p_drop is not None]
        if len(members) > 1:
            suites[label, ""] = suite_difference(members, confidence=CONFIDENCE)
    drops: list[dict[Key, float | None]] = [
        {key: found.p_drop for key, found in tasks.items()},
        {key: suite.p_drop for key, suite in suites.items()},
    ]
    corrected = holm_in_families([list(own.values()) for own in drops])
    p_drop = {
        key: p
        for own, p_values in zip(drops, corrected, strict=True)
        for key, p in zip(own, p_values, strict=True)
        if p is not None
    }
    n_tested = sum(p is not None for p in drops[0].values())
    return Family(tasks, suites, mismatched, p_drop, n_tested * (2 if suites else 1))
