"""A chosen task -> mteb's task object with its data loaded, from the Hub or from a local folder. mteb lives here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import mteb
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from mteb import abstasks
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.clustering import AbsTaskClustering
from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.abstasks.text.bitext_mining import AbsTaskBitextMining

from evaluation.config.models import Limit
from evaluation.errors import ConfigError, DataError, EvaluationError
from evaluation.tasks.columns import use_columns
from evaluation.tasks.hub_files import dataset_folder
from evaluation.tasks.local.folders import LocalData, RetrievalSplit, TableSplit
from evaluation.tasks.selection import TaskChoice, read_choice
from evaluation.tasks.types import RERANKING_TYPES, TASK_CLASS_BY_TYPE

_ANY_LANGUAGE = "und-Zyyy"


def make_task(choice: TaskChoice, *, seed: int) -> AbsTask:
    """A fresh task object without data, with the chosen splits, subsets and options set.

    Raises:
        ConfigError: An option that the task's class does not have, or of another type.
    """
    task = _local_task(choice, seed) if choice.source is None else _mteb_task(choice, seed)
    for name, value in choice.options.items():
        current = getattr(type(task), name, _MISSING)
        if current is _MISSING or callable(current) or name.startswith("_"):
            names = sorted(_option_names(type(task)))
            raise ConfigError([f"{choice.name} has no option {name!r} (options: {', '.join(names)})."])
        if current is not None and value is not None and not _same_kind(current, value):
            raise ConfigError([f"{choice.name}: option {name!r} is {value!r}, but {type(current).__name__} is wanted."])
        setattr(task, name, value)
    return task


_MISSING = object()


def _same_kind(current: object, value: object) -> bool:
    if isinstance(current, bool) or isinstance(value, bool):
        return isinstance(current, bool) and isinstance(value, bool)
    if isinstance(current, float):
        return isinstance(value, float | int)
    return isinstance(value, list | tuple) if isinstance(current, list | tuple) else isinstance(value, type(current))


def _option_names(task: type[AbsTask]) -> set[str]:
    plain = (bool, int, float, str, list, tuple, type(None))
    return {
        name
        for kind in task.__mro__
        for name, value in vars(kind).items()
        if not name.startswith("_")
        and isinstance(value, plain)
        and name not in {"abstask_prompt", "data_loaded", "dataset"}
    }


def _mteb_task(choice: TaskChoice, seed: int) -> AbsTask:
    assert choice.source is not None, choice.name
    task = type(mteb.get_task(choice.source))(seed=seed)
    task._eval_splits = list(choice.splits)
    task.hf_subsets = list(choice.subsets)
    if choice.data is not None:
        if isinstance(task, AbsTaskBitextMining):
            task.parallel_subsets = False  # a folder for each pair, in place of one table with a column a language
        dataset = {**task.metadata.dataset, "revision": choice.dataset_revision}
        task.metadata = task.metadata.model_copy(update={"dataset": dataset})
    return task


class _NewTask:
    """Marks the classes of tasks that mteb does not know."""


def _local_task(choice: TaskChoice, seed: int) -> AbsTask:
    """A new task on local data, of mteb's class for its type."""
    base = getattr(abstasks, TASK_CLASS_BY_TYPE[choice.type])
    languages = [_ANY_LANGUAGE]
    metadata = TaskMetadata(
        name=choice.name,
        description="A task on local data.",
        dataset={"path": choice.dataset, "revision": choice.dataset_revision},
        type=cast(Any, choice.type),
        eval_splits=list(choice.splits),
        eval_langs=languages if choice.subsets == ("default",) else dict.fromkeys(choice.subsets, languages),
        main_score=choice.main_score,
    )
    attributes: dict[str, Any] = {"metadata": metadata}
    if choice.type == "Clustering":
        attributes["max_fraction_of_documents_to_embed"] = None
    if choice.type == "Summarization":
        attributes |= {"min_score": 1, "max_score": 5}
    task: AbsTask = type("LocalTask", (_NewTask, base), attributes)(seed=seed)
    return task


