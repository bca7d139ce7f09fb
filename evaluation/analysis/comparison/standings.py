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
    from evaluation.analysis.statistics.suite_tests import SuiteDifference, TaskError

Floats = NDArray[np.float64]


def common_tasks(sources: Sequence[ScoredModel], rows: Sequence[Row], aggregates: Sequence[Aggregate]) -> list[str]:
    """Returns the tasks of the comparison's mean on which every run has a score; all rows without such a mean."""
    whole = next((aggregate for aggregate in aggregates if aggregate.kind == "mean"), None)
    missing = {task for cell in whole.cells for task in cell.missing} if whole else set()
    return [
        row.task
        for row in rows
        if row.task not in missing
        and all(
            cell.score is not None for cell, source in zip(row.cells, sources, strict=True) if source.view is not None
        )
    ]


def compare_all_pairs(sources: Sequence[ScoredModel], tasks: Sequence[str], evidence: Evidence) -> Standings | None:
    """Tests every pair of runs; None with fewer than two of them, or where no task can be tested for all."""
    runs = [source for source in sources if source.view is not None]
    if len(runs) < 2 or not tasks or not evidence.options.intervals:
        return None
    found = _test_pairs(runs, tasks, evidence)
    if found is None:
        return None
    from evaluation.analysis.statistics.rank_tests import borda_tests, corrected_pairs, groups, rank_intervals

    alpha = evidence.options.alpha
    scores = np.array([[source.tasks[task].points for task in tasks] for source in runs], float)  # (K, tasks)
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
    return Standings(models, pairs, together, len(tasks), found.n_tested)


class _Tests(NamedTuple):
    """Mean differences of all pairs of K models, 0-1.

    Attributes:
        suites: By positions i < j, of i - j.
        differences: (K, K), row - column.
        p: (K, K) two-sided, before any correction; NaN on the diagonal.
        covariances: For each task (K, K) of the scores in points; zeros where it cannot be tested.
    """

    suites: dict[tuple[int, int], SuiteDifference]
    differences: Floats
    p: Floats
    covariances: list[Floats]
    n_tested: int


def _test_pairs(runs: Sequence[ScoredModel], tasks: Sequence[str], evidence: Evidence) -> _Tests | None:
    """None where no task can be tested for all models."""
    from evaluation.analysis.statistics.contributions import score_covariance
    from evaluation.analysis.statistics.paired_tests import paired_estimate
    from evaluation.analysis.statistics.suite_tests import TaskError, mean_difference

    k = len(runs)
    errors: dict[tuple[int, int], list[TaskError]] = {(i, j): [] for i in range(k) for j in range(i + 1, k)}
    covariances, n_tested = [np.zeros((k, k)) for _ in tasks], 0
    for at, task in enumerate(tasks):
        samples = [evidence.sample(source, task) for source in runs]
        known = [own for own in samples if own is not None and own.units.kind != "algorithm"]
        if len(known) < k:
            continue
        try:
            estimates = {(i, j): paired_estimate(known[i], known[j]) for i, j in errors}
        except ComparisonError:
            continue  # other data under `--mixed`: the cells say so
        n_tested += 1
        unit_ids = tuple(part.ids for part in known[0].units.parts)
        for pair, own in estimates.items():
            errors[pair].append(TaskError(own.point, own.error, own.df, own.n_changed, own.residuals, unit_ids))
        covariances[at] = 1e4 * score_covariance([own.contributions for own in known])
    if not n_tested:
        return None
    suites = {pair: mean_difference(own, confidence=evidence.options.confidence) for pair, own in errors.items()}
    differences, p = np.zeros((k, k)), np.full((k, k), np.nan)
    for (i, j), suite in suites.items():
        differences[i, j], differences[j, i] = suite.value, -suite.value
        p[i, j] = p[j, i] = suite.p_two_sided
    return _Tests(suites, differences, p, covariances, n_tested)
