"""What is stored beside a ranking: the judgements of its queries, and which documents' texts explain it."""

from __future__ import annotations

import numpy as np

from evaluation.adapters.ranking_tables import TEXTS_DEPTH, qrels_table, shown_documents
from evaluation.adapters.rankings import RankedRun

QRELS = {"q1": {"d1": 2, "d7": 0, "far": 1}, "q2": {"d2": 1}, "unasked": {"d3": 1}}


def test_judgements_of_asked_queries_are_kept_in_order() -> None:
    table = qrels_table("test", "default", QRELS, ["q2", "q1", "q3"])
    rows = list(zip(*(table[name].to_pylist() for name in ("query_id", "corpus_id", "relevance")), strict=True))
    assert rows == [("q2", "d2", 1), ("q1", "d1", 2), ("q1", "d7", 0), ("q1", "far", 1)]
    assert table["split"].to_pylist() == ["test"] * 4


def test_no_judgement_is_an_empty_table_of_the_same_columns() -> None:
    assert qrels_table("test", "default", {}, ["q1"]).schema.equals(
        qrels_table("test", "default", QRELS, ["q1"]).schema
    )


def test_texts_of_the_top_and_of_relevant_documents_are_shown() -> None:
    ranked = [f"d{number}" for number in range(30)]
    run = RankedRun({"q1": ranked}, {"q1": np.zeros(30, np.float32)})
    shown = shown_documents(run, QRELS, ["q1"])
    assert shown == {*ranked[:TEXTS_DEPTH], "far"}


def test_many_relevant_documents_are_cut_to_the_best() -> None:
    many = {"q1": {f"d{number:02}": 1 + (number == 40) for number in range(50)}}
    shown = shown_documents(RankedRun(), many, ["q1"])
    assert len(shown) == TEXTS_DEPTH
    assert "d40" in shown
