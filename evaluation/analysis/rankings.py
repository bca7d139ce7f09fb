"""Scores that depend on the order of all examples: Spearman's correlation, average precision, best accuracy and F1.

Each is computed on many resamples at once, given how often each example was drawn; nothing is sorted again.
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
        counts = np.asarray(counts, np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            if self._statistic == "spearman":
                scores = _spearman(counts, self._by_gold, self._columns[0])
            else:
                found = [self._pairs(counts, column) for column in self._columns]
                scores = np.max(found, axis=0)
        return np.nan_to_num(scores, nan=0.0)

    def _pairs(self, counts: Floats, column: _Order) -> Floats:
        """Of a column: examples above each threshold, and how many of them are positive."""
        descending = column.order[::-1]
        n = len(descending)
        ends = (n - 2 - np.r_[-1, column.ends[:-1]])[::-1]  # last position of each group, from the top
        positive = self._gold[descending] == 1
        drawn = counts[:, descending]
        hits = np.cumsum(drawn * positive, axis=1)  # (B, N)
        drawn = np.cumsum(drawn, axis=1, out=drawn)
        n_positive = hits[:, -1:]
        if self._statistic == "ap":
            group = np.searchsorted(ends, np.flatnonzero(positive))
            ends = ends[np.unique(group)]  # others add nothing
            above, found = drawn[:, ends], hits[:, ends]
            gained = np.diff(found, axis=1, prepend=0.0)
            return np.asarray(np.sum(gained * found / np.maximum(above, 1.0), axis=1) / n_positive[:, 0])
        above, found = drawn[:, ends[:-1]], hits[:, ends[:-1]]  # mteb tries no threshold below all examples
        if self._statistic == "pair f1":
            return np.asarray(np.max(2.0 * found / (above + n_positive), axis=1, initial=0.0))
        negatives_below = drawn[:, -1:] - n_positive - (above - found)
        return np.asarray(np.max((found + negatives_below) / drawn[:, -1:], axis=1, initial=0.0))


def _spearman(counts: Floats, by_gold: _Order, by_prediction: _Order) -> Floats:
    gold, gold_counts = _centred_ranks(counts, by_gold)
    prediction, prediction_counts = _centred_ranks(counts, by_prediction)
    gold_squares = np.einsum("bk,bk,bk->b", gold_counts, gold, gold)
    prediction_squares = np.einsum("bk,bk,bk->b", prediction_counts, prediction, prediction)
    if by_prediction.tied:
        products = np.einsum("bn,bn,bn->b", counts, gold[:, by_gold.group], prediction[:, by_prediction.group])
    else:
        gold_of = gold[:, by_gold.group[by_prediction.order]]
        products = np.einsum("bn,bn,bn->b", prediction_counts, gold_of, prediction)
    return np.asarray(products / np.sqrt(gold_squares * prediction_squares))


def _centred_ranks(counts: Floats, by: _Order) -> tuple[Floats, Floats]:
    """(B, K) mean rank of each group of equal keys, less the mean of all ranks, and (B, K) the group's draws."""
    drawn = counts[:, by.order]
    if by.tied:
        drawn = np.add.reduceat(drawn, np.r_[0, by.ends[:-1] + 1], axis=1)
    ranks = np.cumsum(drawn, axis=1)
    total = ranks[:, -1:].copy()
    ranks -= (drawn - 1.0) / 2.0
    ranks -= (total + 1.0) / 2.0
    return ranks, drawn


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
    return np.asarray((by.ends - (sizes - 1) / 2.0)[by.group] / len(by.order))


def swap_examples(first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """2N examples, the first model's and then the second's, of which a swap draws one of each pair.

    Each model's predictions become their ranks, on which alone the scores depend, so that models with different
    scales of similarity can be mixed.
    """
    predictions = [np.atleast_2d(arrays["prediction"]) for arrays in (first, second)]
    ranks = [np.array([mean_ranks(column) for column in columns]) for columns in predictions]
    return {"gold": np.tile(first["gold"], 2), "prediction": np.concatenate(ranks, axis=1)}
