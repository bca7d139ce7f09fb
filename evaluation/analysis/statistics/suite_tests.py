"""The mean difference of two models over several tasks: on these tasks, and on tasks like these.

"On these tasks" keeps the tasks fixed: only their queries and examples are a sample, and the mean's standard error
follows from the tasks' own (Miller 2024, arXiv:2411.00640). "On tasks like these" takes the tasks as a sample, too:
Student's t over their differences, never with fewer than `MIN_TASKS` (Demsar 2006; Dror et al. 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from evaluation.analysis.statistics.contributions import Estimate, Floats
from evaluation.analysis.statistics.intervals import Interval, t_interval, t_p_drop, uniform_change_interval
from evaluation.analysis.statistics.paired_tests import Difference

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
        interval: On these tasks; None where nothing can be tested.
        p_two_sided: On these tasks; None likewise.
        p_drop: One-sided: the chance of so low a mean if the first model were no worse.
        n_tasks: Tasks that count.
        other_tasks: On tasks like these; None with fewer than `MIN_TASKS`.
        error: Standard error on these tasks.
        df: Its degrees of freedom.
    """

    value: float
    interval: Interval | None
    p_two_sided: float | None
    p_drop: float | None
    n_tasks: int
    other_tasks: OtherTasks | None = None
    error: float = 0.0
    df: float = np.inf


def suite_difference(differences: Sequence[Difference], *, confidence: float = 0.95) -> SuiteDifference:
    """Returns the mean of the tasks' differences, on these tasks and on tasks like these."""
    counted = [difference for difference in differences if difference.p_drop is not None]
    if not counted:
        return SuiteDifference(0.0, None, None, None, 0)
    return _mean_difference(
        np.array([difference.value for difference in counted]),
        np.array([[difference.error or 0.0, difference.df] for difference in counted]).T,
        sum(difference.n_changed for difference in counted),
        confidence,
    )


def suite_of_estimates(estimates: Sequence[Estimate], *, confidence: float = 0.95) -> SuiteDifference:
    """Does what `suite_difference` does, for differences that have not been tested one by one; at least one."""
    return _mean_difference(
        np.array([found.point for found in estimates]),
        np.array([[found.error, found.df] for found in estimates]).T,
        sum(found.n_changed for found in estimates),
        confidence,
    )


def _mean_difference(values: Floats, errors: Floats, n_changed: int, confidence: float) -> SuiteDifference:
    """The mean of (tasks,) values; `errors` are (2, tasks) standard errors and their degrees of freedom."""
    n_tasks, variances = len(values), errors[0] ** 2
    value, error = float(values.mean()), float(np.sqrt(variances.sum())) / n_tasks
    others = _other_tasks(values, confidence)
    if error == 0.0:
        if value == 0.0 or not n_changed:
            return SuiteDifference(value, Interval(value, value, "t"), 1.0, 1.0, n_tasks, others)
        p = max(2.0**-n_changed, np.finfo(float).tiny)
        interval = uniform_change_interval(value, n_changed, confidence)
        return SuiteDifference(value, interval, min(1.0, 2 * p), p if value < 0 else 1.0, n_tasks, others)
    df = float(variances.sum() ** 2 / np.sum(variances**2 / errors[1]))
    p_drop, p_rise = t_p_drop(value, error, df), t_p_drop(-value, error, df)
    interval, p = t_interval(value, error, df, confidence), min(1.0, 2 * min(p_drop, p_rise))
    return SuiteDifference(value, interval, p, p_drop, n_tasks, others, error, df)


def _other_tasks(values: Floats, confidence: float) -> OtherTasks | None:
    n = len(values)
    if n < MIN_TASKS:
        return None
    value, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(n))
    if error == 0.0:
        return OtherTasks(Interval(value, value, "t"), 1.0 if value == 0.0 else 2.0 ** (1 - n), n)
    return OtherTasks(t_interval(value, error, n - 1, confidence), 2 * t_p_drop(-abs(value), error, n - 1), n)
