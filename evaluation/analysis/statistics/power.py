"""Planned power: which drop a test will find, and how many examples a question takes, before anything is run.

Both follow from how far two checkpoints' examples differ, as a pilot showed or as a declared share of changed examples
says; never from the change that is being judged (Card et al. 2020; Sakai 2018). Numbers are in the unit of the spread.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

POWER: Final = 0.8
"""A drop counts as visible if a test finds it four times in five."""
_CONFIDENCE: Final = 0.95
_quantile = NormalDist().inv_cdf


def visible_drop(error: float, level: float) -> float:
    """Returns the smallest true drop that a one-sided test at `level` finds with `POWER`.

    Args:
        error: Standard error of the difference.
        level: Of the single test, after the correction.

    Example:
        >>> round(visible_drop(1.0, 0.05), 2)
        2.49
    """
    return error * (_quantile(1 - level) + _quantile(POWER))


def examples_for(spread: float, drop: float, level: float) -> int:
    """Returns how many examples make a drop visible.

    Args:
        spread: Standard deviation of one example's difference.
        drop: The true drop, above 0.
        level: Of the single test, after the correction.

    Example:
        >>> examples_for(30.0, 1.0, 0.05)
        5565
    """
    return math.ceil((visible_drop(spread, level) / drop) ** 2)


def examples_to_rule_out(error: float, drop: float) -> float:
    """Returns by what factor more examples show, four times in five, that an unchanged model has not dropped so far.

    Args:
        error: Standard error of the difference with the examples there are.
        drop: What the interval must exclude, above 0.
    """
    return ((_quantile((1 + _CONFIDENCE) / 2) + _quantile(POWER)) * error / drop) ** 2


def spread_of_changes(share: float) -> float:
    """Returns the standard deviation, 0-1, of examples' differences if this share turns right or wrong."""
    return math.sqrt(share)
