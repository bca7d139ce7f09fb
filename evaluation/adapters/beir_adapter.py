"""Runs one job through beir: our search as its retriever, beir's own evaluation of the ranking."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
from beir.retrieval.evaluation import EvaluateRetrieval
from beir.retrieval.search.base import BaseSearch

from evaluation.adapters.bm25 import Bm25Ranker, rank_beir
from evaluation.adapters.data_checks import check_judgements
from evaluation.adapters.embedding import TaskEmbedder
from evaluation.adapters.job_result import JobResult
from evaluation.adapters.ranking_tables import per_query_table, qrels_table, run_table, shown_documents, texts_table
from evaluation.adapters.rankings import RankedRun
from evaluation.adapters.stored_vectors import within_candidates
from evaluation.adapters.task_search import TaskSearch, document_blocks
from evaluation.encoding.encoder import TextEncoder
from evaluation.jobs import Job
from evaluation.protocols import document_text
from evaluation.records.job_record import SubsetScores, Timing
from evaluation.tasks.beir_loading import BeirData, load_beir
from evaluation.tasks.loaded_rows import check_rows, hash_rows

K_VALUES = (1, 3, 5, 10, 20, 100, 1000)
_METRICS = {"NDCG": "ndcg", "MAP": "map", "Recall": "recall", "P": "precision"}
_TREC_METRICS = {"ndcg_cut", "map_cut", "recall", "P"}


class BeirSearch(BaseSearch):  # type: ignore[misc]  # beir ships no types
    """Our exact search as a beir retriever; `run` keeps the ranking of its last search."""

    def __init__(self, embedder: TaskEmbedder | Bm25Ranker, split: str) -> None:
        self._embedder, self._split = embedder, split
        self.run = RankedRun()

    def search(
        self,
        corpus: Mapping[str, Mapping[str, str]],
        queries: Mapping[str, str],
        top_k: int,
        score_function: str | None = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """Returns query id -> document id -> score, by the checkpoint's similarity, whatever `score_function` says."""
        if isinstance(self._embedder, Bm25Ranker):
            found = rank_beir(self._embedder, corpus, queries, self._split, top_k)
            self.run = self._embedder.runs[self._split, "default"]
            return found
        join = self._embedder.rules.join_title
        texts = [document_text(doc.get("title"), doc["text"], join_title=join) for doc in corpus.values()]
        vectors = self._embedder.embed(list(queries.values()), "query")
        blocks = document_blocks(list(corpus), texts)
        self.run = TaskSearch(self._embedder).search(list(queries), vectors, blocks, top_k)
        return self.run.as_results()

    def encode(self, *args: Any, **kwargs: Any) -> None:
        """Refuses: beir's pickled embedding files are not written."""
        raise NotImplementedError("embeddings are searched as they are encoded; use search")

    def search_from_files(self, *args: Any, **kwargs: Any) -> dict[str, dict[str, float]]:
        """Refuses: beir's pickled embedding files are not read."""
        raise NotImplementedError("pickled embeddings are not read; use search")


class BeirScores(NamedTuple):
    """Means of beir's metrics under mteb's keys, and each query's values under trec_eval's."""

    means: dict[str, float]
    per_query: dict[str, dict[str, float]]


def evaluate_beir(
    qrels: dict[str, dict[str, int]], results: dict[str, dict[str, float]], *, ignore_identical_ids: bool
) -> BeirScores:
    """Scores a ranking: means by beir's EvaluateRetrieval, which rounds to five decimals, queries by pytrec_eval.

    Args:
        qrels: query id -> document id -> grade.
        results: query id -> document id -> score; changed in place where identical ids are dropped.
        ignore_identical_ids: Always passed on: beir's own default drops documents that have the query's id.
    """
    import pytrec_eval

    groups = EvaluateRetrieval.evaluate(qrels, results, list(K_VALUES), ignore_identical_ids=ignore_identical_ids)
    means: dict[str, float] = {}
    for group in groups:
        for key, value in group.items():
            name, _, k = key.partition("@")
            means[f"{_METRICS[name]}_at_{k}"] = float(value)
    cuts = ",".join(map(str, K_VALUES))
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {f"{metric}.{cuts}" for metric in _TREC_METRICS})
    return BeirScores(means, evaluator.evaluate(results))


def run_beir_job(job: Job, encoder: TextEncoder | Bm25Ranker, *, store_texts: bool) -> JobResult:
    """Loads a BEIR dataset, searches it, and scores the ranking with beir.

    Args:
        encoder: What turns texts into vectors, or BM25 made for this job.
        store_texts: Keeps the texts of judged queries and their best documents.

    Raises:
        EvaluationError: Data, vectors or an audit that must not become a score.
    """
    started = time.perf_counter()
    embedder = encoder if isinstance(encoder, Bm25Ranker) else TaskEmbedder(encoder, job.rules, job.model.form)
    encoding_before, tokens_before = encoder.encoding_time_s, encoder.tokens_encoded
    scores: dict[str, tuple[SubsetScores, ...]] = {}
    tables: dict[str, list[pa.Table]] = {}
    counts: Counter[str] = Counter()
    rows: dict[str, str] = {}
    loading_s = 0.0
    for split in job.task.splits:
        before = time.perf_counter()
        data = load_beir(job.task, split, job.limit)
        rows[split] = hash_rows(data._asdict())
        loading_s += time.perf_counter() - before
        where = f"{job.task.name}, split {split!r}"
        counts |= Counter(data.counts)  # of the whole folder, so the same for each of its splits
        counts += check_judgements(data.queries, data.qrels, len(data.corpus), where)
        search = BeirSearch(embedder, split)
        results = EvaluateRetrieval(search, k_values=list(K_VALUES)).retrieve(data.corpus, data.queries)
        found = evaluate_beir(data.qrels, results, ignore_identical_ids=bool(job.rules.ignore_identical_ids))
        main_score = found.means["ndcg_at_10"]
        scores[split] = (
            SubsetScores(
                subset="default", main_score=main_score, metrics=within_candidates(found.means, job.model.form)
            ),
        )
        for name, table in _split_tables(split, found, search.run, data, store_texts=store_texts).items():
            tables.setdefault(name, []).append(table)
    content = check_rows(rows, job.task, job.limit, job.seed)
    total = time.perf_counter() - started
    encoding_s = encoder.encoding_time_s - encoding_before
    return JobResult(
        scores=scores,
        audit=embedder.audit.finish(),
        warnings=embedder.warnings,
        counts=dict(counts + embedder.counts),
        timing=Timing(
            total_s=total,
            loading_s=loading_s,
            encoding_s=encoding_s,
            scoring_s=total - loading_s - encoding_s,
            tokens=encoder.tokens_encoded - tokens_before,
        ),
        tables={name: pa.concat_tables(parts) for name, parts in tables.items()},
        dataset_content=content,
        words=encoder.settings if isinstance(encoder, Bm25Ranker) else None,
        vectors=embedder.stored,
    )


def _split_tables(
    split: str, found: BeirScores, run: RankedRun, data: BeirData, *, store_texts: bool
) -> dict[str, pa.Table]:
    tables = {
        "samples": per_query_table(split, "default", found.per_query),
        "run": run_table(split, "default", run),
        "qrels": qrels_table(split, "default", data.qrels, data.queries),
    }
    if store_texts:
        shown = shown_documents(run, data.qrels, data.queries)
        documents = {id_: f"{doc['title']} {doc['text']}".strip() for id_, doc in data.corpus.items() if id_ in shown}
        tables["texts"] = texts_table(split, "default", data.queries, documents)
    return tables
