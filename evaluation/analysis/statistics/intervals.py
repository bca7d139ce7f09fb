"""A score, or a difference of two, with all that says how sure it is: draws, pulls of single examples, permutations.

Sits between units and the statistics of them; knows no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from evaluation.analysis.statistics.ranking_scores import (
    Arrays,
    Drawn,
    RankingScore,
    SpearmanSwaps,
    distinct_columns,
    swap_examples,
)
from evaluation.analysis.statistics.resampling import (
    Floats,
    Resampling,
    draw_counts,
    resampled_means,
    sign_flips,
    swaps,
)
from evaluation.analysis.statistics.scorers import RANKING, BitextMixture, Statistic, example_values
from evaluation.analysis.statistics.units import Units

LEAVE_ONE_OUT: Final = 2_500
"""Above so many examples in a part, a ranking score's jackknife leaves out groups of them: `JACKKNIFE_GROUPS`."""
JACKKNIFE_GROUPS: Final = 1_000


class Estimate(Protocol):
    """A number computed from independent units in several parts, of which it is the mean.

    Attributes:
        point: On the data.
        experiments: Whether repeated experiments (drawn training sets) are a source of its uncertainty.
    """

    point: float
    experiments: bool

    @property
    def size(self) -> int:
        """How many numbers a resample takes."""
        ...

    def draws(self, rng: np.random.Generator, resampling: Resampling) -> Floats:
        """(B,) the number on bootstrap resamples of its units."""
        ...

    def influence(self) -> list[Floats]:
        """For each independent source of units, how far each pulls the number: jackknife value over N, around 0."""
        ...

    def permuted(self, rng: np.random.Generator, resampling: Resampling) -> tuple[Floats, bool]:
        """A difference under random exchange of its two models, a unit at a time; and whether these are all."""
        ...


def estimate_of(first: Units, second: Units | None = None) -> Estimate:
    """The estimate of a model's score, or of its difference to a second one's, whose units are in the same order."""
    pairs = [
        (part.arrays, other.arrays if other is not None else None)
        for part, other in zip(first.parts, second.parts if second else [None] * len(first.parts), strict=True)
    ]
    if first.statistic in RANKING:
        return RankingEstimate(first.statistic, [(_thin(one), _thin(two) if two else None) for one, two in pairs])
    values = [
        example_values(first.statistic, one) - (example_values(first.statistic, two) if two else 0.0)
        for one, two in pairs
    ]
    swapped = [(one, two) for one, two in pairs if two is not None] if first.statistic == "bitext f1" else []
    return MeanEstimate(values, swapped)


def standard_error(influence: Sequence[Floats]) -> tuple[float, float]:
    """The jackknife's standard error, and its degrees of freedom (Satterthwaite 1946, over the sources of units)."""
    sources = [(float(np.sum(pulls**2)) * len(pulls) / (len(pulls) - 1), len(pulls)) for pulls in influence]
    variance = sum(part for part, _ in sources)
    if variance == 0.0:
        return 0.0, np.inf
    return float(np.sqrt(variance)), variance**2 / sum(part**2 / (n - 1) for part, n in sources)


@dataclass
class MeanEstimate:
    """A mean over examples of a mean over experiments.

    Examples and experiments are resampled each on its own and the two deviations added: resampling both at once
    would count what is peculiar to one example in one experiment three times (Owen 2007, "The pigeonhole bootstrap").

    Args:
        values: For each part (E, N).
        swapped: For each part of a difference of bitext F1 the two models' arrays: exchanging predictions changes
            what other examples are worth, so the score is computed anew.
    """

    values: Sequence[Floats]
    swapped: Sequence[tuple[Arrays, Arrays]] = ()
    point: float = field(init=False)
    experiments: bool = field(init=False)

    def __post_init__(self) -> None:
        self.point = float(np.mean([values.mean() for values in self.values]))
        self.experiments = any(_experiment_deviations(values).any() for values in self.values)

    @property
    def size(self) -> int:
        """Examples whose value is not 0 (in differences of labels most are); of a bitext F1, two a pair."""
        if self.swapped:
            return 2 * sum(int(values.shape[1]) for values in self.values)
        return sum(int(np.count_nonzero(values.any(axis=0))) for values in self.values)

    def draws(self, rng: np.random.Generator, resampling: Resampling) -> Floats:
        """(B,) means over resampled examples, plus the deviations of resampled experiments."""
        total = np.zeros(resampling.n_resamples)
        for values in self.values:
            total += resampled_means(rng, values.mean(axis=0), resampling.n_resamples, resampling.kept)
            deviations = _experiment_deviations(values)
            if deviations.any():
                total += resampled_means(rng, deviations, resampling.n_resamples, resampling.kept)
        return total / len(self.values)

    def influence(self) -> list[Floats]:
        """Examples of each part, and its experiments where they differ."""
        sources = []
        for values in self.values:
            of_examples = values.mean(axis=0)
            sources.append((of_examples - of_examples.mean()) / (of_examples.size * len(self.values)))
            deviations = values.mean(axis=1) - values.mean()
            if deviations.any():
                sources.append(deviations / (deviations.size * len(self.values)))
        return sources

    def permuted(self, rng: np.random.Generator, resampling: Resampling) -> tuple[Floats, bool]:
        """The difference with random signs of each example's, and of each experiment's deviation."""
        if self.swapped:
            parts = [(_Mixtures(BitextMixture(first, second)), len(first["gold"])) for first, second in self.swapped]
            return _swapped(parts, rng, resampling), False
        contributions = []
        for values in self.values:
            deviations = _experiment_deviations(values)
            contributions += [values.mean(axis=0) / values.shape[1], deviations / len(deviations)]
        return sign_flips(rng, np.concatenate(contributions) / len(self.values), resampling.n_resamples)


