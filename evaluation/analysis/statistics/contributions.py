"""What each query or example contributes to a task's score, and the standard error that follows.

Of a mean the contributions are the values themselves; of any other score they are its jackknife pseudo-values, whose
mean is the score and whose spread is its uncertainty (Tukey 1958). The contributions to a difference of two models are
the differences of theirs, so that each model is jackknifed once however many others it is compared with.

Arrays may have leading axes (..., N), over models or over pairs of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.analysis.statistics.clusters import Clusters, clusters_of
from evaluation.analysis.statistics.ranking_scores import leave_one_out
from evaluation.analysis.statistics.scorers import RANKING, Statistic, example_values
from evaluation.analysis.statistics.units import UnitPart, Units

Floats = NDArray[np.float64]
SMALL_PART: Final = 10
"""A subset with fewer units says nothing of its own spread, which is taken from the task's other units."""
_ROUNDING: Final = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Contributions:
    """What the units of a task add to its score, part by part.

    Attributes:
        values: For each part (..., N), with the part's score as their mean.
        experiments: For each part (..., E) how far each experiment lies from their mean, around 0.
        clusters: Which units are not independent; the same for all models that were scored on the same units.
    """

    values: tuple[Floats, ...]
    experiments: tuple[Floats, ...]
    clusters: Clusters

    def __sub__(self, other: Contributions) -> Contributions:
        """Returns the contributions to the difference; the units must be the same, in the same order."""
        values = tuple(first - second for first, second in zip(self.values, other.values, strict=True))
        experiments = tuple(first - second for first, second in zip(self.experiments, other.experiments, strict=True))
        return Contributions(values, experiments, self.clusters)

    def __getitem__(self, models: Any) -> Contributions:
        """Returns those of some models, of contributions with an axis over models."""
        return Contributions(
            tuple(own[models] for own in self.values), tuple(own[models] for own in self.experiments), self.clusters
        )


def stacked(models: Sequence[Contributions]) -> Contributions:
    """Returns the contributions of several models to one task as one, with a leading axis over models."""
    values = tuple(np.stack(own) for own in zip(*(model.values for model in models), strict=True))
    experiments = tuple(np.stack(own) for own in zip(*(model.experiments for model in models), strict=True))
    return Contributions(values, experiments, models[0].clusters)


def contributions(units: Units, known: Contributions | None = None) -> Contributions:
    """Returns what each unit adds to the score; a ranking score is jackknifed here.

    Args:
        known: The contributions of another model, whose clusters are taken over where the units are the same.
    """
    clusters = clusters_of(units, known.clusters if known is not None else None)
    if units.statistic in RANKING:
        ranked = tuple(map(_jackknifed, repeat(units.statistic), units.parts, units.part_scores))
        return Contributions(ranked, tuple(np.zeros(1) for _ in ranked), clusters)
    values = [example_values(units.statistic, part.arrays) for part in units.parts]  # (E, N) each
    return Contributions(
        tuple(own.mean(axis=0) for own in values), tuple(own.mean(axis=1) - own.mean() for own in values), clusters
    )


def _jackknifed(statistic: Statistic, part: UnitPart, whole: float) -> Floats:
    """(N,) pseudo-values around the score."""
    n = len(part.ids)
    if n == 1:
        return np.array([whole])
    without = leave_one_out(statistic, part.arrays)
    return np.asarray(whole + (n - 1) * (without.mean() - without))


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """A score or a difference with its standard error; with leading axes, several.

    Attributes:
        point: (...) the mean of the parts' means.
        error: (...) its standard error, clustered; experiments count as a source of their own.
        df: (...) degrees of freedom of the error.
        added: (..., K) what each cluster adds to the point.
        weights: (K,) what each would add if all its values were 1; they sum to 1.
        residuals: (..., K) how far each cluster moves the point; the error follows from them and the experiments.
        n_changed: (...) clusters that add anything; of a difference, those on which the two models differ.
        experiments_differ: (...) whether repeated experiments are part of the error.
    """

    point: Any
    error: Any
    df: Any
    added: Floats
    weights: Floats
    residuals: Floats
    n_changed: Any
    experiments_differ: Any

    @property
    def n_clusters(self) -> int:
        """Independent units."""
        return len(self.weights)

    @property
    def n_effective(self) -> float:
        """As many clusters of equal weight say as much as these (Kish 1965)."""
        return float(1.0 / np.sum(self.weights**2))

    @property
    def uniform(self) -> bool:
        """Whether all units say the same and something, so that the standard error is 0."""
        return bool(self.error == 0.0 and self.point != 0.0)

    def __getitem__(self, at: int) -> Estimate:
        """Returns one of several."""
        return Estimate(
            point=float(self.point[at]),
            error=float(self.error[at]),
            df=float(self.df[at]),
            added=self.added[at],
            weights=self.weights,
            residuals=self.residuals[at],
            n_changed=int(self.n_changed[at]),
            experiments_differ=bool(self.experiments_differ[at]),
        )


