"""Several models against each other: which pairs are separated, groups that are not, and intervals of ranks.

All pairs are tested under one Holm correction, so that whoever looks for the leader afterwards is covered. A model's
rank lies between 1 + the number of models separately better and K - the number separately worse (Mogstad et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from evaluation.analysis.statistics.contributions import Floats
from evaluation.analysis.statistics.corrections import holm

_DRAWS = 2_000


def corrected_pairs(p_two_sided: Floats) -> Floats:
    """Returns (K, K) p after Holm's correction over all pairs; NaN, also on the diagonal, means no test."""
    upper = np.triu_indices(len(p_two_sided), 1)
    found = holm([None if np.isnan(p) else float(p) for p in p_two_sided[upper]])
    corrected = np.full_like(p_two_sided, np.nan)
    corrected[upper] = [np.nan if p is None else p for p in found]
    return np.where(np.isnan(corrected), corrected.T, corrected)


def rank_intervals(differences: Floats, p: Floats, alpha: float) -> list[tuple[int, int]]:
    """Returns the lowest and the highest rank of each model that the tests leave possible.

    Args:
        differences: (K, K) row - column, positive where the row is better.
        p: (K, K) corrected p.
    """
    separated = np.nan_to_num(p, nan=1.0) < alpha
    better, worse = (separated & (differences < 0)).sum(axis=1), (separated & (differences > 0)).sum(axis=1)
    return [(1 + int(up), len(p) - int(down)) for up, down in zip(better, worse, strict=True)]


def groups(order: Sequence[int], p: Floats, alpha: float) -> list[list[int]]:
    """Returns the largest runs of neighbours in `order` none of which is separated from another of its run."""
    separated = np.nan_to_num(p, nan=1.0) < alpha
    found: list[list[int]] = []
    for start in range(len(order)):
        end = start + 1
        while end < len(order) and not separated[np.ix_(order[start:end], [order[end]])].any():
            end += 1
        run = list(order[start:end])
        if len(run) > 1 and not (found and set(run) <= set(found[-1])):
            found.append(run)
    return found


def borda_points(scores: Floats) -> Floats:
    """Returns (..., K) Borda points of K models' scores on a task: models beaten, a tie counting half."""
    order = np.argsort(scores, axis=-1)
    ascending = np.take_along_axis(scores, order, axis=-1)
    found = np.empty_like(ascending)
    np.put_along_axis(found, order, np.broadcast_to(np.arange(scores.shape[-1], dtype=float), scores.shape), axis=-1)
    for row in np.argwhere((np.diff(ascending, axis=-1) == 0).any(axis=-1)):  # ties share their mean
        own = scores[*row]
        found[*row] = ((own[:, None] > own).sum(axis=1) + (own[:, None] >= own).sum(axis=1) - 1) / 2
    return found


def borda_tests(scores: Floats, covariances: Sequence[Floats], seed: int) -> tuple[Floats, Floats]:
    """Returns (K, K) differences of Borda points, row - column, and their two-sided p before any correction.

    The points' standard error comes from scores drawn from the normal distribution around the observed ones.

    Args:
        scores: (K, tasks).
        covariances: For each task (K, K); zeros where a task's uncertainty is not known.
        seed: Of the draws.
    """
    rng, k = np.random.default_rng(seed), len(scores)
    points, observed = np.zeros((_DRAWS, k)), np.zeros(k)
    for own, covariance in zip(scores.T, covariances, strict=True):
        observed += borda_points(own)
        values, vectors = np.linalg.eigh(covariance)
        noise = rng.standard_normal((_DRAWS, k)) * np.sqrt(np.clip(values, 0.0, None))
        if covariance.any():
            points += borda_points(own + noise @ vectors.T)
    differences = observed[:, None] - observed
    errors = _standard_deviation_of_pairs(points)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(errors > 0, 2 * ndtr(-np.abs(differences) / errors), np.where(differences == 0, 1.0, 0.0))
    np.fill_diagonal(p, np.nan)
    return differences, p


def _standard_deviation_of_pairs(points: NDArray[np.float64]) -> Floats:
    covariance = np.atleast_2d(np.cov(points.T))
    variances = np.diag(covariance)
    return np.asarray(np.sqrt(np.clip(variances[:, None] + variances[None] - 2 * covariance, 0.0, None)))
