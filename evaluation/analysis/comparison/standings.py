"""Tests every pair of models on the tasks that all models have, with one correction over all pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.analysis.comparison.columns import ScoredModel
from evaluation.analysis.comparison.types import Aggregate, Pair, Row, Standing, Standings
from evaluation.errors import ComparisonError

if TYPE_CHECKING:
    from evaluation.analysis.comparison.evidence import Evidence
    from evaluation.analysis.statistics.suite_tests import SuiteDifference

Floats = NDArray[np.float64]
_MOST_NUMBERS = 1 << 20
"""Of the units of all tasks times the pairs that are tested at once, so that memory stays small."""


def tested_columns(sources: Sequence[ScoredModel], tasks: Sequence[str]) -> list[int]:
    """Returns the columns of runs, without forms that rescore where a task can't be: all pairs would lose that task."""
    return [
        column
        for column, source in enumerate(sources)
        if source.view is not None
        and not (any("rescore=" in record.stored for record in source.records) and set(tasks) - source.tasks.keys())
    ]


def common_tasks(columns: Sequence[int], rows: Sequence[Row], aggregates: Sequence[Aggregate]) -> list[str]:
    """Returns the tasks of the comparison's mean on which all these columns have a score; all without such a mean."""
    whole = next((aggregate for aggregate in aggregates if aggregate.kind == "mean"), None)
    missing = {task for column in columns for task in whole.cells[column].missing} if whole else set()
    return [
        row.task
        for row in rows
        if row.task not in missing and all(row.cells[column].score is not None for column in columns)
    ]


def compare_all_pairs(
    sources: Sequence[ScoredModel], columns: Sequence[int], tasks: Sequence[str], evidence: Evidence
) -> Standings | None:
    """Tests every pair of columns; None with fewer than two of them, or where no task can be tested for all."""
    if len(columns) < 2 or not tasks:
        return None
    runs, found = [sources[column] for column in columns], _test_pairs(columns, tasks, evidence)
    if found is None:
        return None
    from evaluation.analysis.statistics.rank_tests import borda_tests, corrected_pairs, groups, rank_intervals

    alpha = evidence.options.alpha
    scores = np.array([[source.tasks[task].points for task in found.tasks] for source in runs], float)  # (K, tasks)
    means = scores.mean(axis=1)
    order = sorted(range(len(runs)), key=lambda at: -means[at])
    points, p_borda = borda_tests(scores, found.covariances, evidence.options.seed)
    counts, p = points.sum(axis=1), corrected_pairs(found.p)
    by_mean = rank_intervals(found.differences, p, alpha)
    by_borda = rank_intervals(points, corrected_pairs(p_borda), alpha)
    labels = [source.label for source in runs]
    models = tuple(
        Standing(
            labels[at],
            float(means[at]),
            1 + int((means > means[at]).sum()),
            by_mean[at],
            1 + int((counts > counts[at]).sum()),
            by_borda[at],
        )
        for at in order
    )
    pairs = tuple(
        Pair(
            labels[i],
            labels[j],
            evidence.in_points(found.suites[min(i, j), max(i, j)], 1 if i < j else -1),
            float(p[i, j]),
        )
        for at, i in enumerate(order)
        for j in order[at + 1 :]
    )
    together = tuple(tuple(labels[at] for at in group) for group in groups(order, p, alpha))
    untested = tuple(task for task in tasks if task not in found.tasks)
    return Standings(models, pairs, together, len(found.tasks), untested)


class _Tests(NamedTuple):
    """Mean differences of all pairs of K models, 0-1.

    Attributes:
        suites: By positions i < j, of i - j.
        differences: (K, K), row - column.
        p: (K, K) two-sided, before any correction; NaN on the diagonal.
        tasks: Those that can be tested.
        covariances: For each of them (K, K) of the scores in points.
    """

    suites: dict[tuple[int, int], SuiteDifference]
    differences: Floats
    p: Floats
    tasks: list[str]
    covariances: list[Floats]


def _test_pairs(columns: Sequence[int], tasks: Sequence[str], evidence: Evidence) -> _Tests | None:
    """None where no task can be tested for all models."""
    from evaluation.analysis.statistics.contributions import Contributions, estimate, score_covariance, stacked
    from evaluation.analysis.statistics.paired_tests import MIN_UNITS, matched_contributions
    from evaluation.analysis.statistics.suite_tests import TaskErrors, mean_differences

    k = len(columns)
    of_tasks: dict[str, Contributions] = {}
    for task in tasks:
        samples = [evidence.samples(task)[column] for column in columns]
        known = [own for own in samples if own is not None and own.units.kind != "algorithm"]
        if len(known) < k or len(known[0].contributions.clusters.weights) < MIN_UNITS:
            continue
        try:
            of_tasks[task] = stacked([matched_contributions(known[0], own) for own in known])
        except ComparisonError:
            continue  # other data under `--mixed`: the cells say so
    if not of_tasks:
        return None
    tested = list(of_tasks.values())
    suites: dict[tuple[int, int], SuiteDifference] = {}
    differences, p = np.zeros((k, k)), np.full((k, k), np.nan)
    pairs = np.stack(np.triu_indices(k, 1), axis=1)
    per_block = max(1, _MOST_NUMBERS // sum(task_values.clusters.n_units for task_values in tested))
    for block in np.split(pairs, range(per_block, len(pairs), per_block)):
        errors = []
        for task_values in tested:
            own = estimate(task_values[block[:, 0]] - task_values[block[:, 1]])
            ids, order = task_values.clusters.by_id
            errors.append(TaskErrors(own.point, own.error, own.df, own.n_changed, own.residuals[:, order], ids))
        found = mean_differences(errors, confidence=evidence.options.confidence)
        for (i, j), suite in zip(block.tolist(), found, strict=True):
            suites[i, j] = suite
            differences[i, j], differences[j, i] = suite.value, -suite.value
            p[i, j] = p[j, i] = suite.p_two_sided
    return _Tests(suites, differences, p, list(of_tasks), [1e4 * score_covariance(own) for own in tested])
