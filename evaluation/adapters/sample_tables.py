"""What a score can be recomputed from, as tables: per-query metrics, or gold and prediction an example.

Takes mteb's own predictions (its `prediction_folder`) and the task's gold columns; knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from mteb._evaluators import retrieval_metrics
from mteb.abstasks.abstask import AbsTask, _multilabel_subsampling

from evaluation.adapters.embedding import RankedRun
from evaluation.tasks.loading import subset_parts
from evaluation.tasks.types import TASK_CLASS_BY_TYPE

RUN_DEPTH, TEXTS_DEPTH = 100, 10


def place_columns(split: str, subset: str, n: int) -> dict[str, Any]:
    """The columns that every table begins with."""
    return {"split": [split] * n, "subset": [subset] * n}


def per_query_table(split: str, subset: str, scores: Mapping[str, Mapping[str, float]]) -> pa.Table:
    """Query id and one column a metric, as pytrec_eval gives them."""
    names = list(next(iter(scores.values()), {}))
    columns: dict[str, Any] = {**place_columns(split, subset, len(scores)), "query_id": list(scores)}
    for name in names:
        columns[name] = [float(values[name]) for values in scores.values()]
    return pa.table(columns)


@contextmanager
def watching_p_mrr() -> Iterator[dict[str, float]]:
    """While a task of mteb's computes its mean p-MRR: the value of each pair of queries, by their common id.

    mteb hands out the mean only; each pair's value is that same function's of the pair alone.
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
    """Per-query scores with a pair's p-MRR at its changed query, and NaN at all others; as they are without pairs."""
    if not of_pairs:
        return scores
    values = {f"{query}-changed": value for query, value in of_pairs.items()}
    return {query: {**metrics, "p-MRR": values.get(query, float("nan"))} for query, metrics in scores.items()}


def run_table(split: str, subset: str, run: RankedRun) -> pa.Table:
    """A TREC run to depth 100: query id, document id, rank from 1, score."""
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
    return pa.table({**place_columns(split, subset, len(queries)), **columns})


def texts_table(split: str, subset: str, queries: Mapping[str, str], documents: Mapping[str, str]) -> pa.Table:
    """Texts of queries and of the documents that `shown_documents` names, without prefix."""
    kinds = ["query"] * len(queries) + ["document"] * len(documents)
    texts = [encodable(text) for text in [*queries.values(), *documents.values()]]
    return pa.table(
        {**place_columns(split, subset, len(kinds)), "kind": kinds, "id": [*queries, *documents], "text": texts}
    )


def qrels_table(split: str, subset: str, qrels: Mapping[str, Mapping[str, int]], queries: Iterable[str]) -> pa.Table:
    """The judgements of the scored queries: query id, document id, grade."""
    rows = [(query, document, int(grade)) for query in queries for document, grade in qrels.get(query, {}).items()]
    names = {
        **place_columns(split, subset, len(rows)),
        "query_id": [r[0] for r in rows],
        "corpus_id": [r[1] for r in rows],
    }
    columns = {name: pa.array(values, pa.string()) for name, values in names.items()}
    return pa.table({**columns, "relevance": pa.array([row[2] for row in rows], pa.int32())})


def shown_documents(run: RankedRun, qrels: Mapping[str, Mapping[str, int]], queries: Iterable[str]) -> set[str]:
    """Documents whose text explains a ranking: the top of each query, and the best judged ones, found or not."""
    shown: set[str] = set()
    for query in queries:
        shown.update(run.document_ids.get(query, [])[:TEXTS_DEPTH])
        relevant = [(-grade, document) for document, grade in qrels.get(query, {}).items() if grade > 0]
        shown.update(document for _, document in sorted(relevant)[:TEXTS_DEPTH])
    return shown


