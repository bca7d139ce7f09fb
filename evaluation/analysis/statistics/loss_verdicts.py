"""Judges whether a smaller form loses more than a margin: ruled out, shown, or inconclusive. All numbers are 0-1.

"No significant loss" is not "no loss": here a loss of more than the margin must itself be ruled out, by the lower end
of the two-sided 95 % interval of the change. Where most units keep their score and a few lose much, Student's lower end
is too high: samples with few losses have a high mean and a small error. Two further conditions apply:

- Where the changes are skewed towards losses, t after the transformation of Hall (1992, "On the removal of skewness by
  transformation", JRSS B 54:221-228) must rule the loss out as well.
- A sample can lack a rare loss altogether. Where fewer than `FEW_LOST` units lost, the upper limit of Clopper and
  Pearson (1934) of the share of units that lose, times the largest loss seen (the whole scale where none is), must lie
  below the margin as well. It must hold for all units together and for each task of a mean and each subset of a task,
  since the rare losses may all be in one: T tasks have a mean loss of the margin where one loses T margins.

Scores that are no means, such as a rank correlation, go in as their jackknife's pseudo-values. The quantiles of a
bootstrap over pairs, without these conditions, rule out a true loss of the margin too often where few pairs cause it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, stdtr, stdtrit

LossOutcome = Literal["ruled out", "shown", "inconclusive", "not tested"]

FEW_LOST: Final = 10
ONE_SIDED: Final = 0.025
"""Level of a single claim, and of all claims about a model's rows together."""
_SHARE_LEVEL: Final = 0.05
"""Level of the one-sided limit of the share of units that lose."""
_SCALE: Final = 1.0
"""The largest loss that one unit can have."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Losses:
    """Which independent units lost; arrays of one shape.

    Attributes:
        n: Independent units.
        n_lost: Units that lost.
        largest: The largest loss of a unit, above 0; 0 where none lost.
        weight: Share of these units in the score.
    """

    n: Any
    n_lost: Any
    largest: Any
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class PairedChange:
    """A smaller form's score minus that of the model's own vectors, on the same units; arrays of one shape.

    Attributes:
        value: The change.
        error: Its standard error.
        df: Degrees of freedom of the error.
        skewness: Of the change, not of a unit: it falls with the square root of n. Below 0 where few units lose much.
        losses: Of all units; then of each subset, or of each task of a mean and its subsets.
    """

    value: Any
    error: Any
    df: Any
    skewness: Any
    losses: tuple[Losses, ...]

    @property
    def n(self) -> Any:
        """Units."""
        return self.losses[0].n


@dataclass(frozen=True, slots=True)
class LossVerdict:
    """What the units say of a loss of more than the margin.

    Attributes:
        low, high: Ends of the two-sided 95 % interval of the change.
        p: One-sided: the chance of such a change if the loss were the margin; small values rule the loss out.
        n_needed: Units with which the same change would be decided; None where it is, or where no number would do.
    """

    outcome: LossOutcome
    change: float
    low: float
    high: float
    p: float
    n: int
    n_needed: int | None = None


def skewness_of(residuals: Floats, error: Any) -> Any:
    """Returns the skewness of a sum of independent units.

    Args:
        residuals: (..., K) how far each unit moves the sum.
        error: (...) standard error of the sum.
    """
    third, cubed = (residuals**3).sum(axis=-1), np.asarray(error, float) ** 3
    return np.divide(third, cubed, out=np.zeros_like(third), where=cubed > 0)


def interval_ends(change: PairedChange) -> tuple[Any, Any]:
    """Returns the ends of Student's two-sided 95 % interval."""
    reach = stdtrit(change.df, 1.0 - ONE_SIDED) * change.error
    return change.value - reach, change.value + reach


def p_no_loss(change: PairedChange, margin: float) -> Any:
    """Returns the one-sided p of a loss of the margin or more; at most `ONE_SIDED` where that is ruled out."""
    error, room = np.broadcast_arrays(np.asarray(change.error, float), np.asarray(change.value, float) + margin)
    distance = np.divide(room, error, out=np.where(room > 0, np.inf, -np.inf), where=error > 0)
    p = stdtr(change.df, -_less_skewed(distance, np.asarray(change.skewness, float)))
    return reduce(np.maximum, (_p_of_few(losses, margin / losses.weight) for losses in change.losses), p)


def _p_of_few(losses: Losses, margin: float) -> Any:
    """Returns p of so few losses if units lost the margin on average; 0 where `FEW_LOST` or more did."""
    worst = np.where(losses.n_lost > 0, losses.largest, _SCALE)
    share = np.minimum(margin / np.maximum(worst, 1e-12), 1.0)
    p = np.where(share < 1.0, bdtr(losses.n_lost, losses.n, share), 0.0)
    return np.where(losses.n_lost < FEW_LOST, p * ONE_SIDED / _SHARE_LEVEL, 0.0)


def _less_skewed(t: Any, skewness: Any) -> Any:
    """Returns t after Hall's transformation where that lowers it: where the changes are skewed towards losses."""
    finite = np.where(np.isfinite(t), t, 0.0)
    correction = skewness * (finite**2 / 3.0 + 1.0 / 6.0) + skewness**2 * finite**3 / 27.0
    return t + np.where(skewness < 0, np.minimum(correction, 0.0), 0.0)


def judge_loss(change: PairedChange, margin: float) -> LossVerdict:
    """Judges one change.

    Args:
        change: Of single numbers.
        margin: The loss that matters, 0-1, above 0.
    """
    low, high = (float(end) for end in interval_ends(change))
    p = float(p_no_loss(change, margin))
    outcome: LossOutcome = "inconclusive"
    if high < -margin:
        outcome = "shown"
    elif p <= ONE_SIDED:
        outcome = "ruled out"
    needed = _n_needed(change, margin) if outcome == "inconclusive" else None
    return LossVerdict(outcome, float(change.value), low, high, p, int(change.n), needed)


def _n_needed(change: PairedChange, margin: float) -> int | None:
    """Returns the number of units that decides if their changes are like those seen."""
    distance = abs(float(change.value) + margin)
    if distance < 1e-9:
        return None
    reach = float(stdtrit(change.df, 1.0 - ONE_SIDED)) * float(change.error)
    least = int(np.ceil(change.n * max(1.0, (reach / distance) ** 2)))
    if change.value < -margin:
        return least
    sizes = np.unique(np.geomspace(least, 1_000 * least, 3_000).astype(np.int64))
    growth = sizes / change.n
    losses = [
        replace(own, n=np.ceil(own.n * growth - 1e-9), n_lost=np.ceil(own.n_lost * growth - 1e-9))
        for own in change.losses
    ]
    shrink = 1 / np.sqrt(growth)
    larger = replace(
        change, error=change.error * shrink, skewness=float(change.skewness) * shrink, losses=tuple(losses)
    )
    enough = np.flatnonzero(p_no_loss(larger, margin) <= ONE_SIDED)
    return int(sizes[enough[0]]) if len(enough) else None
