"""Scores that depend on the order of all examples: Spearman's correlation, average precision, best accuracy and F1.

Each is computed once on all examples and, for its jackknife, without each of them. Nothing is sorted again: what an
example's absence changes follows from sums over the examples in their order. Sums of ranks are integers, so exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def ranking_score(statistic: str, arrays: Arrays) -> float:
    """Returns the score of all examples; an undefined score is 0.

    Args:
        statistic: "spearman", "ap", "pair accuracy" or "pair f1".
        arrays: "gold" (N,), and "prediction" (N,) or (columns, N), higher is more similar. The best of several columns
            counts, as in mteb's max_ap.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        if statistic == "spearman":
            gold, prediction = ranked(arrays["gold"]), ranked(_only_column(arrays))
            scores = _correlation(*(_dot(*own) for own in ((gold, prediction), (gold, gold), (prediction, prediction))))
        else:
            scores = np.max([_of_pairs(statistic, arrays["gold"], column) for column in _columns(arrays)])
    return float(np.nan_to_num(scores, nan=0.0))


def leave_one_out(statistic: str, arrays: Arrays) -> Floats:
    """Returns (N,) the score without each example; the arguments of `ranking_score`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if statistic == "spearman":
            gold, prediction = ranked(arrays["gold"]), ranked(_only_column(arrays))
            mixed = _dots_without(gold, prediction, concordance(gold, prediction))
            squares = (_dots_without(own, own, len(own.codes) - own.sizes) for own in (gold, prediction))
            scores = _correlation(mixed, *squares)
        else:
            scores = np.max([_pairs_without(statistic, arrays["gold"], own) for own in _columns(arrays)], axis=0)
    return np.asarray(np.nan_to_num(scores, nan=0.0))


def _columns(arrays: Arrays) -> NDArray[Any]:
    return np.atleast_2d(arrays["prediction"])


def _only_column(arrays: Arrays) -> NDArray[Any]:
    column: NDArray[Any] = _columns(arrays)[0]
    return column


# ---------------------------------------------------------------------------------------------------------- correlation


class Ranked(NamedTuple):
    """Values by their place in ascending order, all (N,).

    Attributes:
        codes: Number of the group of equal values, from 0.
        sizes: Examples with the same value, the example itself included.
        lower: Examples with a lower value.
    """

    codes: Integers
    sizes: Integers
    lower: Integers

    @property
    def centred(self) -> Integers:
        """Lower less higher examples: twice the distance of the mean rank from the middle."""
        return 2 * self.lower + self.sizes - len(self.codes)


def ranked(values: NDArray[Any]) -> Ranked:
    """Returns the places of values."""
    codes = _codes(values)
    sizes = np.bincount(codes)
    return Ranked(codes, sizes[codes], (np.cumsum(sizes) - sizes)[codes])


def _codes(values: NDArray[Any]) -> Integers:
    """(N,) the place of each value among the distinct ones; what is such a place already, as in stored units, stays."""
    dense = values.dtype == np.int64 and len(values) and values.min() == 0 and values.max() < len(values)
    if dense and np.bincount(values).all():
        return values
    return np.unique(values, return_inverse=True)[1]


def concordance(first: Ranked, second: Ranked) -> Integers:
    """Returns (N,) for each example, how many others both rankings order alike, less those that they order oppositely.

    A tie in either ranking counts as neither.
    """
    n = len(first.codes)
    order = np.lexsort((second.codes, first.codes))
    inner, lower = second.codes[order], second.lower[order]
    place = np.empty(n, np.int64)  # in the second ranking, of equal ones in this order
    place[np.argsort(inner, kind="stable")] = np.arange(n)
    equal_before = place - lower
    # An example's predecessors are not higher in the first ranking, its successors not lower.
    alike = 4 * _lower_before(place) - 2 * equal_before - 2 * np.arange(n) - second.centred[order]
    starts = np.flatnonzero(np.diff(first.codes[order], prepend=-1) | np.diff(inner, prepend=-1))
    same = np.diff(starts, append=n)  # equal in both rankings
    alike -= first.sizes[order] - np.repeat(same, same)  # ties in the first ranking, sorted by the second
    found = np.empty(n, np.int64)
    found[order] = alike
    return found


def _lower_before(permutation: Integers) -> Integers:
    """(N,) how many entries before each are lower; from the highest bit down, keeping the order within equal bits."""
    n = len(permutation)
    counts, order, place = np.zeros(n, np.int64), np.arange(n), np.arange(n)
    for bit in range((n - 1).bit_length() - 1, -1, -1):
        entries = permutation[order]
        start = entries >> bit + 1 << bit + 1  # of the entries with the same higher bits
        upper = (entries >> bit & 1).astype(bool)
        n_lower = np.cumsum(~upper)
        n_lower -= np.concatenate([[0], n_lower])[start]
        counts[order[upper]] += n_lower[upper]
        moved = np.empty(n, np.int64)
        moved[np.where(upper, (1 << bit) + place - n_lower, start + n_lower - 1)] = order
        order = moved
    return counts


def _dot(first: Ranked, second: Ranked) -> Any:
    return first.centred @ second.centred


def _dots_without(first: Ranked, second: Ranked, alike: Integers) -> Integers:
    """(N,) the product of both rankings without each example, whose absence moves the rank of all but ties by one."""
    own, other = first.centred, second.centred
    return own @ other - own * other - _above_less_below(second, own) - _above_less_below(first, other) + alike


def _above_less_below(ranks: Ranked, values: Integers) -> Integers:
    """(N,) the sum of values that sum to 0 over examples ranked higher, less the sum over those ranked lower."""
    sums = np.bincount(ranks.codes, values).astype(np.int64)
    return (sums - 2 * np.cumsum(sums))[ranks.codes]


def _correlation(products: Any, first: Any, second: Any) -> Any:
    return products / np.sqrt(np.multiply(first, second, dtype=np.float64))


# --------------------------------------------------------------------------------------------- matching pairs of texts


def _of_pairs(statistic: str, gold: NDArray[Any], column: NDArray[Any]) -> float:
    sizes, matches, _ = _from_the_top(gold, column)
    above, hits = np.cumsum(sizes), np.cumsum(matches)
    values = _of_thresholds(statistic, above, hits, int(above[-1]), int(hits[-1]))
    if statistic == "ap":
        return float(matches @ values)
    return float(np.max(values[:-1], initial=0.0))  # mteb tries no threshold below all examples


def _pairs_without(statistic: str, gold: NDArray[Any], column: NDArray[Any]) -> Floats:
    """(N,) the score without each example, which moves the thresholds below it."""
    sizes, matches, group = _from_the_top(gold, column)
    above, hits = np.cumsum(sizes), np.cumsum(matches)
    n, n_matches = len(group), int(hits[-1])
    found = np.empty(n)
    for match in (0, 1):
        before = _of_thresholds(statistic, above, hits, n - 1, n_matches - match)
        after = _of_thresholds(statistic, above - 1, hits - match, n - 1, n_matches - match)
        if statistic == "ap":
            gained, kept = np.cumsum(matches * before) - matches * before, matches * after
            scores = gained + np.cumsum(kept[::-1])[::-1] - match * after
        else:
            best_before = np.maximum.accumulate(np.concatenate([[0.0], before[:-1]]))
            best_after = np.maximum.accumulate(np.concatenate([[0.0], after[-2::-1]]))[::-1]
            scores = np.maximum(best_before, best_after)
        members = (gold == 1) == bool(match)
        found[members] = scores[group[members]]
    return found


def _from_the_top(gold: NDArray[Any], column: NDArray[Any]) -> tuple[Integers, Integers, Integers]:
    """Groups of equal similarity, the most similar first: their examples, matches among them, and (N,) each's group."""
    codes = _codes(column)
    group = codes.max() - codes
    return np.bincount(group), np.bincount(group[gold == 1], minlength=int(group.max()) + 1), group


def _of_thresholds(statistic: str, above: Integers, hits: Integers, n: int, n_matches: int) -> Floats:
    """The score of the threshold below each group; for average precision what each match in the group adds."""
    if statistic == "ap":
        return np.asarray(hits / np.maximum(above, 1) / n_matches)
    if statistic == "pair f1":
        return np.asarray(2.0 * hits / (above + n_matches))
    return np.asarray((2.0 * hits - above + n - n_matches) / n)
