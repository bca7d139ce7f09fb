"""Runs all tests of a gate (each task's, and each model's mean over tasks) and corrects p over all of them.

`verdicts.py` judges them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.analysis.gate.matching import Case
from evaluation.analysis.statistics.corrections import holm_in_families
from evaluation.analysis.statistics.paired_tests import Difference, Sample, compare_pairs, sample
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
    by_task: dict[str, list[Case]] = {}
    for case in cases:
        if case.units is not None:
            by_task.setdefault(case.task, []).append(case)
    for own in by_task.values():
        for case, found in zip(own, _compare(own, n_resamples), strict=True):
            if isinstance(found, ComparisonError):
                mismatched[case.label, case.task] = str(found)
            else:
                tasks[case.label, case.task] = found
    tasks = {key: tasks[key] for case in cases if (key := (case.label, case.task)) in tasks}
    suites: dict[Key, SuiteDifference] = {}
    for label in dict.fromkeys(label for label, _ in tasks):
        members = [found for key, found in tasks.items() if key[0] == label and found.is_in_means]
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


def _compare(cases: Sequence[Case], n_resamples: int) -> list[Difference | ComparisonError]:
    """Tests the cases of one task together: their models were scored on the same units."""
    pairs: list[tuple[Sample, Sample]] = []
    for case in cases:
        assert case.units is not None, case
        run = sample(case.units[0], pairs[0][0] if pairs else None)
        pairs.append((run, sample(case.units[1], run)))
    return compare_pairs(pairs, confidence=CONFIDENCE, resampling=Resampling(n_resamples))
