"""Our encoder and search in beir's interfaces: encode_queries and encode_corpus, and a retriever."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from beir.retrieval.evaluation import EvaluateRetrieval
from beir.retrieval.search.base import BaseSearch
from numpy.typing import NDArray

from evaluation.adapters.data_checks import check_judgements
from evaluation.adapters.embedding import RankedRun, TaskEmbedder, document_blocks
from evaluation.adapters.job_result import JobResult
from evaluation.adapters.sample_tables import per_query_table, qrels_table, run_table, shown_documents, texts_table
from evaluation.encoding.encoder import TextEncoder
from evaluation.jobs import Job
from evaluation.protocols import document_text
from evaluation.records.job_record import SubsetScores, Timing
from evaluation.tasks.beir_loading import BeirData, load_beir

K_VALUES = (1, 3, 5, 10, 20, 100, 1000)
_METRICS = {"NDCG": "ndcg", "MAP": "map", "Recall": "recall", "P": "precision"}
_TREC_METRICS = {"ndcg_cut", "map_cut", "recall", "P"}


class BeirModel:
    """What beir's own dense searches call; prefixes and normalising come from the protocol."""

    def __init__(self, embedder: TaskEmbedder) -> None:
        self._embedder = embedder

    def encode_queries(self, queries: Sequence[str], batch_size: int = 0, **kwargs: Any) -> NDArray[np.float32]:
        """(Q, D) float32; beir's batch size is not used, batches follow our token budget."""
        return self._embedder.embed(list(queries), "query")

    def encode_corpus(
        self, corpus: Sequence[Mapping[str, str]] | Mapping[str, Sequence[str]], batch_size: int = 0, **kwargs: Any
    ) -> NDArray[np.float32]:
        """(N, D) float32 of documents with title and text, as a list of mappings or a mapping of lists."""
        if isinstance(corpus, Mapping):
            pairs = list(zip(corpus.get("title") or [""] * len(corpus["text"]), corpus["text"], strict=True))
        else:
            pairs = [(document.get("title", ""), document["text"]) for document in corpus]
        join = self._embedder.rules.join_title
        return self._embedder.embed([document_text(title, text, join_title=join) for title, text in pairs], "passage")


class BeirSearch(BaseSearch):  # type: ignore[misc]  # beir ships no types
    """Our exact search as a beir retriever; keeps the ranking of its last search in `run`."""

    def __init__(self, embedder: TaskEmbedder) -> None:
        self._embedder = embedder
        self.run = RankedRun()

    def search(
        self,
        corpus: Mapping[str, Mapping[str, str]],
        queries: Mapping[str, str],
        top_k: int,
        score_function: str | None = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """query id -> document id -> score. The similarity is the checkpoint's, whatever `score_function` says."""
        join = self._embedder.rules.join_title
        texts = [document_text(doc.get("title"), doc["text"], join_title=join) for doc in corpus.values()]
        vectors = self._embedder.embed(list(queries.values()), "query")
        blocks = document_blocks(list(corpus), texts)
        self.run = self._embedder.search(list(queries), vectors, blocks, top_k)
        return self.run.as_results()

    def encode(self, *args: Any, **kwargs: Any) -> None:
        """beir's pickled embedding files are not written."""
        raise NotImplementedError("embeddings are searched as they are encoded; use search")

    def search_from_files(self, *args: Any, **kwargs: Any) -> dict[str, dict[str, float]]:
        """beir's pickled embedding files are not read."""
        raise NotImplementedError("pickled embeddings are not read; use search")


class BeirScores(NamedTuple):
    """Means of beir's metrics in mteb's keys, and each query's values in trec_eval's."""

    means: dict[str, float]
    per_query: dict[str, dict[str, float]]


def evaluate_beir(
    qrels: dict[str, dict[str, int]], results: dict[str, dict[str, float]], *, ignore_identical_ids: bool
) -> BeirScores:
    """Score a ranking with beir's EvaluateRetrieval (which rounds to five decimals) and pytrec_eval a query.

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


def run_beir_job(job: Job, encoder: TextEncoder, *, store_texts: bool) -> JobResult:
    """Load a BEIR dataset, search it, score it with beir.

    Raises:
        EvaluationError: Data, vectors or an audit that must not become a score.
    """
    started = time.perf_counter()
    embedder = TaskEmbedder(encoder, job.rules)
    encoding_before, tokens_before = encoder.encoding_time_s, encoder.tokens_encoded
    scores: dict[str, tuple[SubsetScores, ...]] = {}
    tables: dict[str, list[pa.Table]] = {}
    counts: Counter[str] = Counter()
    loading_s = 0.0
    for split in job.task.splits:
        before = time.perf_counter()
        data = load_beir(job.task, split, job.limit)
        loading_s += time.perf_counter() - before
        where = f"{job.task.name}, split {split!r}"
        counts |= Counter(data.counts)  # a folder's, the same for each of its splits
        counts += check_judgements(data.queries, data.qrels, len(data.corpus), where)
        search = BeirSearch(embedder)
        results = EvaluateRetrieval(search, k_values=list(K_VALUES)).retrieve(data.corpus, data.queries)
        found = evaluate_beir(data.qrels, results, ignore_identical_ids=bool(job.rules.ignore_identical_ids))
        main_score = found.means["ndcg_at_10"]
        scores[split] = (SubsetScores(subset="default", main_score=main_score, metrics=dict(found.means)),)
        for name, table in _split_tables(split, found, search.run, data, store_texts=store_texts).items():
            tables.setdefault(name, []).append(table)
    total = time.perf_counter() - started
    encoding_s = encoder.encoding_time_s - encoding_before
    return JobResult(
        scores=scores,
        audit=embedder.audit.finish(),
        warnings=embedder.audit.warnings,
        counts=dict(+counts),
        timing=Timing(
            total_s=total,
            loading_s=loading_s,
            encoding_s=encoding_s,
            scoring_s=total - loading_s - encoding_s,
            tokens=encoder.tokens_encoded - tokens_before,
        ),
        tables={name: pa.concat_tables(parts) for name, parts in tables.items()},
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
