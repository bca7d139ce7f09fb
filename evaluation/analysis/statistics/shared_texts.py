"""Numbers the texts that units of a task share: relevant documents of queries, sentences of pairs.

`clusters.py` decides from these numbers which units are not independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import StoreError

Part = tuple[str, str, tuple[str, ...], dict[str, NDArray[Any]]]
"""Split, subset, ids and arrays."""
Places = tuple[tuple[str, str, tuple[str, ...]], ...]
"""Split, subset and ids of each part."""
RelevantDocuments = Mapping[tuple[str, str, str], object]
"""Split, subset and query -> its relevant documents as one key."""
CLUSTER: Final = "cluster"
"""Array of a part: (N,) or (R, N) numbers of the texts of each unit, the same in all parts of a task. Units that have
one in common are not independent."""


def document_clusters(documents: RelevantDocuments, places: Places) -> list[NDArray[np.int64]] | None:
    """Returns for each part (N,) numbers that are alike for queries whose relevant documents agree.

    Returns:
        None where no two queries share them, or none are known.
    """
    if not documents:
        return None
    numbers: dict[object, int] = {}
    found = []
    for split, subset, ids in places:
        names = [documents.get(place) or place for place in ((split, subset, id_) for id_ in ids)]
        found.append(np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64))
    return found if len(numbers) < sum(map(len, found)) else None


def relevant_documents(data: bytes, file: Path) -> RelevantDocuments:
    """Reads the relevant documents of each query.

    Args:
        data: A parquet file: split, subset, query_id, corpus_id and relevance of each judgement.
        file: Its name, for errors.

    Raises:
        StoreError: It cannot be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    names = ("split", "subset", "query_id", "corpus_id", "relevance")
    try:
        with parquet.ParquetFile(pa.BufferReader(data)) as stored:
            table = stored.read(names, use_threads=False)
            columns = [table[name].to_pylist() for name in names]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise StoreError(f"{file} cannot be read: {error}.") from error
    found: dict[tuple[str, str, str], set[str]] = {}
    for split, subset, query, document, relevance in zip(*columns, strict=True):
        if relevance > 0:
            found.setdefault((split, subset, query), set()).add(document)
    return {place: frozenset(documents) for place, documents in found.items()}


def sentence_clusters(parts: list[Part]) -> list[Part]:
    """Returns the parts with the hashes in their arrays `CLUSTER` as small numbers; without them if no text repeats."""
    if not any(CLUSTER in arrays for *_, arrays in parts):
        return parts
    hashes = np.unique(np.concatenate([arrays[CLUSTER].ravel() for *_, arrays in parts]))
    repeat = len(hashes) < sum(arrays[CLUSTER].size for *_, arrays in parts)
    return [
        (
            split,
            subset,
            ids,
            {
                name: np.searchsorted(hashes, array) if name == CLUSTER else array
                for name, array in arrays.items()
                if repeat or name != CLUSTER
            },
        )
        for split, subset, ids, arrays in parts
    ]
