"""Queries whose relevant documents are the same are one cluster; units files keep it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from evaluation.analysis.statistics.clusters import cluster_numbers
from evaluation.analysis.statistics.shared_documents import document_clusters
from evaluation.analysis.statistics.units import UnitPart, Units, units_from_bytes, units_to_bytes
from evaluation.errors import StoreError

IDS = ("q1", "q2", "q3", "q4")


def qrels(folder: Path, documents: list[tuple[str, str, int]]) -> Path:
    n = len(documents)
    columns = {"split": ["test"] * n, "subset": ["en"] * n}
    columns |= {name: [row[at] for row in documents] for at, name in enumerate(("query_id", "corpus_id", "relevance"))}
    parquet.write_table(pa.table(columns), folder / "qrels.parquet")
    return folder / "qrels.parquet"


def part() -> tuple[str, str, tuple[str, ...], dict[str, np.ndarray]]:
    return "test", "en", IDS, {"value": np.arange(4.0)}


def test_queries_with_the_same_relevant_documents_share_a_cluster(tmp_path: Path) -> None:
    """q1 and q3 ask for d1 alone (an irrelevant judgement aside), q2 for d1 and d2, q4 has none."""
    file = qrels(tmp_path, [("q1", "d1", 1), ("q2", "d1", 1), ("q2", "d2", 1), ("q3", "d1", 2), ("q3", "d9", 0)])
    ((split, subset, ids, arrays),) = document_clusters(file, [part()])
    assert arrays["cluster"].tolist() == [0, 1, 0, 2]
    units = Units("T", "Retrieval", "m", "mean", "query", (UnitPart(split, subset, ids, arrays),))
    (numbers,) = cluster_numbers(units_from_bytes(units_to_bytes(units)))
    assert len(set(numbers.tolist())) == 3 and numbers[0] == numbers[2]


def test_queries_that_share_nothing_and_runs_without_judgements_stay_as_they_are(tmp_path: Path) -> None:
    file = qrels(tmp_path, [(query, f"d-{query}", 1) for query in IDS])
    parts = [part()]
    assert document_clusters(file, parts) is parts
    assert document_clusters(None, parts) is parts


def test_damaged_judgements_are_named(tmp_path: Path) -> None:
    file = tmp_path / "qrels.parquet"
    file.write_bytes(b"no parquet")
    with pytest.raises(StoreError, match="qrels.parquet cannot be read"):
        document_clusters(file, [part()])
