"""The mean difference of two models over several tasks: on these tasks, and on tasks like these.

"On these tasks" keeps the tasks fixed: only their queries and examples are a sample, and the mean's standard error
follows from the tasks' own (Miller 2024, arXiv:2411.00640). "On tasks like these" takes the tasks as a sample, too:
Student's t over their differences, never with fewer than `MIN_TASKS` (Demsar 2006; Dror et al. 2018).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
        value: Over the tasks that count: those with a test of their own and at least `MIN_UNITS` independent units.
            Clustering, whose units show the algorithm's chance only, has none.
        interval: On these tasks; None where fewer than `MIN_UNITS` units differ.
        p_two_sided: On these tasks; None where nothing can be tested.
        p_drop: One-sided: the chance of so low a mean if the first model were no worse.
        n_tasks: Tasks that count.
        other_tasks: On tasks like these; None with fewer than `MIN_TASKS`.
        error: Standard error on these tasks.
        df: Its degrees of freedom.
        lower_bound: A lower limit of the true mean difference: the interval's, or what it would be; lower where a task
            has few changed units, and may have rare losses.
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


class TaskErrors(NamedTuple):
    """One task's differences of P pairs of models, as far as the means over tasks need them.

    Attributes:
        values, errors, df, n_changed: (P,) see `Difference`.
        residuals: (P, K) see `Estimate`; None where they are not known.
        unit_ids: Tasks with equal ids are taken to have the same units: the sentences of two tasks on one data set.
            If they are different units after all, that costs nothing but degrees of freedom.
    """

    values: Floats
    errors: Floats
    df: Floats
    n_changed: NDArray[np.int64]
    residuals: Floats | None
    unit_ids: Hashable


def suite_difference(differences: Sequence[Difference], *, confidence: float = 0.95) -> SuiteDifference:
    """Returns the mean of the tasks' differences, on these tasks and on tasks like these."""
    counted = [difference for difference in differences if difference.is_in_means]
    if not counted:
        return SuiteDifference(0.0, None, None, None, 0)
    tasks = [
        TaskErrors(
            np.array([found.value]),
            np.array([found.error or 0.0]),
            np.array([found.df]),
            np.array([found.n_changed]),
            None if found.residuals is None else found.residuals[None],
            found.unit_ids,
        )
        for found in counted
    ]
    (found,) = mean_differences(tasks, confidence=confidence)
    lowest = found.value + min(own.rare_losses for own in counted) / len(counted)
    return replace(found, lower_bound=min(found.lower_bound, lowest))


def mean_differences(tasks: Sequence[TaskErrors], *, confidence: float = 0.95) -> list[SuiteDifference]:
    """Returns for each pair of models the mean of at least one task's difference."""
    values = np.stack([task.values for task in tasks])  # (tasks, P)
    n_changed = np.sum([task.n_changed for task in tasks], axis=0)
    errors, df = _errors_of_means(tasks)
    return [
        _mean_difference(own, float(error), float(df_), int(n), confidence)
        for own, error, df_, n in zip(values.T, errors, df, n_changed, strict=True)
    ]


def _mean_difference(values: Floats, error: float, df: float, n_changed: int, confidence: float) -> SuiteDifference:
    n_tasks, value, others = len(values), float(values.mean()), _other_tasks(values, confidence)
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


def _errors_of_means(tasks: Sequence[TaskErrors]) -> tuple[Floats, Floats]:
    """(P,) standard errors of the means over tasks and their degrees of freedom (Satterthwaite 1946)."""
    together: dict[Hashable, list[TaskErrors]] = {}
    for at, task in enumerate(tasks):
        together.setdefault(task.unit_ids or at, []).append(task)
    total, parts = np.zeros_like(tasks[0].errors), np.zeros_like(tasks[0].errors)
    for group in together.values():
        residuals = [task.residuals for task in group if task.residuals is not None]
        sources = [(task.errors**2, task.df) for task in group]
        if len(group) > 1 and len({own.shape for own in residuals}) == 1 and len(residuals) == len(group):
            shared = variance(np.sum(residuals, axis=0))
            alone = [variance(own)[0] for own in residuals]  # the rest is the luck of experiments
            luck = [np.maximum(task.errors**2 - own, 0.0) for task, own in zip(group, alone, strict=True)]
            sources = [shared, *zip(luck, (task.df for task in group), strict=True)]
        for own, df in sources:
            total = total + own
            parts = parts + own**2 / df
    with np.errstate(invalid="ignore"):
        return np.sqrt(total) / len(tasks), np.where(total > 0, total**2 / parts, np.inf)


def _other_tasks(values: Floats, confidence: float) -> OtherTasks | None:
    n = len(values)
    if n < MIN_TASKS:
        return None
    value, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(n))
    if error == 0.0:
        return OtherTasks(Interval(value, value, "t"), 1.0 if value == 0.0 else 2.0 ** (1 - n), n)
    return OtherTasks(t_interval(value, error, n - 1, confidence), 2 * t_p_drop(-abs(value), error, n - 1), n)
