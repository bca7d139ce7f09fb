"""Confidence intervals from an estimate and its standard error: Student's t, and Wilson's for scores near a limit.

Formulas only: `paired_tests.py` chooses one for a score or a difference, `suite_tests.py` for a mean over tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval.

    Attributes:
        method: "t" (Student), "Wilson" (scores with limits), or "sign flips" (inverted permutation test).
    """

    low: float
    high: float
    method: str


def t_interval(point: float, error: float, df: float, confidence: float) -> Interval:
    """Returns Student's interval around a point with this standard error."""
    reach = float(stdtrit(df, 0.5 + confidence / 2.0)) * error
    return Interval(point - reach, point + reach, "t")


def t_p_drop(point: float, error: float, df: float) -> float:
    """Returns Student's one-sided p: the chance of so low a value where the truth is 0."""
    return float(stdtr(df, point / error))


def wilson_interval(
    point: float, error: float, n: int, quantile: float, limits: tuple[float, float] = (0.0, 1.0)
) -> Interval:
    """Returns Wilson's interval (1927) of a score that has limits; it never leaves them and is never a single point.

    The score is treated as a proportion between its limits, observed on as many examples as give it this standard
    error (Korn and Graubard 1998, Survey Methodology 24). At a limit, where the standard error is 0, these are the
    `n` that there are.

    Args:
        point: The score.
        error: Its standard error.
        n: Independent examples.
        quantile: Of the normal or of Student's distribution: 1.96 for 95 % and many examples.
        limits: The lowest and the highest possible score.
    """
    low, high = limits
    width = high - low
    share, own_error = (point - low) / width, error / width
    room = share * (1.0 - share)
    if room > 1e-12 and own_error < 1e-12:  # every example has the same value
        return Interval(point, point, "Wilson")
    n_effective = n if room <= 1e-12 else room / own_error**2 * n / max(n - 1, 1)  # the error divides by n - 1
    squared = quantile**2
    centre = (share + squared / (2.0 * n_effective)) / (1.0 + squared / n_effective)
    reach = quantile / (1.0 + squared / n_effective) * np.sqrt(room / n_effective + squared / (4.0 * n_effective**2))
    return Interval(
        float(max(low + width * (centre - reach), low)), float(min(low + width * (centre + reach), high)), "Wilson"
    )


def uniform_change_interval(change: float, n: int, confidence: float) -> Interval:
    """Returns the interval of a change that all of n examples share, so that they have no spread.

    The true share of examples that change so is at least Wilson's lower limit of n out of n; the others may not
    change at all.
    """
    z = float(ndtri(0.5 + confidence / 2.0))
    least = change * n / (n + z * z)
    return Interval(min(change, least), max(change, least), "Wilson")
