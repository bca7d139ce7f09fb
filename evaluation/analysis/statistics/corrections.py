"""Corrections of p for several tests at once."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns p after Holm's step-down correction (Holm 1979), in input order; None stays None and is not counted.

    Example:
        >>> holm([0.01, None, 0.04])
        [0.02, None, 0.04]
    """
    known = sorted((p, at) for at, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, at) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[at] = highest
    return adjusted


def holm_in_families(families: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """Returns p after Holm's correction within each family, times the number of families that hold a p.

    Together the families keep the error rate of a single one; a family of few tests keeps its power beside one of many.
    """
    n_families = sum(any(p is not None for p in family) for family in families)
    return [[None if p is None else min(1.0, n_families * p) for p in holm(family)] for family in families]
