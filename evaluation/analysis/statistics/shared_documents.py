"""Finds queries that are not independent because their relevant documents are the same, in a job's qrels.parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import StoreError

Part = tuple[str, str, tuple[str, ...], dict[str, NDArray[Any]]]
"""Split, subset, ids and arrays."""
CLUSTER: Final = "cluster"
"""Name of the array that numbers each unit's cluster: units with the same number are not independent."""


def document_clusters(qrels: Path | None, parts: list[Part]) -> list[Part]:
    """Returns the parts with an array "cluster" that numbers queries alike where their relevant documents agree.

    Where no two queries share them, or none are stored, the parts come back as they are.

    Args:
        qrels: split, subset, query_id, corpus_id and relevance of each judgement; None where there is no such file.
        parts: Of queries.

    Raises:
        StoreError: The file cannot be read.
    """
    if qrels is None:
        return parts
    documents = _relevant_documents(qrels)
    numbers: dict[object, int] = {}
    found = []
    for split, subset, ids, arrays in parts:
        names = [documents.get((split, subset, id_)) or (split, subset, id_) for id_ in ids]
        cluster = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
        found.append((split, subset, ids, {**arrays, CLUSTER: cluster}))
    n_units = sum(len(ids) for _, _, ids, _ in parts)
    return found if len(numbers) < n_units else parts


def _relevant_documents(qrels: Path) -> dict[tuple[str, str, str], frozenset[str]]:
    """Split, subset and query -> ids of its relevant documents."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_table(qrels, use_threads=False).to_pydict()
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{qrels} cannot be read: {error}.") from error
    found: dict[tuple[str, str, str], set[str]] = {}
    names = ("split", "subset", "query_id", "corpus_id", "relevance")
    for split, subset, query, document, relevance in zip(*(columns[name] for name in names), strict=True):
        if relevance > 0:
            found.setdefault((split, subset, query), set()).add(document)
    return {place: frozenset(documents) for place, documents in found.items()}
