"""Builds the tables that a ranking's score can be recomputed from: per-query metrics, run, judgements and texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from mteb._evaluators import retrieval_metrics

from evaluation.adapters.rankings import RankedRun

RUN_DEPTH, TEXTS_DEPTH = 100, 10


def split_columns(split: str, subset: str, n: int) -> dict[str, Any]:
    """Returns the columns that every table begins with."""
    return {"split": [split] * n, "subset": [subset] * n}


def per_query_table(split: str, subset: str, scores: Mapping[str, Mapping[str, float]]) -> pa.Table:
    """Returns query id and one column per metric, as pytrec_eval gives them."""
    names = list(next(iter(scores.values()), {}))
    columns: dict[str, Any] = {**split_columns(split, subset, len(scores)), "query_id": list(scores)}
    for name in names:
        columns[name] = [float(values[name]) for values in scores.values()]
    return pa.table(columns)


@contextmanager
def watching_p_mrr() -> Iterator[dict[str, float]]:
    """Collects the p-MRR of each pair of queries, by their common id, while a task of mteb computes the mean.

    mteb returns only the mean; a pair's value is what the same function gives for the pair alone.
    """
    original = retrieval_metrics.calculate_pmrr
    of_pairs: dict[str, float] = {}

    def watch(before: Any, after: Any, changed: Mapping[str, list[str]]) -> float:
        for query, documents in changed.items():
            if f"{query}-og" in before and f"{query}-changed" in after and documents:
                of_pairs[query] = float(original(before, after, {query: documents}))
        return original(before, after, dict(changed))

    retrieval_metrics.calculate_pmrr = watch  # type: ignore[assignment]
    try:
        yield of_pairs
    finally:
        retrieval_metrics.calculate_pmrr = original


def with_p_mrr(
    scores: Mapping[str, Mapping[str, float]], of_pairs: Mapping[str, float]
) -> Mapping[str, Mapping[str, float]]:
    """Adds a pair's p-MRR to its changed query, and NaN to all others; returns the scores unchanged without pairs."""
    if not of_pairs:
        return scores
    values = {f"{query}-changed": value for query, value in of_pairs.items()}
    return {query: {**metrics, "p-MRR": values.get(query, float("nan"))} for query, metrics in scores.items()}


def run_table(split: str, subset: str, run: RankedRun) -> pa.Table:
    """Returns a TREC run to depth 100: query id, document id, rank from 1, score."""
    queries, documents, ranks, scores = [], [], [], []
    for query, ids in run.document_ids.items():
        top = ids[:RUN_DEPTH]
        queries += [query] * len(top)
        documents += top
        ranks += list(range(1, len(top) + 1))
        scores += run.scores[query][:RUN_DEPTH].tolist()
    columns = {
        "query_id": queries,
        "corpus_id": documents,
        "rank": pa.array(ranks, pa.int32()),
        "score": pa.array(scores, pa.float32()),
    }
    return pa.table({**split_columns(split, subset, len(queries)), **columns})


def texts_table(split: str, subset: str, queries: Mapping[str, str], documents: Mapping[str, str]) -> pa.Table:
    """Returns the texts of queries and of the documents that `shown_documents` names, without prefix."""
    kinds = ["query"] * len(queries) + ["document"] * len(documents)
    texts = [encodable(text) for text in [*queries.values(), *documents.values()]]
    return pa.table(
        {**split_columns(split, subset, len(kinds)), "kind": kinds, "id": [*queries, *documents], "text": texts}
    )


def qrels_table(split: str, subset: str, qrels: Mapping[str, Mapping[str, int]], queries: Iterable[str]) -> pa.Table:
    """Returns the judgements of the scored queries: query id, document id, grade."""
    rows = [(query, document, int(grade)) for query in queries for document, grade in qrels.get(query, {}).items()]
    names = {
        **split_columns(split, subset, len(rows)),
        "query_id": [r[0] for r in rows],
        "corpus_id": [r[1] for r in rows],
    }
    columns = {name: pa.array(values, pa.string()) for name, values in names.items()}
    return pa.table({**columns, "relevance": pa.array([row[2] for row in rows], pa.int32())})


def shown_documents(run: RankedRun, qrels: Mapping[str, Mapping[str, int]], queries: Iterable[str]) -> set[str]:
    """Returns the documents that explain a ranking: each query's top, and its best judged ones, found or not."""
    shown: set[str] = set()
    for query in queries:
        shown.update(run.document_ids.get(query, [])[:TEXTS_DEPTH])
        relevant = [(-grade, document) for document, grade in qrels.get(query, {}).items() if grade > 0]
        shown.update(document for _, document in sorted(relevant)[:TEXTS_DEPTH])
    return shown


def encodable(text: str) -> str:
    """Replaces lone surrogates by U+FFFD, so that UTF-8 can hold the text."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
