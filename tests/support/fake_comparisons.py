"""Comparisons made by hand, whose every figure is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evaluation.analysis.comparison.types import (
    Aggregate,
    AggregateCell,
    Cell,
    Column,
    Comparison,
    ComparisonOptions,
    Row,
    Speed,
)
from evaluation.analysis.statistics.intervals import Interval
from evaluation.analysis.statistics.paired_tests import Difference
from evaluation.analysis.statistics.suite_tests import SuiteDifference


def column(
    label: str, *, protocol: str = "e5", speed: Speed | None = None, folder: Path | None = Path("run")
) -> Column:
    return Column(label, "run", folder, f"example/{label}", "r1", protocol, {}, "w1", False, speed)


def speed(tokens: int, *, from_cache: bool = False) -> Speed:
    return Speed(tokens, 10.0, 20.0, "A processor", from_cache)


def comparison(
    scores: Mapping[str, Sequence[float | None]],
    *,
    columns: Sequence[Column] | None = None,
    types: Sequence[str] = (),
    suite: Mapping[str, tuple[float, float, float]] | None = None,
    p_adjusted: Mapping[str, Sequence[float | None]] | None = None,
) -> Comparison:
    """A comparison with the first label as baseline.

    Args:
        scores: Label -> a score a task.
        columns: In place of plain ones.
        types: Of the tasks; Retrieval by default.
        suite: Label -> low, high and p of the mean difference to the baseline.
        p_adjusted: Label -> Holm's p of each task.
    """
    labels = list(scores)
    n_tasks = len(scores[labels[0]])
    rows = []
    for task in range(n_tasks):
        base = scores[labels[0]][task]
        cells = []
        for position, label in enumerate(labels):
            value = scores[label][task]
            delta = None if position == 0 or value is None or base is None else value - base
            p = (p_adjusted or {}).get(label, [None] * n_tasks)[task]
            difference = None
            if delta is not None and p is not None:
                difference = Difference(delta, Interval(delta - 1, delta + 1, "t"), p, p / 2, 50)
            interval = None if value is None else Interval(value - 2, value + 2, "Wilson")
            significant = p is not None and p < 0.05
            cells.append(Cell(value, interval, delta, difference, p, significant))
        rows.append(Row(f"Task{task}", types[task] if types else "Retrieval", "ndcg_at_10", tuple(cells)))
    means = []
    for label in labels:
        known = [score for score in scores[label] if score is not None]
        missing = tuple(f"Task{task}" for task, score in enumerate(scores[label]) if score is None)
        mean = sum(known) / len(known) if known else None
        found = (suite or {}).get(label)
        base_mean = means[0].value if means else None
        delta = None if mean is None or base_mean is None or missing else mean - base_mean
        difference = None
        if found is not None and delta is not None:
            difference = SuiteDifference(delta, Interval(found[0], found[1], "t"), found[2], found[2], n_tasks)
        significant = difference is not None and (difference.p_two_sided or 0.0) < 0.05
        means.append(AggregateCell(mean, n_tasks, missing, delta, difference, significant=significant))
    aggregate = Aggregate(f"Mean over {n_tasks} tasks", "mean", tuple(means))
    return Comparison(
        name="run",
        columns=tuple(columns or [column(label) for label in labels]),
        rows=tuple(rows),
        aggregates=(aggregate,),
        benchmark=None,
        baseline=labels[0],
        mixed=False,
        options=ComparisonOptions(),
        notes=(),
    )
