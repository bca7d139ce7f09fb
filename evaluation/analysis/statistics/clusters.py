"""Which units of a task are not independent: parallel sentences in several languages, queries of one document."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from evaluation.analysis.statistics.shared_documents import CLUSTER
from evaluation.analysis.statistics.units import Units


def cluster_numbers(units: Units) -> tuple[NDArray[np.intp], ...]:
    """Returns for each part (N,) the number of each unit's cluster.

    Units belong together where they share a document ("cluster" among the part's arrays), or an id in different
    parts: example 7 of each language is the same sentence. Row numbers are shared only between parts of one size.
    Units that are independent after all lose nothing by it but degrees of freedom.
    """
    sizes = [len(part.ids) for part in units.parts]
    stored = [part.arrays.get(CLUSTER) for part in units.parts]
    if len(units.parts) == 1 and stored[0] is None:
        return (np.arange(sizes[0]),)
    names: list[tuple[str, int]] = []
    for part in units.parts:
        numbered = part.ids == tuple(map(str, range(len(part.ids))))
        names += [(id_, len(part.ids) if numbered else 0) for id_ in part.ids]
    by_name = _numbered(names)
    if all(own is None for own in stored):
        return _split(by_name, sizes)
    at, documents = 0, np.arange(len(by_name)) + (1 << 40)
    for own, n in zip(stored, sizes, strict=True):
        if own is not None:
            documents[at : at + n] = own
        at += n
    by_document = np.unique(documents, return_inverse=True)[1] + by_name.max() + 1
    n_nodes = int(by_document.max()) + 1
    edges = coo_array((np.ones(len(by_name)), (by_name, by_document)), shape=(n_nodes, n_nodes))
    return _split(connected_components(edges, directed=False)[1][by_name].astype(np.intp), sizes)


def _numbered(names: Sequence[object]) -> NDArray[np.intp]:
    known: dict[object, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], np.intp)


def _split(numbers: NDArray[np.intp], sizes: Sequence[int]) -> tuple[NDArray[np.intp], ...]:
    return tuple(np.split(numbers, np.cumsum(sizes)[:-1]))
