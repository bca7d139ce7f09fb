"""Reads a job's samples.parquet: which columns the job's metric needs, and how they become units.

Queries whose relevant documents are the same, as qrels.parquet says, are marked as one cluster.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.analysis.statistics.scorers import Statistic
from evaluation.analysis.statistics.shared_texts import (
    CLUSTER,
    Part,
    RelevantDocuments,
    document_clusters,
    relevant_documents,
    sentence_clusters,
)
from evaluation.errors import StoreError
from evaluation.records.job_record import JobRecord
from evaluation.records.tables import SENTENCE_HASHES, stored_bytes
from evaluation.tasks.types import TASK_CLASS_BY_TYPE

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

Kind = Literal["query", "example", "algorithm"]
Columns = Mapping[str, NDArray[Any]]
Parts = Iterator[tuple[str, tuple[str, ...], dict[str, NDArray[Any]]]]
"""A suffix of the subset's name, ids and arrays."""

_PLACE: Final = ["split", "subset"]
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


class _Reading(NamedTuple):
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


class Samples(NamedTuple):
    """A job's samples as its metric sees them.

    Attributes:
        parts: Split, subset, ids and arrays of each (see `units.UnitPart`).
    """

    statistic: Statistic
    kind: Kind
    parts: list[Part]


class SampleReader:
    """Reads the samples of stored jobs. What models have in common, ids and judgements, is read and held once."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._documents: dict[str, RelevantDocuments] = {}

    def read(self, folder: Path, record: JobRecord) -> Samples | None:
        """Reads the samples of a stored job; None where they do not hold what its metric is computed from.

        Raises:
            DamagedFileError: A file is missing or is not what was written.
            StoreError: A file cannot be read.
        """
        import pyarrow as pa
        from pyarrow import parquet

        file = folder / "samples.parquet"
        data = stored_bytes(folder, record, file.name)
        if data is None:
            return None
        try:
            with parquet.ParquetFile(pa.BufferReader(data), read_dictionary=_PLACE) as stored:
                available = stored.schema_arrow.names
                reading = _reading(record, available)
                if reading is None or not set(reading.columns) <= set(available):
                    return None
                wanted = [*reading.columns, *(name for name in reading.texts if name in available)]
                whole = _holds_one_subset(stored.metadata)
                table = stored.read([*wanted, *([] if whole else _PLACE)], use_threads=False)  # threads cost more
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{file} cannot be read: {error}.") from error
        columns = {name: _array(table[name]) for name in wanted}
        parts: list[Part] = []
        for split, entries in record.scores.items():
            for subset in (entry.subset for entry in entries):
                rows = (
                    _rows_of(table, split, subset)
                    if whole is None
                    else slice(0, len(table) * (whole == (split, subset)))
                )
                own = {name: column[rows] for name, column in columns.items()}
                if not len(own[wanted[0]]):
                    return None
                for suffix, ids, arrays in reading.read(own):
                    parts.append((split, subset + suffix, self._ids.setdefault(ids, ids), arrays))
        if reading.kind == "query":
            parts = document_clusters(self._relevant_documents(folder, record), parts)
        return Samples(reading.statistic, reading.kind, sentence_clusters(parts) if reading.texts else parts)

    def _relevant_documents(self, folder: Path, record: JobRecord) -> RelevantDocuments:
        name = "qrels.parquet"
        sha256 = record.files.get(name, "")
        if sha256 not in self._documents:
            data = stored_bytes(folder, record, name)
            self._documents[sha256] = {} if data is None else relevant_documents(data, folder / name)
        return self._documents[sha256]


def _holds_one_subset(metadata: parquet.FileMetaData) -> tuple[str, str] | None:
    """The split and subset of all rows, if the file's statistics show that there is one only."""
    places = set()
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        columns = {own.path_in_schema: own.statistics for own in map(group.column, range(group.num_columns))}
        for found in (columns.get(name) for name in _PLACE):
            if found is None or not found.has_min_max or found.null_count or found.min != found.max:
                return None
        places.add((columns["split"].min, columns["subset"].min))
    return places.pop() if len(places) == 1 else None


def _rows_of(table: pa.Table, split: str, subset: str) -> NDArray[np.intp]:
    """The rows of a split and subset."""
    here = np.ones(len(table), bool)
    for column, wanted in ((table["split"], split), (table["subset"], subset)):
        indices = column.combine_chunks()
        here &= (np.array(indices.dictionary.to_pylist(), object) == wanted)[_array(indices.indices)]
    return np.flatnonzero(here)


