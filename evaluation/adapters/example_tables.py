"""Builds the tables of tasks other than retrieval: gold and prediction per example, from mteb's own predictions.

Takes what mteb saves in its `prediction_folder` and the task's gold columns; knows no model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from mteb.abstasks.abstask import AbsTask, _multilabel_subsampling

from evaluation.adapters.mteb_tables import flat
from evaluation.adapters.ranking_tables import split_columns
from evaluation.records.parquet_tables import SENTENCE_HASHES
from evaluation.tasks.columns import subset_parts
from evaluation.tasks.types import TASK_CLASS_BY_TYPE


def example_table(task: AbsTask, split: str, subset: str, predictions: Any, scores: Mapping[str, Any]) -> pa.Table:
    """Returns gold and prediction of each example of a task that is not retrieval.

    Args:
        task: With its data loaded.
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
            columns |= _sentence_hashes(data, task.column_names)  # type: ignore[attr-defined]
        case "AbsTaskPairClassification":
            gold = flat(data[task.label_column_name][:])  # type: ignore[attr-defined]
            columns = {"gold": [int(label) for label in gold], **_pair_scores(predictions)}
            columns |= _sentence_hashes(data, (task.input1_column_name, task.input2_column_name))  # type: ignore[attr-defined]
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
    return pa.table({**split_columns(split, subset, n), **columns})


def _pair_scores(predictions: Mapping[str, Sequence[float] | None]) -> dict[str, Any]:
    return {name: list(values) for name, values in predictions.items() if values is not None}


def _sentence_hashes(data: Any, names: Sequence[str]) -> dict[str, list[int]]:
    """Returns a hash of each pair's sentences, by which pairs that share a sentence are known."""
    return {
        column: [
            int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), signed=True)
            for text in flat(data[name][:])
        ]
        for column, name in zip(SENTENCE_HASHES, names, strict=True)
    }


def _classification(task: Any, data: Any, predictions: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Returns a row per experiment and example; in cross-validation an experiment is a fold with its own examples."""
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
    """Returns binary label vectors of the examples that mteb scored; it samples large splits, with its seed."""
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
    """Returns the V-measure of each experiment, or legacy set, of which the score is the mean."""
    measures = scores["v_measures"]
    by_level = measures if isinstance(measures, Mapping) else {"Level 0": measures}
    return {
        "level": [level for level, values in by_level.items() for _ in values],
        "example": [number for values in by_level.values() for number in range(len(values))],
        "v_measure": [float(value) for values in by_level.values() for value in values],
    }


def _summarization(predictions: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, Any]:
    """Returns a row per machine summary: the text it belongs to, its human score and its similarities."""
    lengths = [len(values) for values in predictions["human_scores"]]
    columns: dict[str, Any] = {"example": [text for text, n in enumerate(lengths) for _ in range(n)]}
    for name, values in predictions.items():
        columns[name] = [float(value) for text in values for value in text]
    return columns


def _bitext(data: Any, predictions: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    """Returns the position of each first sentence's translation, and of its nearest neighbour."""
    pairs = next(iter(predictions.values())) if isinstance(predictions, Mapping) else predictions
    columns = getattr(data, "column_names", None) or list(data)
    gold = [int(pair[1]) for pair in data["gold"]] if "gold" in columns else list(range(len(pairs)))
    return {
        "gold": gold[: len(pairs)],
        "prediction": [int(pair["corpus_id"]) for pair in pairs],
        "score": np.asarray([pair["score"] for pair in pairs], np.float64),
    }
