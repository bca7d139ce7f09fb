"""Scores that depend on the order of all examples: Spearman's correlation, average precision, best accuracy and F1.

Computes each score on many resamples at once, from how often each resample contains each example: the jackknife's leave
out one. Nothing is sorted again: one pass over the examples in their order sums, for all resamples together, what came
so far. All numbers except the precisions are integers below 2**53, so their sums are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]
Drawn = Sequence[Floats]
"""For each of N examples (B,) how often each of B resamples contains it."""


class _Order(NamedTuple):
    """Examples by ascending key."""

    order: NDArray[np.intp]  # (N,) position -> example
    ends: NDArray[np.intp]  # (K,) last position of each group of equal keys
    group: NDArray[np.intp]  # (N,) example -> its group

    def ranks(self) -> Floats:
        """(N,) twice the distance of each example's mean rank from the middle, which is an integer."""
        of_group = 2.0 * (self.ends + 1) - np.diff(self.ends, prepend=-1) - len(self.order)
        return np.asarray(of_group[self.group])

    def groups(self) -> list[list[int]]:
        """The examples of each group."""
        order, ends = self.order.tolist(), (self.ends + 1).tolist()
        return [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _ordered(keys: NDArray[Any]) -> _Order:
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    return _Order(np.argsort(group, kind="stable"), np.cumsum(sizes) - 1, group.astype(np.intp))


class RankingScore:
    """A ranking score, ready to be computed on resamples. An undefined score is 0.

    Args:
        statistic: "spearman", "ap", "pair accuracy" or "pair f1".
        arrays: "gold" (N,), and "prediction" (N,) or (columns, N), higher is more similar. The best of several columns
            counts, as in mteb's max_ap.
    """

    def __init__(self, statistic: str, arrays: Arrays) -> None:
        gold = np.asarray(arrays["gold"])
        self._statistic = statistic
        self._by_gold = _ordered(gold)
        self._positive = gold == 1
        self._columns = [_ordered(column) for column in np.atleast_2d(arrays["prediction"])]

    def whole(self) -> float:
        """Returns the score of all examples, each counted once."""
        with np.errstate(invalid="ignore", divide="ignore"):
            if self._statistic == "spearman":
                score = _correlation(self._columns[0].ranks(), self._by_gold.ranks())
            else:
                score = np.max([self._of_all_pairs(column) for column in self._columns])
        return float(np.nan_to_num(score, nan=0.0))

    def on(self, drawn: Drawn) -> Floats:
        """Returns (B,) the score of each resample."""
        with np.errstate(invalid="ignore", divide="ignore"):
            if self._statistic == "spearman":
                scores = _correlations(drawn, self._by_gold, self._columns[0])
            else:
                scores = np.max([self._of_pairs(drawn, column) for column in self._columns], axis=0)
        return np.asarray(np.nan_to_num(scores, nan=0.0))

    def _of_all_pairs(self, column: _Order) -> float:
        hits = np.cumsum(self._positive[column.order[::-1]])
        ends = len(hits) - 1 - np.concatenate([[0], column.ends[:-1] + 1])[::-1]  # of each group, from the top
        above, hits = ends + 1.0, hits[ends]
        n, n_positive = above[-1], hits[-1]
        if self._statistic == "ap":
            return float(np.sum(np.diff(hits, prepend=0) * (hits / above)) / n_positive)
        above, hits = above[:-1], hits[:-1]  # mteb tries no threshold below all examples
        if self._statistic == "pair f1":
            return float(np.max(2.0 * hits / (above + n_positive), initial=0.0))
        return float(np.max((2.0 * hits - above + n - n_positive) / n, initial=0.0))

    def _of_pairs(self, drawn: Drawn, column: _Order) -> Floats:
        """(B,) a score of the thresholds that lie between groups of equal similarity."""
        groups = column.groups()[::-1]
        matching = [[example for example in examples if self._positive[example]] for examples in groups]
        above, hits = np.zeros_like(drawn[0]), np.zeros_like(drawn[0])
        if self._statistic == "ap":
            precisions = np.zeros_like(above)
            for examples, matches in zip(groups, matching, strict=True):
                _add_drawn(above, drawn, examples)
                if matches:  # a group without a match adds nothing
                    gained = sum_drawn(drawn, matches)
                    hits += gained
                    precisions += gained * (hits / np.maximum(above, 1.0))
            return np.asarray(precisions / hits)
        best = np.zeros_like(above)
        n = sum_drawn(drawn, range(len(drawn)))
        n_positive = _add_drawn(np.zeros_like(above), drawn, np.flatnonzero(self._positive))
        for examples, matches in zip(groups[:-1], matching, strict=False):
            _add_drawn(above, drawn, examples)
            _add_drawn(hits, drawn, matches)
            if self._statistic == "pair f1":
                np.maximum(best, 2.0 * hits / (above + n_positive), out=best)
            else:
                np.maximum(best, (2.0 * hits - above + n - n_positive) / n, out=best)
        return best


def _correlation(ranks: Floats, gold: Floats) -> float:
    return float(ranks @ gold / np.sqrt((ranks @ ranks) * (gold @ gold)))


def _correlations(drawn: Drawn, by_gold: _Order, by_prediction: _Order) -> Floats:
    """(B,) Spearman's correlation."""
    n_drawn = sum_drawn(drawn, range(len(drawn)))
    gold = np.empty((len(by_gold.ends), len(n_drawn)))  # (K, B)
    for row, (_, rank) in zip(gold, _mean_ranks(drawn, by_gold, n_drawn), strict=True):
        row[:] = rank
    of_example = [gold[group] for group in by_gold.group.tolist()]
    products, product = np.zeros_like(n_drawn), np.empty_like(n_drawn)
    for examples, rank in _mean_ranks(drawn, by_prediction, n_drawn):
        for example in examples:
            np.multiply(drawn[example], rank, out=product)
            product *= of_example[example]
            products += product
    squares = [_sum_of_squares(drawn, by, n_drawn) for by in (by_gold, by_prediction)]
    return np.asarray(products / np.sqrt(squares[0] * squares[1]))


def _mean_ranks(drawn: Drawn, by: _Order, n_drawn: Floats) -> Iterator[tuple[list[int], Floats]]:
    """Yields for each group of equal keys its examples, and (B,) twice the distance of their mean rank from the middle.

    The array is the same for every group and is overwritten.
    """
    reached, rank = -n_drawn, np.empty_like(n_drawn)
    for examples in by.groups():
        number = sum_drawn(drawn, examples)
        np.add(reached, number, out=rank)
        yield examples, rank
        np.add(rank, number, out=reached)


def _sum_of_squares(drawn: Drawn, by: _Order, n_drawn: Floats) -> Floats:
    """(B,) of those distances, over the examples drawn: (n**3 - n) / 3, minus (t**3 - t) / 3 for each t that tie."""
    cubes, cube = np.zeros_like(n_drawn), np.empty_like(n_drawn)
    for examples in by.groups():
        number = sum_drawn(drawn, examples)
        np.multiply(number, number, out=cube)
        cube *= number
        cubes += cube
    return np.asarray((n_drawn**3 - cubes) / 3.0)


def sum_drawn(drawn: Drawn, examples: Iterable[int]) -> Floats:
    """Returns (B,) how often any of the examples was drawn; for a single one its own row, which must not be changed."""
    first, *others = examples
    return _add_drawn(drawn[first].copy(), drawn, others) if others else drawn[first]


def _add_drawn(total: Floats, drawn: Drawn, examples: Iterable[int]) -> Floats:
    """Adds to (B,) in place how often each example was drawn."""
    for example in examples:
        total += drawn[example]
    return total
