"""Resamples the pairs of a task whose score is no mean, such as a rank correlation, by clusters that share a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.analysis.statistics.clusters import Clusters
from evaluation.analysis.statistics.scorers import score_part
from evaluation.analysis.statistics.shared_texts import CLUSTER
from evaluation.analysis.statistics.units import Units

N_RESAMPLES: Final = 1_000


def resampled_changes(
    first: Units, second: Units, clusters: Clusters, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Returns (R,) changes of the score, first - second, on clusters drawn with replacement.

    Args:
        first: One model's units.
        second: The other's, in the same order.
        clusters: Which of them belong together.
        n_resamples: R.
        seed: Of the draws.
    """
    rng, n_clusters = np.random.default_rng(seed), len(clusters.weights)
    changes = []
    for _ in range(n_resamples):
        counts = np.bincount(rng.integers(n_clusters, size=n_clusters), minlength=n_clusters)
        of_parts = []
        for one, other, numbers in zip(first.parts, second.parts, clusters.numbers, strict=True):
            drawn = np.repeat(np.arange(len(numbers)), counts[numbers])
            if len(drawn) > 1:
                of_parts.append(_score(first, one.arrays, drawn) - _score(second, other.arrays, drawn))
        changes.append(np.mean(of_parts) if of_parts else np.nan)
    found = np.array(changes, np.float64)
    finite: NDArray[np.float64] = found[np.isfinite(found)]
    return finite


def _score(units: Units, arrays: Mapping[str, NDArray[Any]], drawn: NDArray[np.int64]) -> float:
    return score_part(units.statistic, {name: own[..., drawn] for name, own in arrays.items() if name != CLUSTER})
