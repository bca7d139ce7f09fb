"""Summaries over tasks as MTEB makes them (means, means of types, Borda ranks), and ranks within a row. Pure numbers.

Definitions: mteb 2.26, benchmarks/_create_table.py (`_get_means_per_types`, `_borda_rank_from_long`). mteb leaves a
mean empty where a task is missing; here the mean is over the others and names what is missing. A missing score is
never zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple


class Mean(NamedTuple):
    """A mean over a set of tasks.

    Attributes:
        value: The mean over the tasks that have a score; None where none has.
        n_tasks: Number of tasks in the set.
        missing: The tasks of the set without a score.
    """

    value: float | None
    n_tasks: int
    missing: tuple[str, ...]


def mean_over_tasks(scores: Mapping[str, float], tasks: Sequence[str]) -> Mean:
    """The mean over tasks, each with the same weight.

    Args:
        scores: Task -> score, without tasks that have none.
        tasks: The set that the mean is over.
    """
    values = [scores[task] for task in tasks if task in scores]
    missing = tuple(task for task in tasks if task not in scores)
    return Mean(fmean(values) if values else None, len(tasks), missing)


def means_by_type(scores: Mapping[str, float], types: Mapping[str, str]) -> dict[str, Mean]:
    """The mean of each task type, in the order in which the types appear.

    Args:
        scores: Task -> score, without tasks that have none.
        types: Task -> type, of all tasks of the set.
    """
    return {
        kind: mean_over_tasks(scores, [task for task, its_type in types.items() if its_type == kind])
        for kind in dict.fromkeys(types.values())
    }


def mean_of_type_means(scores: Mapping[str, float], types: Mapping[str, str]) -> Mean:
    """The mean of the types' means, so that a type with many tasks weighs as much as one with few."""
    means = means_by_type(scores, types)
    values = [mean.value for mean in means.values() if mean.value is not None]
    missing = tuple(task for task in types if task not in scores)
    return Mean(fmean(values) if values else None, len(types), missing)


def borda_ranks(scores: Sequence[Mapping[str, float]], tasks: Sequence[str]) -> list[int | None]:
    """Ranks from 1 by Borda count: on each task a model earns the number of models minus its rank there.

    Equal scores share their mean rank, equal counts the better rank. A task without a score earns nothing, as in mteb.

    Args:
        scores: For each model task -> score.
        tasks: The tasks that count.

    Returns:
        A rank for each model; None for one without any score, which is not counted as a model either.
    """
    taking_part = [row for row, own in enumerate(scores) if any(task in own for task in tasks)]
    points = dict.fromkeys(taking_part, 0.0)
    for task in tasks:
        values = {row: scores[row][task] for row in taking_part if task in scores[row]}
        for row, value in values.items():
            better = sum(other > value for other in values.values())
            equal = sum(other == value for other in values.values())
            points[row] += len(taking_part) - (better + (equal + 1) / 2)
    ranks: list[int | None] = [None] * len(scores)
    for row, own in points.items():
        ranks[row] = 1 + sum(other > own for other in points.values())
    return ranks


def competition_ranks(values: Sequence[float | None], *, lowest_first: bool = False) -> tuple[int | None, ...]:
    """Standard competition ranks of values as they are shown, with two decimals: 60, 60, 50 are 1, 1, 3.

    Args:
        values: One per model; None where there is none.
        lowest_first: Ranks the lowest value first.

    Returns:
        A rank per model; None without a value, and for all where no two values differ.
    """
    shown = [None if value is None else round(-value if lowest_first else value, 2) for value in values]
    known = [value for value in shown if value is not None]
    if len(set(known)) < 2:
        return (None,) * len(shown)
    return tuple(None if value is None else 1 + sum(other > value for other in known) for value in shown)
