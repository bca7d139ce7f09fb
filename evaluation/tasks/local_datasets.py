"""Turns local data into datasets with the columns that mteb's task classes read, and puts them into a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict
from datasets.fingerprint import generate_random_fingerprint
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.clustering import AbsTaskClustering
from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData

from evaluation.tasks.local.folders import LocalData, RetrievalSplit, TableSplit
from evaluation.tasks.types import TASK_CLASS_BY_TYPE

_BLOCK = 16_384
"""Rows that are converted together."""


class NewTask:
    """Marks the classes of tasks that mteb does not know."""


def place_local(task: AbsTask, data: LocalData) -> None:
    """Puts local data where the class's dataset_transform would have left it, in the class's final columns."""
    subsets = task.hf_subsets
    if len(data.subsets) == 1 and len(subsets) == 1:
        by_subset = {subsets[0]: next(iter(data.subsets.values()))}
    else:
        by_subset = {name: data.subsets[name] for name in subsets}
    if isinstance(task, AbsTaskRetrieval):
        task.dataset = {
            subset: {split: retrieval_data(part) for split, part in splits.items() if isinstance(part, RetrievalSplit)}
            for subset, splits in by_subset.items()
        }
    else:
        by_subset = {name: _two_classes_numbered(task, splits) for name, splits in by_subset.items()}
        placed = {
            subset: DatasetDict(
                {split: _table(task, part) for split, part in splits.items() if isinstance(part, TableSplit)}
            )
            for subset, splits in by_subset.items()
        }
        task.dataset = placed if task.metadata.is_multilingual else next(iter(placed.values()))
    task.data_loaded = True


def left_out_rows(task: AbsTask, data: LocalData) -> dict[str, int]:
    """Counts rows that mteb does not score: in its `_evaluate_clustering_bootstrapped` the label -1 means none."""
    if not isinstance(task, AbsTaskClustering):
        return {}
    tables = [
        part.columns for parts in data.subsets.values() for part in parts.values() if isinstance(part, TableSplit)
    ]
    rows = [label for columns in tables for label in columns.get("label") or columns["labels"]]
    n_unlabelled = sum(row.count(-1) if isinstance(row, list) else row == -1 for row in rows)
    return {"labels -1, which mteb leaves out": n_unlabelled} if n_unlabelled else {}


def _two_classes_numbered(
    task: AbsTask, splits: dict[str, RetrievalSplit | TableSplit]
) -> dict[str, RetrievalSplit | TableSplit]:
    """Numbers two class names 0 and 1, in their order; in a new task also two other numbers.

    mteb's average precision of two classes takes class 1 as the positive one (`_calculate_scores`), and fails where
    there is none.
    """
    parts = {name: part for name, part in splits.items() if isinstance(part, TableSplit)}
    if TASK_CLASS_BY_TYPE.get(task.metadata.type) != "AbsTaskClassification":
        return splits
    classes = sorted({label for part in parts.values() for label in part.columns["label"]})
    if len(classes) > 2 or not (isinstance(classes[0], str) or isinstance(task, NewTask)):
        return splits
    return {
        name: TableSplit({**part.columns, "label": [classes.index(label) for label in part.columns["label"]]})
        for name, part in parts.items()
    }


def retrieval_data(part: RetrievalSplit) -> RetrievalSplitData:
    """Returns a split in the columns of mteb's retrieval tasks."""
    queries: dict[str, list[Any]] = {"id": part.query_ids, "text": part.query_texts}
    if part.instructions is not None:
        queries["instruction"] = [part.instructions.get(query) for query in part.query_ids]
    corpus = {"id": _strings(part.corpus_ids), "title": _strings(part.titles), "text": _strings(part.texts)}
    return RetrievalSplitData(
        # `from_dict`, and a fingerprint of the content, would hold every text several times more
        corpus=Dataset(pa.table(corpus), fingerprint=generate_random_fingerprint()),
        queries=Dataset.from_dict(queries),
        relevant_docs={query: dict(judged) for query, judged in part.qrels.items()},
        top_ranked=part.top_ranked,
    )


def _strings(values: list[str]) -> pa.ChunkedArray:
    """Converts block by block: a whole column would double its room again and again, which Arrow's pool then keeps."""
    starts = range(0, len(values), _BLOCK)
    return pa.chunked_array([pa.array(values[at : at + _BLOCK], pa.string()) for at in starts], pa.string())


def _table(task: AbsTask, part: TableSplit) -> Dataset:
    columns = part.columns
    if isinstance(task, AbsTaskClustering | AbsTaskClusteringLegacy):
        return Dataset.from_dict(_clustering_columns(task, columns))
    names = _column_names(task)
    named = {names.get(name, name): values for name, values in columns.items()}
    return Dataset.from_dict(named)


def _column_names(task: AbsTask) -> dict[str, str]:
    """Returns documented column -> the column that the task's class reads."""
    match TASK_CLASS_BY_TYPE.get(task.metadata.type):
        case "AbsTaskClassification" | "AbsTaskMultilabelClassification":
            return {"text": task.input_column_name, "label": task.label_column_name}  # type: ignore[attr-defined]
        case "AbsTaskRegression":
            return {"text": task.input_column_name, "value": task.label_column_name}  # type: ignore[attr-defined]
        case "AbsTaskSTS":
            first, second = task.column_names  # type: ignore[attr-defined]
            return {"sentence1": first, "sentence2": second}
        case "AbsTaskPairClassification":
            return {
                "sentence1": task.input1_column_name,  # type: ignore[attr-defined]
                "sentence2": task.input2_column_name,  # type: ignore[attr-defined]
                "label": task.label_column_name,  # type: ignore[attr-defined]
            }
        case "AbsTaskSummarization":
            return {
                "text": task.text_column_name,  # type: ignore[attr-defined]
                "human_summaries": task.human_summaries_column_name,  # type: ignore[attr-defined]
                "machine_summaries": task.machine_summaries_column_name,  # type: ignore[attr-defined]
                "relevance": task.relevancy_column_name,  # type: ignore[attr-defined]
            }
    return {}


def _clustering_columns(
    task: AbsTaskClustering | AbsTaskClusteringLegacy, columns: Mapping[str, list[Any]]
) -> dict[str, list[Any]]:
    """Returns rows of one text (new generation) or of one set of texts (legacy), from either form of the file."""
    text, label = str(task.input_column_name), task.label_column_name
    sets = "sentences" in columns
    if isinstance(task, AbsTaskClusteringLegacy):
        if sets:
            return {text: columns["sentences"], label: columns["labels"]}
        return {text: [columns["text"]], label: [columns["label"]]}
    if sets:
        return {
            text: [sentence for row in columns["sentences"] for sentence in row],
            label: [value for row in columns["labels"] for value in row],
        }
    return {text: columns["text"], label: columns["label"]}
