"""All models of a comparison against each other on the tasks that all of them have: one correction for every pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluation.analysis.comparison.columns import ScoredModel
from evaluation.analysis.comparison.types import Aggregate, Row
from evaluation.errors import ComparisonError

if TYPE_CHECKING:
    from evaluation.analysis.comparison.evidence import Evidence
    from evaluation.analysis.statistics.suite_tests import SuiteDifference


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a model stands among all.

    Attributes:
        mean: In points, over the tasks of the standings.
        rank: By the mean.
        ranks: The ranks by the mean that the tests leave possible, all at the comparison's confidence.
        borda: Rank by Borda count.
        borda_ranks: The same for the Borda count.
    """

    label: str
    mean: float
    rank: int
    ranks: tuple[int, int]
    borda: int
    borda_ranks: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models on the tasks that can be tested, in points; the first has the higher mean.

    Attributes:
        p: Two-sided, after Holm's correction over all pairs.
    """

    first: str
    second: str
    difference: SuiteDifference
    p: float


@dataclass(frozen=True, slots=True)
class Standings:
    """All pairs of models.

    Attributes:
        models: The best mean first.
        pairs: Every pair that can be tested.
        groups: Runs of neighbours by the mean that the tests do not separate.
        n_tasks: Tasks of the means.
        n_tested: Those of them whose samples are stored.
    """

    models: tuple[Standing, ...]
    pairs: tuple[Pair, ...]
    groups: tuple[tuple[str, ...], ...]
    n_tasks: int
    n_tested: int

    def pair(self, first: str, second: str) -> Pair | None:
        """Returns the pair of two labels, whatever their order; None where it cannot be tested."""
        return next((pair for pair in self.pairs if {pair.first, pair.second} == {first, second}), None)


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
    from evaluation.analysis.statistics.contributions import score_covariance
    from evaluation.analysis.statistics.paired_tests import paired_estimate
    from evaluation.analysis.statistics.rank_tests import borda_tests, corrected_pairs, groups, rank_intervals
    from evaluation.analysis.statistics.suite_tests import TaskError, mean_difference

    k, alpha = len(runs), evidence.options.alpha
    scores = np.array([[source.tasks[task].points for task in tasks] for source in runs], float)  # (K, tasks)
    estimates: dict[tuple[int, int], list[TaskError]] = {(i, j): [] for i in range(k) for j in range(i + 1, k)}
    covariances, n_tested = [np.zeros((k, k)) for _ in tasks], 0
    for at, task in enumerate(tasks):
        samples = [evidence.sample(source, task) for source in runs]
        known = [own for own in samples if own is not None and own.units.kind != "algorithm"]
        if len(known) < k:
            continue
        try:
            found = {(i, j): paired_estimate(known[i], known[j]) for i, j in estimates}
        except ComparisonError:
            continue  # other data under `--mixed`: the cells say so
        n_tested += 1
        unit_ids = tuple(part.ids for part in known[0].units.parts)
        for pair, own in found.items():
            estimates[pair].append(TaskError(own.point, own.error, own.df, own.n_changed, own.residuals, unit_ids))
        covariances[at] = 1e4 * score_covariance([own.contributions for own in known])
    if not n_tested:
        return None
    differences, p = np.zeros((k, k)), np.full((k, k), np.nan)
    suites = {pair: mean_difference(own, confidence=evidence.options.confidence) for pair, own in estimates.items()}
    for (i, j), suite in suites.items():
        differences[i, j], differences[j, i] = suite.value, -suite.value
        p[i, j] = p[j, i] = suite.p_two_sided
    corrected = corrected_pairs(p)
    points, p_borda = borda_tests(scores, covariances, evidence.options.seed)
    means = scores.mean(axis=1)
    order = sorted(range(k), key=lambda at: -means[at])
    by_mean, by_borda = (
        rank_intervals(differences, corrected, alpha),
        rank_intervals(points, corrected_pairs(p_borda), alpha),
    )
    counts = points.sum(axis=1)
    labels = [source.label for source in runs]
    standings = tuple(
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
        Pair(labels[i], labels[j], evidence.in_points(suites[min(i, j), max(i, j)], 1 if i < j else -1),
             float(corrected[i, j]))
        for at, i in enumerate(order)
        for j in order[at + 1 :]
    )  # fmt: skip
    names = tuple(tuple(labels[at] for at in group) for group in groups(order, corrected, alpha))
    return Standings(standings, pairs, names, len(tasks), n_tested)