def load_task(task: AbsTask, choice: TaskChoice, limit: Limit | None) -> dict[str, int]:
    """Load a task's data into it; returns what was dropped or noticed, with counts.

    Raises:
        DataError: Local data that changed since it was planned or breaks the layout.
        EvaluationError: A Hub dataset that can't be loaded.
    """
    counts: dict[str, int] = {}
    if choice.data is not None:
        data = read_choice(choice, train_split=getattr(task, "train_split", None))
        counts = {**data.counts, **_left_out(task, data)}
        _place_local(task, data)
    else:
        _load_from_hub(task, choice)
    if isinstance(task, AbsTaskRetrieval):
        task.convert_v1_dataset_format_to_v2(num_proc=None)
        if choice.data is None:
            counts = _counts_of_splits(task, choice)
    if limit is not None:
        apply_limit(task, choice, limit)
    if not isinstance(task, AbsTaskRetrieval):
        use_columns(cast(dict[str, Any], task.dataset))
    return counts


def _load_from_hub(task: AbsTask, choice: TaskChoice) -> None:
    """Let mteb load its dataset out of the snapshot folder of the pinned revision.

    With a folder for a path, `datasets` reads the files that are there, whatever revisions and processed copies its
    own caches hold, with a network and without.
    """
    folder = dataset_folder(task, choice)
    pinned = task.metadata
    task.metadata = pinned.model_copy(update={"dataset": {**pinned.dataset, "path": str(folder)}})
    try:
        task.load_data()
    except Exception as error:  # any library below datasets may raise anything
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise EvaluationError(
            f"the dataset {choice.dataset} (revision {choice.dataset_revision}) can't be loaded from {folder}: {reason}"
        ) from error
    finally:
        task.metadata = pinned
    _check_tables(task, choice)


def _check_tables(task: AbsTask, choice: TaskChoice) -> None:
    """Without its candidates a reranking task would be scored as search of the whole corpus."""
    if not isinstance(task, AbsTaskRetrieval) or choice.type not in RERANKING_TYPES:
        return
    for subset, splits in task.dataset.items():
        for split, data in splits.items():
            if data.get("top_ranked") is None:
                where = f"{choice.name}, split {split!r}, subset {subset!r}"
                raise DataError([f"{where}: the dataset holds no candidates."])


def load_retrieval_from_hub(choice: TaskChoice, split: str) -> RetrievalSplitData:
    """One split of a retrieval task's Hub dataset, at the revision that mteb pins.

    Raises:
        EvaluationError: It can't be loaded.
    """
    task = _mteb_task(choice, seed=0)
    _load_from_hub(task, choice)
    assert isinstance(task, AbsTaskRetrieval), choice.name
    task.convert_v1_dataset_format_to_v2(num_proc=None)
    return task.dataset["default"][split]


def _counts_of_splits(task: AbsTaskRetrieval, choice: TaskChoice) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for subset in task.hf_subsets:
        for split in choice.splits:
            if split in task.dataset.get(subset, {}):
                counts += Counter(retrieval_counts(task.dataset[subset][split]))
    return dict(counts)


def retrieval_counts(data: RetrievalSplitData) -> dict[str, int]:
    """What a split of a Hub dataset holds that can't be scored: repeated ids, judgements of unknown ids.

    In local data the loader counts the same and refuses repeated ids. A corpus' ids stay outside Python's memory.
    """
    queries, qrels = data["queries"]["id"][:], data["relevant_docs"]
    known = set(queries)
    documents = _ids(data["corpus"])
    judged = pa.array([document for query in qrels if query in known for document in qrels[query]], pa.string())
    n_found = pc.sum(pc.is_in(judged, value_set=documents)).as_py() or 0
    counts = {
        "queries without judgements": sum(not qrels.get(query) for query in known),
        "judgements of unknown queries": sum(len(grades) for query, grades in qrels.items() if query not in known),
        "judgements of unknown documents": len(judged) - n_found,
        "queries whose id came before": len(queries) - len(known),
        "documents whose id came before": len(documents) - pc.count_distinct(documents).as_py(),
    }
    return {what: count for what, count in counts.items() if count}


def _ids(corpus: Dataset) -> pa.Array:
    column = corpus.select_columns(["id"]).with_format("arrow")[:]["id"]
    return pa.concat_arrays([chunk.cast(pa.string()) for chunk in column.chunks] or [pa.array([], pa.string())])


def _place_local(task: AbsTask, data: LocalData) -> None:
    """Put local data where the class's dataset_transform would have left it, in the class's final columns."""
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


