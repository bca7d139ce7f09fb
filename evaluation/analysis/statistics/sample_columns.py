"""Which columns of samples.parquet a job's metric needs, and how they become units. Reads no file."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.analysis.statistics.scorers import Statistic
from evaluation.analysis.statistics.shared_texts import CLUSTER
from evaluation.records.job_record import JobRecord
from evaluation.records.parquet_tables import SENTENCE_HASHES
from evaluation.tasks.types import TASK_CLASS_BY_TYPE

Kind = Literal["query", "example", "algorithm"]
Columns = Mapping[str, NDArray[Any]]
Parts = Iterator[tuple[str, tuple[str, ...], dict[str, NDArray[Any]]]]
"""A suffix of the subset's name, ids and arrays."""

_TREC_NAMES: Final = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}
"""mteb's names of metrics -> pytrec_eval's (mteb/_evaluators/retrieval_metrics.py)."""
_SIMILARITIES: Final = {
    "similarity": "similarity_scores",
    "cosine": "cosine_scores",
    "dot": "dot_scores",
    "manhattan": "manhattan_distances",
    "euclidean": "euclidean_distances",
}
_WITH_P_VALUES: Final = frozenset({"SummEval", "SummEvalFr"})
"""Tasks whose score averages correlations and their p-values, as mteb's DeprecatedSummarizationEvaluator does."""


class Reading(NamedTuple):
    """How a job's samples become units.

    Attributes:
        columns: Columns to read in addition to split and subset.
        read: Makes parts of the columns of one split and subset.
        texts: Columns that number the texts of each example, where they are stored.
    """

    statistic: Statistic
    kind: Kind
    columns: Sequence[str]
    read: Callable[[Columns], Parts]
    texts: Sequence[str] = ()


def reading_of(record: JobRecord, available: Sequence[str]) -> Reading | None:
    """Returns how a job's samples become units; None where the available columns do not hold its metric."""
    metric = record.metric
    match TASK_CLASS_BY_TYPE.get(record.type):
        case "AbsTaskRetrieval":
            return _of_queries(metric, available)
        case "AbsTaskSTS":
            return _of_scored_pairs(metric, available)
        case "AbsTaskPairClassification":
            return _of_pairs(metric, available)
        case "AbsTaskSummarization":
            return _of_summaries(metric, record.task, available)
        case "AbsTaskClustering" if metric == "v_measure":
            return Reading("mean", "algorithm", ("level", "example", "v_measure"), _clusterings)
        case str(name) if (name, metric) in _LABELLED:
            statistic, parts_of = _LABELLED[name, metric]
            several = [] if parts_of is _one_prediction else ["experiment"]
            columns = [*several, "example", "gold", "prediction"]
            return Reading(statistic, "example", columns, lambda c: parts_of(c, statistic))
    return None


# ------------------------------------------------------------------------------------------------------- retrieval


def _of_queries(metric: str, available: Sequence[str]) -> Reading | None:
    if metric in _GROUPED:
        column, of_group = _GROUPED[metric]
        return Reading("mean", "query", ("query_id", column), lambda c: _grouped_queries(c, column, of_group))
    if metric in available:
        return Reading("mean", "query", ("query_id", metric), lambda c: _queries(c, metric))
    name, _, k = "recall_at_1".partition("_at_") if metric == "accuracy" else metric.partition("_at_")
    column = f"{_TREC_NAMES.get(name)}_{k}"
    return Reading("rounded mean", "query", ("query_id", column), lambda c: _queries(c, column))


def _queries(columns: Columns, metric: str) -> Parts:
    values = columns[metric].astype(np.float64)
    scored = ~np.isnan(values)
    yield "", tuple(columns["query_id"][scored]), {"value": values[scored]}


def _grouped_queries(columns: Columns, metric: str, of_group: Callable[[list[float]], float]) -> Parts:
    """Queries whose ids agree up to the first underscore form one unit, as in mteb's NevIR and InstructIR."""
    groups: dict[str, list[float]] = {}
    for query, value in zip(columns["query_id"], columns[metric], strict=True):
        groups.setdefault(query.split("_")[0], []).append(float(value))
    yield "", tuple(groups), {"value": np.array([of_group(values) for values in groups.values()], np.float64)}


_GROUPED: Final[Mapping[str, tuple[str, Callable[[list[float]], float]]]] = {
    "paired_accuracy": ("recall_1", lambda recalls: float(all(recall == 1 for recall in recalls))),
    "robustness_at_10": ("ndcg_cut_10", lambda values: min(values)),
}
"""Metrics of groups of queries -> the column they use, and the value of a group."""


# ----------------------------------------------------------------------------------------------- pairs of sentences


