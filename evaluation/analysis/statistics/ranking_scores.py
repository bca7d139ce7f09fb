"""Scores that depend on the order of all examples: Spearman's correlation, average precision, best accuracy and F1.

Each is computed on many resamples at once, given how often each of them drew each example. Nothing is sorted again: one
walk over the examples in their order adds up, for all resamples together, what was drawn so far. All numbers but the
precisions are whole and below 2**53, so that their sums are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]
Drawn = Sequence[Floats]
"""For each of N examples (B,) how often each of B resamples drew it."""
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

    def ranks(self) -> Floats:
        """(N,) twice the distance of each example's mean rank from the middle, which is a whole number."""
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
    """A ranking score of some examples, or the difference of two models' scores, ready to be computed on resamples.

    A score that is undefined is 0.

    Args:
        statistic: "spearman", "ap", "pair accuracy" or "pair f1".
        first: "gold" (N,), and "prediction" (N,) or (columns, N), higher is more similar. Of several columns the best
            counts, as in mteb's max_ap.
        second: The model whose score is taken off; the same examples and gold.
    """

    def __init__(self, statistic: str, first: Arrays, second: Arrays | None = None) -> None:
        gold = np.asarray(first["gold"])
        self._statistic = statistic
        self._by_gold = _ordered(gold)
        self._positive = gold == 1
        self._models = [
            [_ordered(column) for column in np.atleast_2d(arrays["prediction"])] for arrays in (first, second) if arrays
        ]

    def whole(self) -> float:
        """On all examples, each once."""
        with np.errstate(invalid="ignore", divide="ignore"):
            if self._statistic == "spearman":
                gold = self._by_gold.ranks()
                scores = [_correlation(columns[0].ranks(), gold) for columns in self._models]
            else:
                scores = [np.max([self._of_all_pairs(column) for column in columns]) for columns in self._models]
        return float(_first_less_second(scores))

    def on(self, drawn: Drawn) -> Floats:
        """(B,) on each resample."""
        with np.errstate(invalid="ignore", divide="ignore"):
            if self._statistic == "spearman":
                scores = _correlations(drawn, self._by_gold, [columns[0] for columns in self._models])
            else:
                scores = [
                    np.max([self._of_pairs(drawn, column) for column in columns], axis=0) for columns in self._models
                ]
        return np.asarray(_first_less_second(scores))

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
                if matches:  # others add nothing
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


def _first_less_second(scores: Sequence[Any]) -> Any:
    first, *second = np.nan_to_num(np.asarray(scores), nan=0.0)
    return first - second[0] if second else first


def _correlation(ranks: Floats, gold: Floats) -> float:
    return float(ranks @ gold / np.sqrt((ranks @ ranks) * (gold @ gold)))


def _correlations(drawn: Drawn, by_gold: _Order, models: Sequence[_Order]) -> list[Floats]:
    """(B,) Spearman's for each model."""
    n_drawn = sum_drawn(drawn, range(len(drawn)))
    gold = np.empty((len(by_gold.ends), len(n_drawn)))  # (K, B)
    for row, (_, rank) in zip(gold, _mean_ranks(drawn, by_gold, n_drawn), strict=True):
        row[:] = rank
    of_example = [gold[group] for group in by_gold.group.tolist()]
    gold_squares = _sum_of_squares(drawn, by_gold, n_drawn)
    found = []
    for by_prediction in models:
        products, product = np.zeros_like(n_drawn), np.empty_like(n_drawn)
        for examples, rank in _mean_ranks(drawn, by_prediction, n_drawn):
            for example in examples:
                np.multiply(drawn[example], rank, out=product)
                product *= of_example[example]
                products += product
        same = not (by_gold.tied or by_prediction.tied)
        squares = gold_squares if same else _sum_of_squares(drawn, by_prediction, n_drawn)
        found.append(products / np.sqrt(squares * gold_squares))
    return found


