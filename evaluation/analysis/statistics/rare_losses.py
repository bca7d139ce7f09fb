"""Bounds a task's true drop where few units changed: what losses the units seen may have missed. All numbers are 0-1.

`loss_verdicts.py` treats the same question for stored forms.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.special import betaincinv

from evaluation.analysis.statistics.clusters import Clusters
from evaluation.analysis.statistics.contributions import Estimate

FEW_CHANGED: Final = 10
"""With so many changed units or more, their own spread says how far the rest may change."""
_SCALE: Final = 1.0
"""The largest change that a unit can have, assumed where none changed."""


def rare_loss_bound(found: Estimate, clusters: Clusters, confidence: float) -> float | None:
    """Returns the lowest true difference that the few changed units allow; None where enough changed everywhere.

    The bound is a share of units times the largest change seen (the whole scale where none of them changed), and must
    hold wherever the rare losses are: in all units together, or all in one subset, whose units may be few and weigh
    much. The share is the upper limit of Clopper and Pearson (1934); where none of the units changed, the lower limit
    is 0 and the upper one takes the whole error: 3 / n at 95 %.

    Args:
        found: The difference.
        clusters: Of its units.
        confidence: Of the two-sided interval whose lower end this is.
    """
    sizes = np.abs(found.added) / found.weights
    subsets = {own.tobytes(): own for own in map(np.unique, clusters.numbers)}.values()
    bounds = [
        -share * float(found.weights[members].sum()) * largest
        for members in (np.arange(found.n_clusters), *subsets)
        if (n_changed := int(np.count_nonzero(own := sizes[members]))) < FEW_CHANGED
        for share in [highest_share(n_changed, len(members), confidence)]
        for largest in [float(own.max()) if n_changed else _SCALE]
    ]
    return min(bounds, default=None)


def highest_share(n_changed: int, n: int, confidence: float) -> float:
    """Returns the upper limit of the share of units that change, when this many of n did.

    Example:
        >>> round(highest_share(0, 300, 0.95), 5), round(highest_share(3, 80, 0.95), 4)
        (0.00994, 0.1057)
    """
    if n_changed == n:
        return 1.0
    level = 0.5 + confidence / 2.0 if n_changed else confidence
    return float(betaincinv(n_changed + 1, n - n_changed, level))