def estimate(found: Contributions) -> Estimate:
    """Returns the mean of the parts' means with its clustered standard error."""
    n_parts, clusters = len(found.values), found.clusters
    added = clusters.sums([own / (own.shape[-1] * n_parts) for own in found.values])
    added[np.abs(added) < _ROUNDING * clusters.weights] = 0.0
    residuals = clusters.sums([own / (own.shape[-1] * n_parts) for own in _residuals(found.values)])
    error_squared, df = variance(residuals)
    of_experiments = [_experiments_variance(own) / n_parts**2 for own in found.experiments]
    luck = np.sum(of_experiments, axis=0)
    if np.any(luck):
        # Degrees of freedom of a sum of independent variances (Satterthwaite 1946).
        parts = error_squared**2 / df
        for own, deviations in zip(of_experiments, found.experiments, strict=True):
            parts = parts + own**2 / max(deviations.shape[-1] - 1, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            df = np.where(luck > 0, (error_squared + luck) ** 2 / parts, df)
        error_squared = error_squared + luck
    return Estimate(
        point=np.mean([own.mean(axis=-1) for own in found.values], axis=0),
        error=np.sqrt(error_squared),
        df=df,
        added=added,
        weights=clusters.weights,
        residuals=residuals,
        n_changed=np.count_nonzero(added, axis=-1),
        experiments_differ=luck > 0,
    )


def score_covariance(found: Contributions) -> Floats:
    """Returns (models, models) the covariance of several models' scores of one task, clustered."""
    n_parts = len(found.values)
    residuals = found.clusters.sums([own / (own.shape[-1] * n_parts) for own in _residuals(found.values)])
    n = residuals.shape[-1]
    luck = np.sum([_experiments_variance(own) for own in found.experiments], axis=0) / n_parts**2
    return np.asarray(residuals @ residuals.T * n / max(n - 1, 1) + np.diag(luck))


def _residuals(values: Sequence[Floats]) -> list[Floats]:
    """How far units lie from their part's mean; in a small part, as far as the task's units do on average."""
    found = [own - own.mean(axis=-1, keepdims=True) for own in values]
    small = [own for own in values if own.shape[-1] < SMALL_PART]
    if small:
        pooled = np.concatenate(small, axis=-1)
        pooled = pooled if pooled.shape[-1] >= SMALL_PART else np.concatenate(values, axis=-1)
        spread = np.std(pooled, axis=-1, keepdims=True, ddof=1) if pooled.shape[-1] > 1 else np.zeros(1)
        found = [
            np.broadcast_to(spread, own.shape) if own.shape[-1] < SMALL_PART else residuals
            for own, residuals in zip(values, found, strict=True)
        ]
    largest = np.max([np.abs(own).max(axis=-1, initial=0.0, keepdims=True) for own in values], axis=0)
    limit = _ROUNDING * np.maximum(largest, 1.0)
    return [np.where(np.abs(own) < limit, 0.0, own) for own in found]


def variance(residuals: Floats) -> tuple[Any, Any]:
    """Returns the variance of a sum from (..., K) residuals, and its degrees of freedom, (...) each.

    These follow from the residuals' own fourth moment: few clusters that carry most of the variance, by their weight or
    because most others do not change, count as the few they are.
    """
    n, squares = residuals.shape[-1], residuals**2
    total = squares.sum(axis=-1)
    if n < 2:
        return np.zeros_like(total), np.ones_like(total)
    excess = (squares**2).sum(axis=-1) - total**2 / n
    with np.errstate(invalid="ignore", divide="ignore"):
        df = np.where(excess > 0, 2.0 * total**2 / excess, n)
    return total * n / (n - 1), np.where(total > 0, np.clip(df, 1.0, n - 1), n - 1)


def _experiments_variance(deviations: Floats) -> Any:
    """Of the mean over experiments; 0 where they agree up to rounding."""
    n = deviations.shape[-1]
    own = np.where(np.abs(deviations) < _ROUNDING, 0.0, deviations)
    return (own**2).sum(axis=-1) / (n * max(n - 1, 1)) * (n > 1)