def _mean_ranks(drawn: Drawn, by: _Order, n_drawn: Floats) -> Iterator[tuple[list[int], Floats]]:
    """For each group of equal keys its examples, and (B,) twice the distance of their mean rank from the middle.

    The second is changed in place from group to group.
    """
    reached, rank = -n_drawn, np.empty_like(n_drawn)
    for examples in by.groups():
        number = sum_drawn(drawn, examples)
        np.add(reached, number, out=rank)
        yield examples, rank
        np.add(rank, number, out=reached)


def _sum_of_squares(drawn: Drawn, by: _Order, n_drawn: Floats) -> Floats:
    """(B,) of those distances, over the examples drawn: (n**3 - n) / 3, less (t**3 - t) / 3 for each t that tie."""
    cubes, cube = np.zeros_like(n_drawn), np.empty_like(n_drawn)
    for examples in by.groups():
        number = sum_drawn(drawn, examples)
        np.multiply(number, number, out=cube)
        cube *= number
        cubes += cube
    return np.asarray((n_drawn**3 - cubes) / 3.0)


def sum_drawn(drawn: Drawn, examples: Iterable[int]) -> Floats:
    """(B,) how often any of the examples was drawn. Of a single one its own row, which is not to be changed."""
    first, *others = examples
    return _add_drawn(drawn[first].copy(), drawn, others) if others else drawn[first]


def _add_drawn(total: Floats, drawn: Drawn, examples: Iterable[int]) -> Floats:
    """Add to (B,) in place how often each example was drawn."""
    for example in examples:
        total += drawn[example]
    return total


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
    return (_ordered(keys).ranks() + len(keys) + 1.0) / 2.0 / len(keys)


class SpearmanSwaps:
    """The difference of two models' correlations with gold under swaps, where neither ties any predictions.

    Gold's ranks are the same in every swap, which makes the difference of the two sums of products linear in what is
    swapped. Each rank is held once by either model, which makes the ties of the two mixtures equally many.

    Args:
        first: "gold" (N,), and "prediction" (N,) without equal values.
        second: The same of the other model, in the same order.
    """

    def __init__(self, first: Arrays, second: Arrays) -> None:
        self._places = [np.argsort(arrays["prediction"].ravel()) for arrays in (first, second)]
        n = len(first["gold"])
        gold = _ordered(first["gold"]).ranks()
        held = [gold[place] for place in self._places]  # by rank
        both = held[0] + held[1]
        above = 2.0 * np.cumsum(both[::-1])[::-1] - both
        middle = 4.0 * np.arange(n) + 2.0 - 2.0 * n
        self._weights = np.zeros(n)  # what a pair adds while it is kept, and takes away once it is swapped
        for sign, place, own in zip((0.5, -0.5), self._places, held, strict=True):
            self._weights[place] += sign * (above + middle * own)
        self._squares = np.array([n**3 - n, float(gold @ gold)])

    def on(self, swapped: Floats) -> Floats:
        """(B,) first - second where the pairs with a 1 in (N, B) are exchanged."""
        products = self._weights.sum() - 2.0 * (self._weights @ swapped)
        first, second = (np.take(swapped, place, axis=0) for place in self._places)
        tied = np.einsum("nb,nb->b", 1.0 - first, second)  # ranks of which both holders are drawn
        squares = (self._squares[0] - 6.0 * tied) / 3.0 * self._squares[1]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.nan_to_num(products / np.sqrt(squares), nan=0.0))


def swap_examples(first: Arrays, second: Arrays) -> dict[str, NDArray[Any]]:
    """2N examples, the first model's and then the second's, of which a swap draws one of each pair.

    Each model's predictions become their ranks, on which alone the scores depend, so that models with different
    scales of similarity can be mixed.
    """
    predictions = [np.atleast_2d(arrays["prediction"]) for arrays in (first, second)]
    ranks = [np.array([mean_ranks(column) for column in columns]) for columns in predictions]
    return {"gold": np.tile(first["gold"], 2), "prediction": np.concatenate(ranks, axis=1)}
