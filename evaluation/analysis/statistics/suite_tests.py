"""The mean difference of two models over several tasks: on these tasks, and on tasks like these.

"On these tasks" keeps the tasks fixed: only their queries and examples are a sample, and the mean's standard error
follows from the tasks' own (Miller 2024, arXiv:2411.00640). "On tasks like these" takes the tasks as a sample, too:
Student's t over their differences, never with fewer than `MIN_TASKS` (Demsar 2006; Dror et al. 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from evaluation.analysis.statistics.contributions import Floats, variance
from evaluation.analysis.statistics.intervals import Interval, t_interval, t_p_drop, uniform_change_interval
from evaluation.analysis.statistics.paired_tests import MIN_UNITS, Difference

MIN_TASKS: Final = 5
"""With fewer tasks nothing is said of tasks like these."""


@dataclass(frozen=True, slots=True)
class OtherTasks:
    """What the tasks' differences say of tasks like these: Student's t over tasks.

    Attributes:
        n_tasks: Tasks, each of which counts as one observation.
    """

    interval: Interval
    p_two_sided: float
    n_tasks: int


@dataclass(frozen=True, slots=True)
class SuiteDifference:
    """The mean difference over tasks, first - second; tasks weigh the same.

    Attributes:
        value: Over the tasks that count: those with a test of their own. Clustering, whose units show the algorithm's
            chance only, has none.
        interval: On these tasks; None where fewer than `MIN_UNITS` units differ.
        p_two_sided: On these tasks; None where nothing can be tested.
        p_drop: One-sided: the chance of so low a mean if the first model were no worse.
        n_tasks: Tasks that count.
        other_tasks: On tasks like these; None with fewer than `MIN_TASKS`.
        error: Standard error on these tasks.
        df: Its degrees of freedom.
        lower_bound: A lower limit of the true mean difference: the interval's, or what it would be.
    """

    value: float
    interval: Interval | None
    p_two_sided: float | None
    p_drop: float | None
    n_tasks: int
    other_tasks: OtherTasks | None = None
    error: float = 0.0
    df: float = np.inf
    lower_bound: float = 0.0


class TaskError(NamedTuple):
    """One task's difference as far as the mean over tasks needs it.

    Attributes:
        residuals: (K,) see `Estimate`.
        unit_ids: Tasks with equal ids are taken to have the same units: the sentences of two tasks on one data set.
            If they are different units after all, that costs nothing but degrees of freedom.
    """

    value: float
    error: float
    df: float
    n_changed: int
    residuals: Floats
    unit_ids: tuple[tuple[str, ...], ...]


def suite_difference(differences: Sequence[Difference], *, confidence: float = 0.95) -> SuiteDifference:
    """Returns the mean of the tasks' differences, on these tasks and on tasks like these."""
    counted = [difference for difference in differences if difference.p_drop is not None]
    if not counted:
        return SuiteDifference(0.0, None, None, None, 0)
    return mean_difference(
        [
            TaskError(
                found.value,
                found.error or 0.0,
                found.df,
                found.n_changed,
                np.zeros(0) if found.residuals is None else found.residuals,
                found.unit_ids,
            )
            for found in counted
        ],
        confidence=confidence,
    )


def mean_difference(tasks: Sequence[TaskError], *, confidence: float = 0.95) -> SuiteDifference:
    """Returns the mean of at least one task's difference, on these tasks and on tasks like these."""
    n_tasks, values = len(tasks), np.array([task.value for task in tasks])
    n_changed = sum(task.n_changed for task in tasks)
    value, others = float(values.mean()), _other_tasks(values, confidence)
    error, df = _error_of_mean(tasks)
    if error == 0.0 and (value == 0.0 or not n_changed):
        return SuiteDifference(value, None, 1.0, 1.0, n_tasks, others)
    if error == 0.0:
        p = max(2.0**-n_changed, np.finfo(float).tiny)
        p_drop, p_rise = (p, 1.0) if value < 0 else (1.0, p)
        interval = uniform_change_interval(value, n_changed, confidence)
    else:
        p_drop, p_rise = t_p_drop(value, error, df), t_p_drop(-value, error, df)
        interval = t_interval(value, error, df, confidence)
    shown = interval if n_changed >= MIN_UNITS else None
    p_two_sided = min(1.0, 2 * min(p_drop, p_rise))
    return SuiteDifference(value, shown, p_two_sided, p_drop, n_tasks, others, error, df, interval.low)


def _error_of_mean(tasks: Sequence[TaskError]) -> tuple[float, float]:
    """Standard error of the mean over tasks and its degrees of freedom (Satterthwaite 1946)."""
    together: dict[tuple[tuple[str, ...], ...], list[TaskError]] = {}
    sources: list[tuple[float, float]] = []  # variances of sums over tasks, with their degrees of freedom
    for task in tasks:
        if task.unit_ids and len(task.residuals):
            together.setdefault(task.unit_ids, []).append(task)
        else:
            sources.append((task.error**2, task.df))
    for group in together.values():
        if len(group) == 1 or len({len(task.residuals) for task in group}) > 1:
            sources += [(task.error**2, task.df) for task in group]
            continue
        shared, df = variance(np.sum([task.residuals for task in group], axis=0))
        sources.append((shared, df))
        luck = [max(task.error**2 - variance(task.residuals)[0], 0.0) for task in group]  # of experiments
        sources += [(own, task.df) for own, task in zip(luck, group, strict=True)]
    total = sum(own for own, _ in sources)
    if total == 0.0:
        return 0.0, np.inf
    df = total**2 / sum(own**2 / df for own, df in sources)
    return float(np.sqrt(total)) / len(tasks), float(df)


def _other_tasks(values: Floats, confidence: float) -> OtherTasks | None:
    n = len(values)
    if n < MIN_TASKS:
        return None
    value, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(n))
    if error == 0.0:
        return OtherTasks(Interval(value, value, "t"), 1.0 if value == 0.0 else 2.0 ** (1 - n), n)
    return OtherTasks(t_interval(value, error, n - 1, confidence), 2 * t_p_drop(-abs(value), error, n - 1), n)
