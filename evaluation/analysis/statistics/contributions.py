"""What each query or example contributes to a task's score, and the standard error that follows.

Of a mean the contributions are the values themselves; of any other score they are its jackknife pseudo-values, whose
mean is the score and whose spread is its uncertainty (Tukey 1958). The contributions to a difference of two models are
the differences of theirs, so that each model is jackknifed once however many others it is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from evaluation.analysis.statistics.clusters import cluster_numbers
from evaluation.analysis.statistics.ranking_scores import RankingScore
from evaluation.analysis.statistics.scorers import RANKING, Statistic, example_values
from evaluation.analysis.statistics.units import UnitPart, Units

Floats = NDArray[np.float64]
LEAVE_ONE_OUT: Final = 2_500
"""Above so many examples in a part, a ranking score's jackknife leaves out groups of them: `JACKKNIFE_GROUPS`."""
JACKKNIFE_GROUPS: Final = 1_000
SMALL_PART: Final = 10
"""A subset with fewer units says nothing of its own spread, which is taken from the task's other units."""
_ROUNDING: Final = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Contributions:
    """What the units of a task add to its score, part by part.

    Attributes:
        values: For each part (N,), with the part's score as their mean. N are groups in a large ranking.
        experiments: For each part (E,) how far each experiment lies from their mean, around 0.
        clusters: For each part (N,) numbers of clusters from 0 to K - 1; units of one cluster are not independent.
    """

    values: tuple[Floats, ...]
    experiments: tuple[Floats, ...]
    clusters: tuple[NDArray[np.intp], ...]

    def __sub__(self, other: Contributions) -> Contributions:
        """Returns the contributions to the difference; the units must be the same, in the same order."""
        values = tuple(first - second for first, second in zip(self.values, other.values, strict=True))
        experiments = tuple(first - second for first, second in zip(self.experiments, other.experiments, strict=True))
        return Contributions(values, experiments, self.clusters)


def contributions(units: Units) -> Contributions:
    """Returns what each unit adds to the score; a ranking score is jackknifed here."""
    numbers = cluster_numbers(units)
    if units.statistic not in RANKING:
        values = [example_values(units.statistic, part.arrays) for part in units.parts]  # (E, N) each
        return Contributions(
            tuple(own.mean(axis=0) for own in values),
            tuple(own.mean(axis=1) - own.mean() for own in values),
            _consecutive(numbers),
        )
    groups = [_jackknife_groups(len(part.ids)) for part in units.parts]
    ranked = tuple(_jackknifed(units.statistic, part, own) for part, own in zip(units.parts, groups, strict=True))
    numbers = tuple(
        own if len(group) == int(group.max()) + 1 else np.arange(int(group.max()) + 1)
        for own, group in zip(numbers, groups, strict=True)
    )
    return Contributions(ranked, tuple(np.zeros(1) for _ in ranked), _consecutive(numbers))


def _consecutive(numbers: Sequence[NDArray[np.intp]]) -> tuple[NDArray[np.intp], ...]:
    """Numbers from 0 without gaps, the same for the same cluster."""
    whole = np.unique(np.concatenate(numbers), return_inverse=True)[1]
    return tuple(np.split(whole, np.cumsum([len(own) for own in numbers])[:-1]))


def _jackknife_groups(n: int) -> NDArray[np.intp]:
    """(N,) the group with which each example is left out."""
    if n <= LEAVE_ONE_OUT:
        return np.arange(n)
    return np.random.default_rng(0).permutation(n) % JACKKNIFE_GROUPS


def _jackknifed(statistic: Statistic, part: UnitPart, group: NDArray[np.intp]) -> Floats:
    """(groups,) pseudo-values around the score."""
    score, n = RankingScore(statistic, part.arrays), int(group.max()) + 1
    if n == 1:
        return np.array([score.whole()])
    window = np.ones(2 * n - 1)
    window[n - 1] = 0.0  # a row is that part of the window which has its 0 at the example's group
    without = score.on([window[n - 1 - own : 2 * n - 1 - own] for own in group.tolist()])
    return np.asarray(score.whole() + (n - 1) * (without.mean() - without))


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """A score or a difference with its standard error.

    Attributes:
        point: The mean of the parts' means.
        error: Its standard error, clustered; experiments count as a source of their own.
        df: Degrees of freedom of the error.
        added: (K,) what each cluster adds to the point.
        weights: (K,) what each would add if all its values were 1; they sum to 1.
        residuals: (K,) how far each cluster moves the point; the error follows from them and the experiments.
        n_changed: Clusters that add anything; of a difference, those on which the two models differ.
        n_effective: As many clusters of equal weight say as much as these (Kish 1965).
        experiments_differ: Whether repeated experiments are part of the error.
    """

    point: float
    error: float
    df: float
    added: Floats
    weights: Floats
    residuals: Floats
    n_changed: int
    n_effective: float
    experiments_differ: bool

    @property
    def n_clusters(self) -> int:
        """Independent units."""
        return len(self.added)

    @property
    def uniform(self) -> bool:
        """Whether all units say the same and something, so that the standard error is 0."""
        return self.error == 0.0 and self.point != 0.0