def _experiment_deviations(values: Floats) -> Floats:
    """(E,) how far each experiment lies from the mean of all, widened so that resamples have the variance of E - 1."""
    n_experiments = len(values)
    deviations = values.mean(axis=1) - values.mean()
    deviations[np.abs(deviations) < 1e-12] = 0.0  # rounding of sums
    return np.asarray(deviations * np.sqrt(n_experiments / max(n_experiments - 1, 1)))


@dataclass
class RankingEstimate:
    """A score that depends on the order of all examples, computed anew on each resample.

    Args:
        statistic: One of the ranking scores.
        pairs: For each part the arrays of one model, and of the second one of a difference.
    """

    statistic: Statistic
    pairs: Sequence[tuple[Arrays, Arrays | None]]
    point: float = field(init=False)
    experiments: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._scores = [RankingScore(self.statistic, first, second) for first, second in self.pairs]
        self._sizes = [len(first["gold"]) for first, _ in self.pairs]
        self.point = float(np.mean([score.whole() for score in self._scores]))

    @property
    def size(self) -> int:
        """Two an example: a swap takes both predictions."""
        return 2 * sum(self._sizes)

    def draws(self, rng: np.random.Generator, resampling: Resampling) -> Floats:
        """(B,) the score on resampled examples, the same for both models of a difference."""
        total = np.zeros(resampling.n_resamples)
        for score, n in zip(self._scores, self._sizes, strict=True):
            for columns, drawn in draw_counts(rng, n, resampling.n_resamples, resampling.kept):
                total[columns] += score.on(list(drawn))
        return total / len(self._scores)

    def influence(self) -> list[Floats]:
        """Examples of each part (groups of them, in a large one), leaving one out at a time."""
        sources = []
        for score, n in zip(self._scores, self._sizes, strict=True):
            without = score.on(_leaving_out(n))
            pulls = (len(without) - 1) * (without.mean() - without) / len(without)
            sources.append(pulls / len(self._scores))
        return sources

    def permuted(self, rng: np.random.Generator, resampling: Resampling) -> tuple[Floats, bool]:
        """The difference with each example's two predictions (as ranks) exchanged or not."""
        parts = [
            (_ranking_swaps(self.statistic, first, second), len(first["gold"]))
            for first, second in self.pairs
            if second is not None
        ]
        return _swapped(parts, rng, resampling), False


class _Swaps(Protocol):
    def on(self, swapped: Floats, /) -> Floats:
        """(B,) the difference first - second where the pairs with a 1 in (N, B) are exchanged."""
        ...


class _Mixture(Protocol):
    def on(self, drawn: Drawn, /) -> Floats:
        """(B,) the score of those of 2N examples that are drawn: one of each pair."""
        ...


class _Mixtures:
    """The difference under swaps from the score of a mixture of the two models."""

    def __init__(self, score: _Mixture) -> None:
        self._score = score

    def on(self, swapped: Floats) -> Floats:
        kept = 1.0 - swapped
        return self._score.on([*kept, *swapped]) - self._score.on([*swapped, *kept])


def _ranking_swaps(statistic: Statistic, first: Arrays, second: Arrays) -> _Swaps:
    if statistic == "spearman" and not any(_ties(arrays["prediction"]) for arrays in (first, second)):
        return SpearmanSwaps(first, second)
    return _Mixtures(RankingScore(statistic, swap_examples(first, second)))


def _ties(values: NDArray[Any]) -> bool:
    return np.unique(values).size < values.size


def _swapped(parts: Sequence[tuple[_Swaps, int]], rng: np.random.Generator, resampling: Resampling) -> Floats:
    """The difference under random swaps; each part with its number of examples."""
    total = np.zeros(resampling.n_resamples)
    for difference, n in parts:
        for columns, swapped in swaps(rng, n, resampling.n_resamples, resampling.kept):
            total[columns] += difference.on(swapped)
    return total / len(parts)


def _leaving_out(n: int) -> list[Floats]:
    """Resamples that each leave out one example, or one of the groups of a large part."""
    n_groups = n if n <= LEAVE_ONE_OUT else JACKKNIFE_GROUPS
    group = np.arange(n) if n_groups == n else np.random.default_rng(0).permutation(n) % n_groups
    window = np.ones(2 * n_groups - 1)
    window[n_groups - 1] = 0.0  # a row is that part of the window which has the 0 at the example's group
    return [window[n_groups - 1 - own : 2 * n_groups - 1 - own] for own in group.tolist()]


def _thin(arrays: Arrays) -> Arrays:
    """Without the similarity columns that order examples as another one does, up to rounding."""
    if arrays["prediction"].ndim == 1:
        return arrays
    return {**arrays, "prediction": distinct_columns(arrays["prediction"])}