def _of_scored_pairs(metric: str, available: Sequence[str]) -> Reading | None:
    name, _, measure = metric.rpartition("_")
    column = _SIMILARITIES.get(name or ("similarity" if "similarity_scores" in available else "cosine"))
    if measure != "spearman" or column is None:
        return None
    columns = ("example", "gold", column)
    return Reading("spearman", "example", columns, lambda c: _ranked_pairs(c, [column]), SENTENCE_HASHES)


def _of_pairs(metric: str, available: Sequence[str]) -> Reading | None:
    name, _, measure = metric.rpartition("_")
    statistics: Mapping[str, Statistic] = {"ap": "ap", "accuracy": "pair accuracy", "f1": "pair f1"}
    wanted = list(_SIMILARITIES.values()) if name == "max" else [_SIMILARITIES.get(name, "")]
    if measure not in statistics or not set(wanted) <= set(available):
        return None
    columns = ("example", "gold", *wanted)
    return Reading(
        statistics[measure], "example", columns, lambda c: _ranked_pairs(c, wanted, distances=True), SENTENCE_HASHES
    )


def _ranked_pairs(columns: Columns, names: Sequence[str], *, distances: bool = False) -> Parts:
    """Similarities as ranks; `distances` change sign, so that higher is more similar."""
    columns_of = [-columns[name] if distances and name.endswith("_distances") else columns[name] for name in names]
    ranks = np.array(list({codes.tobytes(): codes for codes in map(_codes, columns_of)}.values()))  # each order once
    gold = columns["gold"].astype(np.int64) if distances else _codes(columns["gold"])
    found = {"gold": gold, "prediction": ranks if distances else ranks[0]}
    if set(SENTENCE_HASHES) <= set(columns):
        found[CLUSTER] = np.stack([columns[name] for name in SENTENCE_HASHES])
    yield "", _ids(columns["example"]), found


def _of_summaries(metric: str, task: str, available: Sequence[str]) -> Reading | None:
    name, _, measure = metric.rpartition("_")
    column = _SIMILARITIES.get(name or "similarity", "")
    if measure != "spearman" or column not in available:
        return None
    with_p = task in _WITH_P_VALUES
    return Reading("mean", "example", ("example", "human_scores", column), lambda c: _texts(c, column, with_p=with_p))


def _texts(columns: Columns, column: str, *, with_p: bool) -> Parts:
    """One unit per text: the correlation over its summaries. Its id holds the human scores: mteb skips some texts."""
    names, first, text = np.unique(columns["example"], return_index=True, return_inverse=True)
    order = np.argsort(text, kind="stable")
    text, human, similarity = text[order], columns["human_scores"][order], columns[column][order]
    ranks = _centred_ranks(text, human), _centred_ranks(text, similarity)
    products, *squares = (np.bincount(text, one * other) for one, other in (ranks, ranks[:1] * 2, ranks[1:] * 2))
    with np.errstate(invalid="ignore"):
        correlations = np.nan_to_num(products / np.sqrt(squares[0] * squares[1]))
    sizes = np.bincount(text)
    values = _with_p_values(correlations, sizes) if with_p else correlations
    scores = np.split(human.astype(np.float64), np.cumsum(sizes)[:-1])
    ids = [f"{name}-{zlib.crc32(own.tobytes()):08x}" for name, own in zip(names.tolist(), scores, strict=True)]
    appearance = np.argsort(first)
    yield "", tuple(ids[at] for at in appearance), {"value": values[appearance]}


def _centred_ranks(group: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.int64]:
    """(N,) lower less higher values in the same group; groups lie together, in order."""
    order = np.lexsort((values, group))
    ties = np.diff(group[order], prepend=-1).astype(bool) | (values[order] != np.roll(values[order], 1))
    ties[:1] = True
    start = np.flatnonzero(ties)
    sizes = np.diff(start, append=len(values))
    ends = np.cumsum(np.bincount(group))
    first, last = np.repeat(start, sizes), np.repeat(start + sizes, sizes)
    found = np.empty(len(values), np.int64)
    found[order] = first + last - 2 * ends[group[order]] + np.bincount(group)[group[order]]
    return found


def _with_p_values(correlations: NDArray[np.float64], sizes: NDArray[Any]) -> NDArray[np.float64]:
    """The mean of each correlation and of its p-value (Student's t, as in `scipy.stats.spearmanr`)."""
    from scipy.special import stdtr

    freedom = sizes - 2
    with np.errstate(divide="ignore"):  # perfect order: t is infinite, p 0
        t = correlations * np.sqrt(freedom / ((correlations + 1.0) * (1.0 - correlations)))
    return np.asarray((correlations + 2.0 * stdtr(freedom, -np.abs(t))) / 2.0)


