"""Plans a gate before anything is run: which drops it will find, and how many examples are missing.

The spread of examples' differences comes from a pilot, a run of another checkpoint, or from a declared share of changed
examples. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from evaluation.analysis.gate.rule import GateRule
from evaluation.analysis.gate.snapshots import Snapshot
from evaluation.analysis.statistics.clusters import clusters_of
from evaluation.analysis.statistics.paired_tests import compare_units
from evaluation.analysis.statistics.power import examples_for, spread_of_changes, visible_drop
from evaluation.analysis.statistics.units import Units
from evaluation.analysis.task_scores import ScoredJob
from evaluation.errors import ComparisonError, UsageError

DECLARED_SHARE = 0.1
"""Share of examples that another checkpoint turns right or wrong, where neither a pilot nor a share is given."""


@dataclass(frozen=True, slots=True)
class Pilot:
    """How far two checkpoints' examples differ.

    Attributes:
        run: The other checkpoint's run.
        spread: Task -> standard deviation of one example's difference, in points.
    """

    run: str
    spread: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What a gate will find on one task, or on the mean of all.

    Attributes:
        n_examples: Independent examples; 0 for the mean.
        drop: The smallest true drop, in points, that the gate finds four times in five; None where it has no test.
        needed: Examples that make a drop of max-drop visible; None likewise, and for a max-drop of 0.
    """

    task: str
    n_examples: int
    drop: float | None
    needed: int | None

    @property
    def missing(self) -> int | None:
        """Examples that the task lacks; 0 where it has enough."""
        return None if self.needed is None else max(self.needed - self.n_examples, 0)


def measure_pilot(baseline: Snapshot, other: Snapshot, name: str) -> Pilot:
    """Measures how far another checkpoint's examples differ from the baseline's; of several models the largest counts.

    Args:
        baseline: Complete.
        other: A run of other checkpoints on the same tasks; labels need not agree.
        name: How the file calls the other run.

    Raises:
        UsageError: No task can be paired.
    """
    spread: dict[str, float] = {}
    for job in baseline.jobs:
        for theirs in other.jobs:
            if job.task != theirs.task or not (_has_examples(job) and _has_examples(theirs)):
                continue
            assert job.units is not None and theirs.units is not None
            try:
                found = compare_units(theirs.units, job.units)
            except ComparisonError:
                continue
            if found.error:
                own = 100 * found.error * math.sqrt(found.n_clusters)
                spread[job.task] = max(spread.get(job.task, 0.0), round(own, 4))
    if not spread:
        raise UsageError(f"--pilot {name}: no task of it differs from the baseline's: give another checkpoint's run.")
    return Pilot(other.name, dict(sorted(spread.items())))


def plan_gate(baseline: Snapshot, rule: GateRule, pilot: Pilot | None, share: float | None) -> list[TaskPlan]:
    """Plans a gate of runs of the baseline's models and tasks; the mean of a model's tasks comes last.

    Args:
        baseline: Complete.
        rule: The gate's rule.
        pilot: Of the baseline; a declared share comes before it.
        share: Declared share of examples that change; None: the pilot's spread, else `DECLARED_SHARE`.

    Raises:
        UsageError: The share is not above 0 and at most 1.
    """
    if share is not None and not 0 < share <= 1:
        raise UsageError(f"--changed {share:g}: give a share of examples above 0 and up to 1, such as 0.1.")
    tested = [job for job in baseline.jobs if _has_examples(job)]
    n_labels = len({job.label for job in tested})
    several = len({job.task for job in tested}) > 1
    level = rule.alpha / (2 if several else 1) / max(len(tested), 1)
    declared = 100 * spread_of_changes(DECLARED_SHARE if share is None else share)
    plans, variances = [], []
    for job in {job.task: job for job in baseline.jobs}.values():
        if not _has_examples(job):
            plans.append(TaskPlan(job.task, 0, None, None))
            continue
        assert job.units is not None
        n = _independent(job.units)
        spread = declared if share is not None or pilot is None else pilot.spread.get(job.task, declared)
        variances.append(spread**2 / n)
        needed = examples_for(spread, rule.max_drop, level) if rule.max_drop else None
        drop = visible_drop(spread / math.sqrt(n), level)
        if spread == declared:
            drop = _possible_drop(drop, n, level)
        plans.append(TaskPlan(job.task, n, drop, needed))
    if several:
        error = math.sqrt(sum(variances)) / len(variances)
        drop = visible_drop(error, rule.alpha / 2 / n_labels)
        plans.append(TaskPlan(f"mean of {len(variances)} tasks", 0, drop, None))
    return plans


def _possible_drop(drop: float, n_examples: int, level: float) -> float:
    """The visible drop where a share of examples is declared: a drop of d points changes at least d % of them."""
    while (
        wider := visible_drop(100 * spread_of_changes(min(drop / 100, 1)) / math.sqrt(n_examples), level)
    ) > drop + 0.01:
        drop = wider
    return drop


def _has_examples(job: ScoredJob) -> bool:
    return job.units is not None and job.units.kind != "algorithm"


def _independent(units: Units) -> int:
    return len(clusters_of(units).weights)