def encodable(text: str) -> str:
    """Lone surrogates as U+FFFD, so that UTF-8 can hold the text."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def example_table(task: AbsTask, split: str, subset: str, predictions: Any, scores: Mapping[str, Any]) -> pa.Table:
    """Gold and prediction of each example of a task that is not retrieval.

    Args:
        task: With its data loaded.
        split: The split that was scored.
        subset: The subset that was scored.
        predictions: What mteb saved for this split and subset; None for types without predictions.
        scores: mteb's scores of this split and subset.
    """
    data = subset_parts(task, subset)[split]
    match TASK_CLASS_BY_TYPE[task.metadata.type]:
        case "AbsTaskClassification" | "AbsTaskRegression":
            columns = _classification(task, data, predictions)
        case "AbsTaskMultilabelClassification":
            columns = _multilabel(task, data, split, predictions)
        case "AbsTaskSTS":
            columns = {"gold": [float(score) for score in data["score"][:]], **_pair_scores(predictions)}
        case "AbsTaskPairClassification":
            labels = data[task.label_column_name][:]  # type: ignore[attr-defined]
            gold = labels[0] if len(labels) == 1 and isinstance(labels[0], list) else labels
            columns = {"gold": [int(label) for label in gold], **_pair_scores(predictions)}
        case "AbsTaskClustering":
            columns = _clustering(scores)
        case "AbsTaskSummarization":
            columns = _summarization(predictions)
        case "AbsTaskBitextMining":
            columns = _bitext(data, predictions)
        case other:
            raise AssertionError(f"no samples for {other}")
    n = len(next(iter(columns.values())))
    if "example" not in columns:
        columns = {"example": list(range(n)), **columns}
    return pa.table({**place_columns(split, subset, n), **columns})


def _pair_scores(predictions: Mapping[str, Sequence[float] | None]) -> dict[str, Any]:
    return {name: list(values) for name, values in predictions.items() if values is not None}


def _classification(task: Any, data: Any, predictions: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """One row an experiment and example; in cross-validation an experiment is a fold with its own examples."""
    gold = data[task.label_column_name][:]
    rows: list[Sequence[int]] = [range(len(gold))] * len(predictions)
    if task.is_cross_validation:
        from sklearn.model_selection import KFold

        folds = KFold(n_splits=task.n_splits, shuffle=True, random_state=task.seed)
        rows = [held_out.tolist() for _, held_out in folds.split(range(len(gold)))]
    return {
        "experiment": [number for number, row in enumerate(rows) for _ in row],
        "example": [example for row in rows for example in row],
        "gold": [gold[example] for row in rows for example in row],
        "prediction": [value for values in predictions for value in values],
    }


def _multilabel(task: Any, data: Any, split: str, predictions: Sequence[Sequence[Sequence[int]]]) -> dict[str, Any]:
    """Binary label vectors; examples are those that mteb scored (it cuts large splits, with its seed)."""
    from sklearn.preprocessing import MultiLabelBinarizer

    if task.max_eval_samples is not None and len(data) > task.max_eval_samples:
        label = task.label_column_name
        cut = _multilabel_subsampling({split: data}, task.seed, [split], label, task.max_eval_samples)
        data = cut[split]
    gold = MultiLabelBinarizer().fit_transform(data[task.label_column_name][:]).tolist()
    n = len(gold)
    return {
        "experiment": [number for number in range(len(predictions)) for _ in range(n)],
        "example": list(range(n)) * len(predictions),
        "gold": gold * len(predictions),
        "prediction": [list(values) for experiment in predictions for values in experiment],
    }


def _clustering(scores: Mapping[str, Any]) -> dict[str, Any]:
    """V-measure of each experiment (or legacy set): what the mean is made of."""
    measures = scores["v_measures"]
    by_level = measures if isinstance(measures, Mapping) else {"Level 0": measures}
    return {
        "level": [level for level, values in by_level.items() for _ in values],
        "example": [number for values in by_level.values() for number in range(len(values))],
        "v_measure": [float(value) for values in by_level.values() for value in values],
    }


def _summarization(predictions: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, Any]:
    """One row a machine summary: the text it belongs to, human score and similarities."""
    lengths = [len(values) for values in predictions["human_scores"]]
    columns: dict[str, Any] = {"example": [text for text, n in enumerate(lengths) for _ in range(n)]}
    for name, values in predictions.items():
        columns[name] = [float(value) for text in values for value in text]
    return columns


def _bitext(data: Any, predictions: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    """For each first sentence the position of its translation, and of the nearest neighbour."""
    pairs = next(iter(predictions.values())) if isinstance(predictions, Mapping) else predictions
    columns = getattr(data, "column_names", None) or list(data)
    gold = [int(pair[1]) for pair in data["gold"]] if "gold" in columns else list(range(len(pairs)))
    return {
        "gold": gold[: len(pairs)],
        "prediction": [int(pair["corpus_id"]) for pair in pairs],
        "score": np.asarray([pair["score"] for pair in pairs], np.float64),
    }