def _left_out(task: AbsTask, data: LocalData) -> dict[str, int]:
    """Rows that mteb does not score: to its `_evaluate_clustering_bootstrapped` the label -1 means none."""
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
    """Two class names as 0 and 1 in their order, and of a new task two other numbers as well.

    mteb's average precision of two classes takes the class 1 as the positive one (`_calculate_scores`), and fails
    where there is none.
    """
    parts = {name: part for name, part in splits.items() if isinstance(part, TableSplit)}
    if TASK_CLASS_BY_TYPE.get(task.metadata.type) != "AbsTaskClassification":
        return splits
    classes = sorted({label for part in parts.values() for label in part.columns["label"]})
    if len(classes) > 2 or not (isinstance(classes[0], str) or isinstance(task, _NewTask)):
        return splits
    return {
        name: TableSplit({**part.columns, "label": [classes.index(label) for label in part.columns["label"]]})
        for name, part in parts.items()
    }


def retrieval_data(part: RetrievalSplit) -> RetrievalSplitData:
    """A split in the columns of mteb's retrieval tasks."""
    queries: dict[str, list[Any]] = {"id": part.query_ids, "text": part.query_texts}
    if part.instructions is not None:
        queries["instruction"] = [part.instructions.get(query) for query in part.query_ids]
    corpus = {"id": part.corpus_ids, "title": part.titles, "text": part.texts}
    return RetrievalSplitData(
        corpus=Dataset.from_dict(corpus),
        queries=Dataset.from_dict(queries),
        relevant_docs={query: dict(judged) for query, judged in part.qrels.items()},
        top_ranked=part.top_ranked,
    )


def _table(task: AbsTask, part: TableSplit) -> Dataset:
    columns = part.columns
    if isinstance(task, AbsTaskClustering | AbsTaskClusteringLegacy):
        return Dataset.from_dict(_clustering_columns(task, columns))
    names = _column_names(task)
    named = {names.get(name, name): values for name, values in columns.items()}
    return Dataset.from_dict(named)


def _column_names(task: AbsTask) -> dict[str, str]:
    """Documented column -> the column that the task's class reads."""
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
    """Rows of one text (new generation) or of one set of texts (legacy), whichever form the file has."""
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


def apply_limit(task: AbsTask, choice: TaskChoice, limit: Limit) -> None:
    """Cut a loaded task for a smoke run, in place. Training splits stay whole; judged documents are kept."""
    for subset in task.hf_subsets:
        if isinstance(task, AbsTaskRetrieval):
            for split in choice.splits:
                apply_limit_to_retrieval(task.dataset[subset][split], limit)
        elif limit.examples is not None:
            parts: Any = subset_parts(task, subset)
            for split in choice.splits:
                if split != getattr(task, "train_split", None) and not isinstance(parts[split], dict):
                    parts[split] = _limit_rows(task, parts[split], limit.examples)


def subset_parts(task: AbsTask, subset: str) -> Any:
    """Split -> data of one subset; a task with one subset may hold its splits directly."""
    dataset: Any = task.dataset
    return dataset.get(subset, dataset)


def _limit_rows(task: AbsTask, rows: Dataset, n: int) -> Dataset:
    if isinstance(task, AbsTaskClusteringLegacy):
        columns = (str(task.input_column_name), task.label_column_name)
        return Dataset.from_dict({name: [values[:n] for values in rows[name][:]] for name in columns})
    return rows.select(range(min(n, len(rows))))


def apply_limit_to_retrieval(data: RetrievalSplitData, limit: Limit) -> None:
    """Cut one retrieval split in place: the first judged queries; their documents and candidates, then others."""
    if limit.queries is not None:
        judged = [row for row, id_ in enumerate(data["queries"]["id"][:]) if data["relevant_docs"].get(id_)]
        data["queries"] = data["queries"].select(judged[: limit.queries])
        kept = set(data["queries"]["id"][:])
        data["relevant_docs"] = {query: docs for query, docs in data["relevant_docs"].items() if query in kept}
        if data["top_ranked"] is not None:
            data["top_ranked"] = {query: docs for query, docs in data["top_ranked"].items() if query in kept}
    if limit.documents is not None:
        needed = {document for docs in data["relevant_docs"].values() for document in docs}
        needed |= {document for docs in (data["top_ranked"] or {}).values() for document in docs}
        data["corpus"] = data["corpus"].select(_kept_rows(data["corpus"]["id"][:], needed, limit.documents))


def _kept_rows(ids: Sequence[str], needed: set[str], n: int) -> list[int]:
    """All needed rows and the first others, up to n in all if the needed are fewer."""
    room = max(0, n - len(needed & set(ids)))
    kept = []
    for row, id_ in enumerate(ids):
        if id_ in needed:
            kept.append(row)
        elif room:
            room -= 1
            kept.append(row)
    return kept
