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
from evaluation.analysis.statistics.paired_tests import MIN_UNITS, compare_units
from evaluation.analysis.statistics.power import examples_for, spread_of_changes, visible_drop
from evaluation.analysis.statistics.units import Units
from evaluation.analysis.task_scores import ScoredJob, TaskScore
from evaluation.errors import ComparisonError, UsageError

DECLARED_SHARE = 0.1
"""Share of examples that another checkpoint turns right or wrong, where neither a pilot nor a share is given."""
_ROUNDING = 1e-6
"""Of a number of examples."""


@dataclass(frozen=True, slots=True)
class Pilot:
    """How far two checkpoints' examples differ.

    Attributes:
        run: The other checkpoint's run.
        spread: Task -> standard deviation of one example's difference, in points, where all weigh the same.
    """

    run: str
    spread: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What a gate will find on one task, or on the mean of all.

    Attributes:
        n_examples: Independent examples; 0 for the mean.
        drop: The smallest true drop, in points, that the gate finds four times in five; None where it has no test.
        needed: Examples that make a drop of max-drop visible, spread over the subsets as they are now; None likewise,
            and for a max-drop of 0.
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
    theirs = _tested(other)
    for (_, task), units in _tested(baseline).items():
        for own in [found for (_, name), found in theirs.items() if name == task]:
            try:
                found = compare_units(own, units)
            except ComparisonError:
                continue
            if found.error:
                deviation = 100 * found.error * math.sqrt(found.n_effective)
                spread[task] = max(spread.get(task, 0.0), round(deviation, 4))
    if not spread:
        raise UsageError(f"--pilot {name}: no task of it differs from the baseline's: give another checkpoint's run.")
    return Pilot(other.name, dict(sorted(spread.items())))


def plan_gate(baseline: Snapshot, rule: GateRule, pilot: Pilot | None, share: float | None) -> list[TaskPlan]:
    """Plans a gate of runs of the baseline's models and tasks; the means over a model's tasks come last.

    Examples of subsets that differ in size weigh differently, and count as their effective number (Kish 1965).

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
    tested = _tested(baseline)
    sizes = {key: len(clusters_of(units).weights) for key, units in tested.items()}
    of_label = {
        label: tuple(task for (own, task), n in sizes.items() if own == label and n >= MIN_UNITS) for label, _ in tested
    }
    means = [tasks for tasks in of_label.values() if len(tasks) > 1]
    level = rule.alpha / (2 if means else 1) / max(len(tested), 1)
    declared = 100 * spread_of_changes(DECLARED_SHARE if share is None else share)
    by_task = {task: units for (_, task), units in tested.items()}
    plans: list[TaskPlan] = []
    variances: dict[str, float] = {}
    for task in dict.fromkeys(job.aggregate or job.task for job in baseline.jobs):
        if task not in by_task:
            plans.append(TaskPlan(task, 0, None, None))
            continue
        weights = clusters_of(by_task[task]).weights
        n, effective = len(weights), 1.0 / float((weights**2).sum())
        spread = declared if share is not None or pilot is None else pilot.spread.get(task, declared)
        variances[task] = spread**2 / effective
        drop = visible_drop(math.sqrt(variances[task]), level)
        if spread == declared:
            drop = _possible_drop(drop, effective, level)
        needed = None
        if rule.max_drop:
            needed = math.ceil(examples_for(spread, rule.max_drop, level) * n / effective - _ROUNDING)
        plans.append(TaskPlan(task, n, drop, needed))
    for tasks in dict.fromkeys(means):
        error = math.sqrt(sum(variances[task] for task in tasks)) / len(tasks)
        drop = visible_drop(error, rule.alpha / 2 / len(means))
        plans.append(TaskPlan(f"mean of {len(tasks)} tasks", 0, drop, None))
    return plans


def _possible_drop(drop: float, n_effective: float, level: float) -> float:
    """The visible drop where a share of examples is declared: a drop of d points changes at least d % of them."""
    while (
        wider := visible_drop(100 * spread_of_changes(min(drop / 100, 1)) / math.sqrt(n_effective), level)
    ) > drop + 0.01:
        drop = wider
    return drop


def _tested(snapshot: Snapshot) -> dict[tuple[str, str], Units]:
    """Label and task -> its examples, an aggregate's as one task; of the tasks that the gate tests."""
    jobs: dict[tuple[str, str], list[ScoredJob]] = {}
    for job in snapshot.jobs:
        jobs.setdefault((job.label, job.aggregate or job.task), []).append(job)
    found = {(label, task): TaskScore(task, tuple(own)).load_units()[0] for (label, task), own in jobs.items()}
    return {key: units for key, units in found.items() if units is not None and units.kind != "algorithm"}
