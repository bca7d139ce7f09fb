"""Finds the units of a task that are not independent, and sums over them: parallel sentences, shared texts.

Units belong together where they share a text (a document that answers two queries, a sentence of two pairs), or an id
in different parts: example 7 of each language is the same sentence. Row numbers are shared only between parts of one
size. Units that are independent after all lose nothing by it but degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.analysis.statistics.shared_texts import CLUSTER
from evaluation.analysis.statistics.units import Units

MIN_EFFECTIVE: Final = 10
"""Chains of shared texts that leave fewer independent clusters than this are cut: one side of the pairs decides."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which units are not independent.

    Attributes:
        numbers: For each part (N,) the cluster of each unit, from 0 to K - 1.
        ids: Of the units, by part.
        texts: The parts' arrays `CLUSTER`, or None.
    """

    numbers: tuple[NDArray[np.int64], ...]
    ids: tuple[tuple[str, ...], ...]
    texts: tuple[NDArray[Any] | None, ...]

    @property
    def n_units(self) -> int:
        """Number of units in all parts."""
        return sum(map(len, self.numbers))

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """(K,) what each cluster adds to the mean over parts if all its values are 1."""
        return self.sums([np.full(len(own), 1 / (len(own) * len(self.numbers))) for own in self.numbers])

    @cached_property
    def by_id(self) -> tuple[tuple[tuple[str, ...], ...], NDArray[np.intp]]:
        """The ids, and an order of the clusters, that are the same however a task lists units without any cluster."""
        if len(self.ids) > 1 or self._order is not None:
            return self.ids, np.arange(len(self.weights))
        order = np.argsort(np.array(self.ids[0]), kind="stable")
        return (tuple(self.ids[0][at] for at in order.tolist()),), order

    @cached_property
    def _order(self) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
        """Units by cluster, and where each cluster begins; None where every unit is its own cluster."""
        joined = np.concatenate(self.numbers)
        if np.array_equal(joined, np.arange(len(joined))):
            return None
        order = np.argsort(joined, kind="stable")
        return order, np.flatnonzero(np.diff(joined[order], prepend=-1))

    def sums(self, values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Returns (..., K) the sums over each cluster of (..., N) values per part."""
        joined = np.concatenate(values, axis=-1)
        if self._order is None:
            return joined
        order, starts = self._order
        return np.asarray(np.add.reduceat(joined[..., order], starts, axis=-1))


def clusters_of(units: Units, known: Clusters | None = None) -> Clusters:
    """Returns the clusters of a task's units.

    Args:
        known: Those of another model, which are returned where its units are the same.
    """
    ids, texts = tuple(part.ids for part in units.parts), tuple(part.arrays.get(CLUSTER) for part in units.parts)
    if known is not None and ids == known.ids and all(map(_same, texts, known.texts)):
        return known
    if len(ids) == 1 and texts[0] is None:
        return Clusters((np.arange(len(ids[0])),), ids, texts)
    names = _by_name(ids)
    keys = _by_text(texts, [len(own) for own in ids])
    labels = _connected(names, *keys)
    if len(keys) > 1 and _effective(labels) < MIN_EFFECTIVE:
        sides = sorted((_connected(names, own) for own in keys), key=_effective)
        labels = next((own for own in sides if _effective(own) >= MIN_EFFECTIVE), labels)
    numbers = np.unique(labels, return_inverse=True)[1]
    return Clusters(tuple(np.split(numbers, np.cumsum([len(own) for own in ids])[:-1])), ids, texts)


def _by_name(ids: Sequence[tuple[str, ...]]) -> NDArray[np.int64]:
    """(N,) equal for the units of all parts that share an id; row numbers are shared between parts of one size."""
    if len(ids) == 1:
        return np.arange(len(ids[0]))
    known: dict[tuple[str, int], int] = {}
    return np.array(
        [
            known.setdefault((name, len(own) if numbered else 0), len(known))
            for own in ids
            for numbered in [own == tuple(map(str, range(len(own))))]
            for name in own
        ],
        np.int64,
    )


def _by_text(texts: Sequence[NDArray[Any] | None], sizes: Sequence[int]) -> NDArray[np.int64]:
    """(R, N) the numbers of the texts of all units; a unit without any has one of its own."""
    rows = max((np.atleast_2d(own).shape[0] for own in texts if own is not None), default=0)
    found, at = np.tile(np.arange(sum(sizes)) + (1 << 40), (rows, 1)), 0
    for own, size in zip(texts, sizes, strict=True):
        if own is not None:
            found[:, at : at + size] = own
        at += size
    return np.unique(found, return_inverse=True)[1].reshape(found.shape)


def _connected(names: NDArray[np.int64], *texts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) equal for units that share a name or a text, directly or through other units."""
    n = len(names)
    keys = np.stack([own + n * (at > 0) for at, own in enumerate((names, *texts))])  # names are below n
    labels = np.arange(n)
    while True:
        lowest = np.full(int(keys.max()) + 1, n)
        np.minimum.at(lowest, keys, np.broadcast_to(labels, keys.shape))
        lower = lowest[keys].min(axis=0)
        lower = lower[lower]  # a unit's label is a unit of its cluster, whose own may be lower still
        if np.array_equal(lower, labels):
            return labels
        labels = lower


def _effective(labels: NDArray[np.int64]) -> float:
    """As many clusters of equal size say as much as these (Kish 1965)."""
    sizes = np.unique(labels, return_counts=True)[1]
    return float(len(labels) ** 2 / np.sum(sizes**2))


def _same(first: NDArray[Any] | None, second: NDArray[Any] | None) -> bool:
    return first is second or (first is not None and second is not None and np.array_equal(first, second))
