"""Scores that depend on the order of all examples: Spearman's correlation, average precision, best accuracy and F1.

Each is computed on many resamples at once, given how often each example was drawn; nothing is sorted again. Columns are
picked with `np.take`: indexing with a list of them gives an array whose columns lie together, and all that follows
takes ten times as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SAME_ORDER: Final = 1e-3
"""Columns whose ranks differ by less than this share of the examples on average order them alike (cosine and Euclidean
distance of normalised vectors, up to rounding); one of them stands for both on resamples."""


class _Order(NamedTuple):
    """Examples by ascending key."""

    order: NDArray[np.intp]  # (N,) position -> example
    ends: NDArray[np.intp]  # (K,) last position of each group of equal keys
    group: NDArray[np.intp]  # (N,) example -> its group

    @property
    def tied(self) -> bool:
        return len(self.ends) < len(self.order)


def _ordered(keys: NDArray[Any]) -> _Order:
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    return _Order(np.argsort(group, kind="stable"), np.cumsum(sizes) - 1, group.astype(np.intp))


class RankingScore:
    """A ranking score of some examples, ready to be computed on resamples of them.

    Args:
        statistic: "spearman", "ap", "pair accuracy" or "pair f1".
        arrays: "gold" (N,), and "prediction" (N,) or (columns, N), higher is more similar. Of several columns the
            best counts, as in mteb's max_ap.
    """

    def __init__(self, statistic: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._statistic = statistic
        self._gold = np.asarray(arrays["gold"])
        self._by_gold = _ordered(self._gold)
        self._columns = [_ordered(column) for column in np.atleast_2d(arrays["prediction"])]

    def on(self, counts: NDArray[Any]) -> Floats:
        """(B,) the score on each resample; 0 where it is undefined there.

        Args:
            counts: (B, N) how often each example was drawn.
        """
        counts = np.asarray(counts, np.int32)  # cumulative sums of which are four times faster than of floats
        with np.errstate(invalid="ignore", divide="ignore"):
            if self._statistic == "spearman":
                scores = _spearman(counts, self._by_gold, self._columns[0])
            else:
                scores = np.max([self._of_pairs(counts, column) for column in self._columns], axis=0)
        return np.nan_to_num(scores, nan=0.0)

    def _of_pairs(self, counts: NDArray[np.int32], column: _Order) -> Floats:
        """A score of one column's thresholds, from how many examples lie above each, and how many of them match."""
        descending = column.order[::-1]
        n = len(descending)
        ends = (n - 2 - np.r_[-1, column.ends[:-1]])[::-1]  # last position of each group, from the top
        positive = self._gold[descending] == 1
        drawn = np.take(counts, descending, axis=1)
        hits = np.cumsum(drawn * positive.astype(np.int32), axis=1, dtype=np.int32)  # (B, N)
        above = np.cumsum(drawn, axis=1, dtype=np.int32)
        n_drawn, n_positive = above[:, -1:], hits[:, -1:]
        if self._statistic == "ap":
            ends = ends[np.unique(np.searchsorted(ends, np.flatnonzero(positive)))]  # others add nothing
            above, hits = np.take(above, ends, axis=1), np.take(hits, ends, axis=1).astype(np.float64)
            gained = np.diff(hits, axis=1, prepend=0.0)
            return np.asarray(np.einsum("bk,bk->b", gained, hits / np.maximum(above, 1)) / n_positive[:, 0])
        above, hits = above[:, ends[:-1]], hits[:, ends[:-1]]  # mteb tries no threshold below all examples
        if self._statistic == "pair f1":
            return np.asarray(np.max(2.0 * hits / (above + n_positive), axis=1, initial=0.0))
        right = hits + (n_drawn - n_positive - (above - hits))
        return np.asarray(np.max(right / n_drawn, axis=1, initial=0.0))


def _spearman(counts: NDArray[np.int32], by_gold: _Order, by_prediction: _Order) -> Floats:
    gold, gold_counts = _centred_ranks(counts, by_gold)
    prediction, prediction_counts = _centred_ranks(counts, by_prediction)
    weighted = prediction * prediction_counts
    squares = np.einsum("bk,bk->b", weighted, prediction) * np.einsum("bk,bk->b", gold_counts * gold, gold)
    if by_prediction.tied:
        weighted = np.asarray(counts, np.float64) * np.take(prediction, by_prediction.group, axis=1)
        gold = np.take(gold, by_gold.group, axis=1)
    else:
        gold = np.take(gold, by_gold.group[by_prediction.order], axis=1)
    return np.asarray(np.einsum("bn,bn->b", weighted, gold) / np.sqrt(squares))


def _centred_ranks(counts: NDArray[np.int32], by: _Order) -> tuple[Floats, Floats]:
    """(B, K) mean rank of each group of equal keys, twice its distance from the middle; (B, K) the group's draws."""
    drawn = np.take(counts, by.order, axis=1)
    reached = np.cumsum(drawn, axis=1, dtype=np.int32)
    total = reached[:, -1:]
    if by.tied:
        reached = np.take(reached, by.ends, axis=1)
        drawn = np.diff(reached, axis=1, prepend=np.int32(0))
    ranks = 2 * reached
    ranks -= drawn
    ranks -= total
    return ranks.astype(np.float64), drawn.astype(np.float64)


def distinct_columns(columns: NDArray[Any]) -> NDArray[Any]:
    """(columns, N) without those that order the examples as an earlier one does."""
    kept: list[NDArray[Any]] = []
    ranks: list[Floats] = []
    for column in np.atleast_2d(columns):
        rank = mean_ranks(column)
        if all(np.abs(rank - other).mean() >= SAME_ORDER for other in ranks):
            kept.append(column)
            ranks.append(rank)
    return np.array(kept)


def mean_ranks(keys: NDArray[Any]) -> Floats:
    """(N,) rank of each, ties sharing their mean, as a share of N: 0-1."""
    by = _ordered(keys)
    sizes = np.diff(by.ends, prepend=-1)
    return np.asarray((by.ends + 1 - (sizes - 1) / 2.0)[by.group] / len(by.order))


def swap_examples(first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """2N examples, the first model's and then the second's, of which a swap draws one of each pair.

    Each model's predictions become their ranks, on which alone the scores depend, so that models with different
    scales of similarity can be mixed.
    """
    predictions = [np.atleast_2d(arrays["prediction"]) for arrays in (first, second)]
    ranks = [np.array([mean_ranks(column) for column in columns]) for columns in predictions]
    return {"gold": np.tile(first["gold"], 2), "prediction": np.concatenate(ranks, axis=1)}
