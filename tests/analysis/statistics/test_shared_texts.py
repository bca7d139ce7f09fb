"""Queries whose relevant documents are the same are one cluster; units files keep it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from evaluation.analysis.statistics.clusters import clusters_of
from evaluation.analysis.statistics.shared_texts import (
    RelevantDocuments,
    document_clusters,
    relevant_documents,
    sentence_clusters,
)
from evaluation.analysis.statistics.units import UnitPart, Units, units_from_bytes, units_to_bytes
from evaluation.errors import StoreError

IDS = ("q1", "q2", "q3", "q4")


def qrels(folder: Path, documents: list[tuple[str, str, int]]) -> Path:
    n = len(documents)
    columns = {"split": ["test"] * n, "subset": ["en"] * n}
    columns |= {name: [row[at] for row in documents] for at, name in enumerate(("query_id", "corpus_id", "relevance"))}
    parquet.write_table(pa.table(columns), folder / "qrels.parquet")
    return folder / "qrels.parquet"


def read(file: Path) -> RelevantDocuments:
    return relevant_documents(file.read_bytes(), file)


def part() -> tuple[str, str, tuple[str, ...], dict[str, np.ndarray]]:
    return "test", "en", IDS, {"value": np.arange(4.0)}


def test_queries_with_the_same_relevant_documents_share_a_cluster(tmp_path: Path) -> None:
    """q1 and q3 ask for d1 alone (an irrelevant judgement aside), q2 for d1 and d2, q4 has none."""
    file = qrels(tmp_path, [("q1", "d1", 1), ("q2", "d1", 1), ("q2", "d2", 1), ("q3", "d1", 2), ("q3", "d9", 0)])
    split, subset, ids, arrays = part()
    (cluster,) = document_clusters(read(file), ((split, subset, ids),)) or []
    arrays["cluster"] = cluster
    assert arrays["cluster"].tolist() == [0, 1, 0, 2]
    units = Units("T", "Retrieval", "m", "mean", "query", (UnitPart(split, subset, ids, arrays),))
    (numbers,) = clusters_of(units_from_bytes(units_to_bytes(units))).numbers
    assert len(set(numbers.tolist())) == 3 and numbers[0] == numbers[2]


def test_queries_that_share_nothing_and_runs_without_judgements_stay_as_they_are(tmp_path: Path) -> None:
    file = qrels(tmp_path, [(query, f"d-{query}", 1) for query in IDS])
    places = (part()[:3],)
    assert document_clusters(read(file), places) is None
    assert document_clusters({}, places) is None


def test_damaged_judgements_are_named(tmp_path: Path) -> None:
    file = tmp_path / "qrels.parquet"
    file.write_bytes(b"no parquet")
    with pytest.raises(StoreError, match="qrels.parquet cannot be read"):
        read(file)


def pairs(*sentences: tuple[int, int]) -> UnitPart:
    (part,) = sentence_clusters(
        [("test", "default", tuple(map(str, range(len(sentences)))), {"cluster": np.array(sentences).T})]
    )
    return UnitPart(*part)


def clusters(part: UnitPart) -> list[int]:
    return clusters_of(Units("T", "STS", "m", "mean", "example", (part,))).numbers[0].tolist()


def test_pairs_that_share_a_sentence_are_one_cluster_through_others_too() -> None:
    """Pairs 0 and 1 share sentence 11, 1 and 3 share 12; pair 2 stands alone."""
    assert clusters(pairs((10, 11), (11, 12), (20, 21), (30, 12))) == [0, 0, 1, 0]


def test_pairs_without_a_shared_sentence_have_no_clusters_stored() -> None:
    assert "cluster" not in pairs((10, 11), (12, 13)).arrays


def test_sentence_in_two_subsets_joins_their_pairs() -> None:
    parts = [
        ("test", name, ("a", "b"), {"cluster": np.array([[1, own], [3, 4]])}) for name, own in (("x", 2), ("y", 9))
    ]
    made = tuple(UnitPart(*part) for part in sentence_clusters(parts))
    first, second = clusters_of(Units("T", "STS", "m", "mean", "example", made)).numbers
    assert first[0] == second[0] and first[1] == second[1], "the ids a and b are the same, and so is a sentence"


def test_chain_that_joins_all_pairs_is_cut_into_pairs_with_the_same_first_sentence() -> None:
    """Twenty first sentences with two pairs each, chained by their second ones: one cluster would say nothing."""
    chain = pairs(*((at // 2, 100 + (at + 1) // 2) for at in range(40)))
    assert len(set(clusters(chain))) == 20
