"""What a p-MRR can be recomputed from: the value of each pair of queries."""

from __future__ import annotations

import math

import pytest
from mteb._evaluators import retrieval_metrics

from evaluation.adapters.ranking_tables import per_query_table, watching_p_mrr, with_p_mrr

RESULTS = {  # of two topics with and without their changed instruction; d1 and d2 have become irrelevant
    "1-og": {"d1": 3.0, "d2": 2.0, "d3": 1.0},
    "1-changed": {"d3": 3.0, "d2": 2.0, "d1": 1.0},
    "2-og": {"d2": 3.0, "d1": 2.0, "d3": 1.0},
    "2-changed": {"d1": 3.0, "d2": 2.0, "d3": 1.0},
}
CHANGED = {"1": ["d1", "d2"], "2": ["d1"], "unknown": ["d3"]}
QRELS = {query: {"d3": 1} for query in RESULTS}


def test_p_mrr_of_each_pair_by_hand() -> None:
    """d1 falls from 1 to 3: 1 - 1/3; d2 stays: 0. In the second topic d1 rises from 2 to 1: 1/2 - 1."""
    with watching_p_mrr() as of_pairs:
        found = retrieval_metrics.evaluate_p_mrr_change(QRELS, RESULTS, CHANGED, [1])
    assert of_pairs == {"1": pytest.approx(1 / 3), "2": pytest.approx(-1 / 2)}
    assert found["p-MRR"] == pytest.approx(sum(of_pairs.values()) / 2)


def test_pairs_are_stored_at_their_changed_query() -> None:
    scores = with_p_mrr({query: {"ndcg_cut_10": 0.5} for query in RESULTS}, {"1": 0.25, "2": -0.5})
    values = per_query_table("test", "default", scores)["p-MRR"].to_pylist()
    assert [value for value in values if not math.isnan(value)] == [0.25, -0.5]
    assert math.isnan(values[0])


def test_tasks_without_pairs_are_stored_as_they_are() -> None:
    scores = {"q": {"ndcg_cut_10": 0.5}}
    assert with_p_mrr(scores, {}) is scores


def test_watching_ends_with_the_task() -> None:
    before = retrieval_metrics.calculate_pmrr
    with pytest.raises(ZeroDivisionError), watching_p_mrr():
        raise ZeroDivisionError
    assert retrieval_metrics.calculate_pmrr is before
