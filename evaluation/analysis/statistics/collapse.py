"""Tells a collapse from a drop: what a worthless model would score, and how many units such a loss shows on.

A worthless model gives every unit the same answer. In pairs it still finds the share of matches, in classification that
of the most frequent label.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from evaluation.analysis.statistics.contributions import contributions, estimate
from evaluation.analysis.statistics.scorers import PAIRS, Statistic
from evaluation.analysis.statistics.units import UnitPart, Units, score

MOST: Final = 2 / 3
"""Share of what a baseline has above a worthless model; a run that lost so much has collapsed."""
SOLID_ERRORS: Final = 4.0
"""Standard errors by which the baseline must lie above a worthless model, so that the loss is not chance."""
MIN_OTHERS: Final = 10
"""In classification, so many examples at least must not have the most frequent label: the loss shows on them only."""
_LABELLED: Final = frozenset({"mean", "rounded mean", "macro f1", "weighted f1"})


def has_collapsed(baseline: Units, drop: float) -> bool:
    """Returns whether a drop, 0-1, takes most of what the baseline has above a worthless model."""
    above = score(baseline) - float(np.mean([_worthless(baseline.statistic, part) for part in baseline.parts]))
    if above <= 0.0 or drop < MOST * above:
        return False
    if all(_has_labels(baseline.statistic, part) for part in baseline.parts):
        others = sum(len(part.ids) - int(_counts(part).max()) for part in baseline.parts)
        if others < MIN_OTHERS:
            return False
    return above >= SOLID_ERRORS * float(estimate(contributions(baseline)).error)


def n_deciding(units: Units) -> int:
    """Returns on how many units a collapse shows: of pairs, those of the rarer kind, matches or others."""
    if units.statistic not in PAIRS:
        return units.n_units
    matches = [int(np.count_nonzero(part.arrays["gold"] == 1)) for part in units.parts]
    return sum(min(n, len(part.ids) - n) for n, part in zip(matches, units.parts, strict=True))


def _worthless(statistic: Statistic, part: UnitPart) -> float:
    """The highest score of a model that gives every unit the same answer; 0 where no gold labels tell it."""
    if statistic in PAIRS:
        matches = float(np.mean(part.arrays["gold"] == 1))
        if statistic == "pair f1":
            return 2.0 * matches / (1.0 + matches)
        return matches if statistic == "ap" else max(matches, 1.0 - matches)
    if not _has_labels(statistic, part):
        return 0.0
    counts = _counts(part)
    largest = float(counts.max() / counts.sum())
    f1 = 2.0 * largest / (1.0 + largest)
    return {"macro f1": f1 / np.count_nonzero(counts), "weighted f1": largest * f1}.get(statistic, largest)


def _has_labels(statistic: Statistic, part: UnitPart) -> bool:
    return statistic in _LABELLED and "gold" in part.arrays


def _counts(part: UnitPart) -> NDArray[np.int64]:
    """How many units have each label."""
    return np.bincount(part.arrays["gold"])