# ---------------------------------------------------------------------------------------------------------- labels


def _one_prediction(columns: Columns, statistic: Statistic) -> Parts:
    gold, prediction = columns["gold"].astype(np.int64), columns["prediction"].astype(np.int64)
    found = {"value": (gold == prediction).astype(np.int64)} if statistic == "mean" else {}
    yield "", _ids(columns["example"]), found or {"gold": gold, "prediction": prediction}


def _experiments(columns: Columns, statistic: Statistic) -> Parts:
    """Puts experiments on the same examples side by side; folds with different examples become different parts."""
    gold = _codes(columns["gold"])
    if statistic == "mean":
        for suffix, ids, rows in _same_examples(columns):
            value = columns["gold"][rows[0]] == columns["prediction"][rows]
            yield suffix, ids, {"value": value.astype(np.int64), "gold": gold[rows[0]]}
        return
    if statistic == "kendalltau":
        prediction = _codes(columns["prediction"])
    else:
        known = dict(zip(columns["gold"].tolist(), gold.tolist(), strict=True))
        prediction = np.array([known.setdefault(label, len(known)) for label in columns["prediction"].tolist()])
    for suffix, ids, rows in _same_examples(columns):
        yield suffix, ids, {"gold": gold[rows[0]], "prediction": prediction[rows]}


def _label_sets(columns: Columns, statistic: Statistic) -> Parts:
    gold = np.array(columns["gold"].tolist(), np.int64)
    prediction = np.array(columns["prediction"].tolist(), np.int64)
    for suffix, ids, rows in _same_examples(columns):
        if statistic == "mean":
            yield suffix, ids, {"value": (gold[rows[0]] == prediction[rows]).all(axis=2).astype(np.int64)}
        else:
            yield suffix, ids, {"gold": gold[rows[0]].T, "prediction": prediction[rows].transpose(0, 2, 1)}


def _same_examples(columns: Columns) -> Iterator[tuple[str, tuple[str, ...], NDArray[np.intp]]]:
    """Yields suffix, ids and (E, N) rows of the experiments that share their examples."""
    numbers = columns["experiment"].astype(np.int64)
    by_experiment = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    examples = [_ids(columns["example"][rows]) for rows in by_experiment]
    if len(set(examples)) == 1:
        yield "", examples[0], np.array(by_experiment)
        return
    for number, (ids, rows) in enumerate(zip(examples, by_experiment, strict=True)):
        yield f" (fold {number})", ids, rows[None]


def _clusterings(columns: Columns) -> Parts:
    ids = _ids_by_level(tuple(columns["level"].tolist()), _ids(columns["example"]))
    yield "", ids, {"value": columns["v_measure"].astype(np.float64)}


@lru_cache(maxsize=256)
def _ids_by_level(levels: tuple[str, ...], examples: tuple[str, ...]) -> tuple[str, ...]:
    """Ids of experiments, which are the same for all models."""
    return tuple(f"{level}/{number}" for level, number in zip(levels, examples, strict=True))


def _codes(values: NDArray[Any]) -> NDArray[np.int64]:
    """Replaces values by their place among the distinct values: same order, same ties."""
    return np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(np.int64)


def _ids(examples: NDArray[Any]) -> tuple[str, ...]:
    if examples.dtype.kind == "O":
        return tuple(map(str, examples.tolist()))
    return _numbers(examples.dtype.str, examples.tobytes())


@lru_cache(maxsize=256)
def _numbers(dtype: str, data: bytes) -> tuple[str, ...]:
    """Ids of row numbers, which are the same for all models."""
    return tuple(map(str, np.frombuffer(data, dtype).tolist()))


_LABELLED: Final[Mapping[tuple[str, str], tuple[Statistic, Callable[[Columns, Statistic], Parts]]]] = {
    ("AbsTaskBitextMining", "f1"): ("bitext f1", _one_prediction),
    ("AbsTaskBitextMining", "accuracy"): ("mean", _one_prediction),
    ("AbsTaskClassification", "accuracy"): ("mean", _experiments),
    ("AbsTaskClassification", "f1"): ("macro f1", _experiments),
    ("AbsTaskClassification", "f1_weighted"): ("weighted f1", _experiments),
    ("AbsTaskMultilabelClassification", "accuracy"): ("mean", _label_sets),
    ("AbsTaskMultilabelClassification", "f1"): ("multilabel f1", _label_sets),
    ("AbsTaskRegression", "kendalltau"): ("kendalltau", _experiments),
}
"""mteb's class and metric -> the statistic, and how gold labels and predictions become units."""