def estimate(found: Contributions) -> Estimate:
    """Returns the mean of the parts' means with its clustered standard error."""
    n_parts = len(found.values)
    number = np.concatenate(found.clusters)

    def by_cluster(values: Sequence[Floats]) -> Floats:
        """(K,) sums over each cluster of what its units add to the mean over parts."""
        scaled = [own / (len(own) * n_parts) for own in values]
        return np.bincount(number, np.concatenate(scaled)).astype(np.float64)

    added, weights = by_cluster(found.values), by_cluster([np.ones(len(own)) for own in found.values])
    added[np.abs(added) < _ROUNDING * weights] = 0.0
    residuals = by_cluster(_residuals(found.values))
    error_squared, df = variance(residuals)
    spread = [(own, error_squared_of) for own in found.experiments if (error_squared_of := _experiments_variance(own))]
    for own, squared in spread:
        df = _satterthwaite([(error_squared, df), (squared / n_parts**2, len(own) - 1)])
        error_squared += squared / n_parts**2
    return Estimate(
        point=float(np.mean([own.mean() for own in found.values])),
        error=float(np.sqrt(error_squared)),
        df=df,
        added=added,
        weights=weights,
        residuals=residuals,
        n_changed=int(np.count_nonzero(added)),
        n_effective=float(1.0 / np.sum(weights**2)),
        experiments_differ=bool(spread),
    )


def score_covariance(models: Sequence[Contributions]) -> Floats:
    """Returns (models, models) the covariance of several models' scores of one task, clustered; units are the same."""
    found = []
    for own in models:
        number = np.concatenate(own.clusters)
        scaled = [each / (len(each) * len(own.values)) for each in _residuals(own.values)]
        found.append(np.bincount(number, np.concatenate(scaled)))
    residuals = np.array(found)  # (models, K)
    n = residuals.shape[1]
    luck = [sum(_experiments_variance(each) for each in own.experiments) / len(own.values) ** 2 for own in models]
    return np.asarray(residuals @ residuals.T * n / max(n - 1, 1) + np.diag(luck))


def _residuals(values: Sequence[Floats]) -> list[Floats]:
    """How far units lie from their part's mean; in a small part, as far as the task's units do on average."""
    small = [own for own in values if len(own) < SMALL_PART]
    found = [own - own.mean() for own in values]
    if small:
        pooled = np.concatenate(small)
        pooled = pooled if len(pooled) >= SMALL_PART else np.concatenate(values)
        spread = float(np.std(pooled, ddof=1)) if len(pooled) > 1 else 0.0
        for at, own in enumerate(values):
            if len(own) < SMALL_PART:
                found[at] = np.full(len(own), spread)
    scale = max(float(np.abs(own).max(initial=0.0)) for own in values)
    return [np.where(np.abs(own) < _ROUNDING * max(scale, 1.0), 0.0, own) for own in found]


def variance(residuals: Floats) -> tuple[float, float]:
    """Returns the variance of a sum from (K,) residuals, and its degrees of freedom.

    These follow from the residuals' own fourth moment: few clusters that carry most of the variance, by their weight or
    because most others do not change, count as the few they are.
    """
    n, squares = len(residuals), residuals**2
    total = float(squares.sum())
    if n < 2 or total == 0.0:
        return 0.0, float(max(n - 1, 1))
    excess = float(np.sum(squares**2)) - total**2 / n
    df = 2.0 * total**2 / excess if excess > 0 else float(n)
    return total * n / (n - 1), float(np.clip(df, 1.0, n - 1))


def _experiments_variance(deviations: Floats) -> float:
    """Of the mean over experiments; 0 where they agree up to rounding."""
    n = len(deviations)
    own = np.where(np.abs(deviations) < _ROUNDING, 0.0, deviations)
    return float(np.sum(own**2)) / (n * (n - 1)) if n > 1 else 0.0


def _satterthwaite(sources: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of independent variances (Satterthwaite 1946)."""
    total = sum(variance for variance, _ in sources)
    return float(total**2 / sum(variance**2 / df for variance, df in sources))