def _reading(record: JobRecord, available: Sequence[str]) -> _Reading | None:
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
            return _Reading("mean", "algorithm", ("level", "example", "v_measure"), _clusterings)
        case str(name) if (name, metric) in _LABELLED:
            statistic, parts_of = _LABELLED[name, metric]
            several = [] if parts_of is _one_prediction else ["experiment"]
            columns = [*several, "example", "gold", "prediction"]
            return _Reading(statistic, "example", columns, lambda c: parts_of(c, statistic))
    return None


# ------------------------------------------------------------------------------------------------------- retrieval


def _of_queries(metric: str, available: Sequence[str]) -> _Reading | None:
    if metric in _GROUPED:
        column, of_group = _GROUPED[metric]
        return _Reading("mean", "query", ("query_id", column), lambda c: _grouped_queries(c, column, of_group))
    if metric in available:
        return _Reading("mean", "query", ("query_id", metric), lambda c: _queries(c, metric))
    name, _, k = "recall_at_1".partition("_at_") if metric == "accuracy" else metric.partition("_at_")
    column = f"{_TREC_NAMES.get(name)}_{k}"
    return _Reading("rounded mean", "query", ("query_id", column), lambda c: _queries(c, column))


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


def _of_scored_pairs(metric: str, available: Sequence[str]) -> _Reading | None:
    name, _, measure = metric.rpartition("_")
    column = _SIMILARITIES.get(name or ("similarity" if "similarity_scores" in available else "cosine"))
    if measure != "spearman" or column is None:
        return None
    columns = ("example", "gold", column)
    return _Reading("spearman", "example", columns, lambda c: _ranked_pairs(c, [column]), SENTENCE_HASHES)


def _of_pairs(metric: str, available: Sequence[str]) -> _Reading | None:
    name, _, measure = metric.rpartition("_")
    statistics: Mapping[str, Statistic] = {"ap": "ap", "accuracy": "pair accuracy", "f1": "pair f1"}
    wanted = list(_SIMILARITIES.values()) if name == "max" else [_SIMILARITIES.get(name, "")]
    if measure not in statistics or not set(wanted) <= set(available):
        return None
    columns = ("example", "gold", *wanted)
    return _Reading(
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


def _of_summaries(metric: str, task: str, available: Sequence[str]) -> _Reading | None:
    name, _, measure = metric.rpartition("_")
    column = _SIMILARITIES.get(name or "similarity", "")
    if measure != "spearman" or column not in available:
        return None
    with_p = task in _WITH_P_VALUES
    return _Reading("mean", "example", ("example", "human_scores", column), lambda c: _texts(c, column, with_p=with_p))


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
    if statistic == "kendalltau":
        gold, prediction = _codes(columns["gold"]), _codes(columns["prediction"])
    else:
        gold = _codes(columns["gold"])
        known = dict(zip(columns["gold"].tolist(), gold.tolist(), strict=True))
        prediction = np.array([known.setdefault(label, len(known)) for label in columns["prediction"].tolist()])
    for suffix, ids, rows in _same_examples(columns):
        arrays = {"gold": gold[rows[0]], "prediction": prediction[rows]}
        if statistic == "mean":
            arrays = {"value": (arrays["gold"] == arrays["prediction"]).astype(np.int64)}
        yield suffix, ids, arrays


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
    ids = tuple(f"{level}/{number}" for level, number in zip(columns["level"], columns["example"], strict=True))
    yield "", ids, {"value": columns["v_measure"].astype(np.float64)}


def _array(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """Numbers as numbers, missing ones as NaN; strings and lists as objects. `to_numpy` would import pandas."""
    import pyarrow as pa

    joined = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if joined.null_count == 0 and (pa.types.is_integer(joined.type) or pa.types.is_floating(joined.type)):
        return np.asarray(np.from_dlpack(joined))
    values = joined.to_pylist()
    if values and isinstance(values[0], str | list):
        array = np.empty(len(values), object)
        array[:] = values
        return array
    return np.array([np.nan if value is None else value for value in values])


def _codes(values: NDArray[Any]) -> NDArray[np.int64]:
    """Replaces values by their place among the distinct values: same order, same ties."""
    return np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(np.int64)


def _ids(examples: NDArray[Any]) -> tuple[str, ...]:
    return tuple(map(str, examples.tolist()))


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
