"""Tells a collapse from a drop: what a worthless model would score, and how many units such a loss shows on.

A worthless model gives every unit the same answer. For tasks on pairs it still finds the share of matches.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from evaluation.analysis.statistics.contributions import contributions, estimate
from evaluation.analysis.statistics.scorers import PAIRS
from evaluation.analysis.statistics.units import UnitPart, Units, score

MOST: Final = 2 / 3
"""Share of what a baseline has above a worthless model; a run that lost so much has collapsed."""
SOLID_ERRORS: Final = 4.0
"""Standard errors by which the baseline must lie above a worthless model, so that the loss is not chance."""


def has_collapsed(baseline: Units, drop: float) -> bool:
    """Returns whether a drop, 0-1, takes most of what the baseline has above a worthless model."""
    above = score(baseline) - float(np.mean([_worthless(baseline.statistic, part) for part in baseline.parts]))
    if above <= 0.0 or drop < MOST * above:
        return False
    return above >= SOLID_ERRORS * float(estimate(contributions(baseline)).error)


def n_deciding(units: Units) -> int:
    """Returns on how many units a collapse shows: of pairs, those of the rarer kind, matches or others."""
    if units.statistic not in PAIRS:
        return units.n_units
    matches = [int(np.count_nonzero(part.arrays["gold"] == 1)) for part in units.parts]
    return sum(min(n, len(part.ids) - n) for n, part in zip(matches, units.parts, strict=True))


def _worthless(statistic: str, part: UnitPart) -> float:
    """The score of a model that gives every unit the same answer; 0 where that depends on the answer."""
    if statistic not in PAIRS:
        return 0.0
    matches = float(np.mean(part.arrays["gold"] == 1))
    if statistic == "pair f1":
        return 2.0 * matches / (1.0 + matches)
    return matches if statistic == "ap" else max(matches, 1.0 - matches)
