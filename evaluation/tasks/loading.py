"""Makes mteb's task object of a chosen task and loads its data, from the Hub or from a local folder."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import mteb
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from mteb import abstasks
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.abstasks.text.bitext_mining import AbsTaskBitextMining

from evaluation.config.limit import Limit
from evaluation.errors import ConfigError, DataError, EvaluationError
from evaluation.tasks.columns import use_columns
from evaluation.tasks.hub_files import dataset_folder
from evaluation.tasks.limits import apply_limit
from evaluation.tasks.local_datasets import NewTask, left_out_rows, place_local
from evaluation.tasks.selection import TaskChoice, read_choice
from evaluation.tasks.types import RERANKING_TYPES, TASK_CLASS_BY_TYPE

_ANY_LANGUAGE = "und-Zyyy"


def make_task(choice: TaskChoice, *, seed: int) -> AbsTask:
    """Makes a fresh task object without data, with the chosen splits, subsets and options set.

    Raises:
        ConfigError: The task's class has no such option, or one of another type.
    """
    task = _local_task(choice, seed) if choice.source is None else _mteb_task(choice, seed)
    for name, value in choice.options.items():
        current = getattr(type(task), name, _MISSING)
        if current is _MISSING or callable(current) or name.startswith("_"):
            names = sorted(_option_names(type(task)))
            raise ConfigError([f"{choice.name} has no option {name!r} (options: {', '.join(names)})."])
        if current is not None and value is not None and not _same_kind(current, value):
            raise ConfigError([f"{choice.name}: option {name!r} is {value!r}; it must be a {type(current).__name__}."])
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


def _local_task(choice: TaskChoice, seed: int) -> AbsTask:
    """Makes a new task on local data, of mteb's class for its type."""
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
    task: AbsTask = type("LocalTask", (NewTask, base), attributes)(seed=seed)
    return task


def load_task(task: AbsTask, choice: TaskChoice, limit: Limit | None) -> dict[str, int]:
    """Loads a task's data into it; returns what was dropped or noticed, with counts.

    Raises:
        DataError: Local data changed since the run was planned, or breaks the layout.
        EvaluationError: A Hub dataset can't be loaded.
    """
    counts: dict[str, int] = {}
    if choice.data is not None:
        data = read_choice(choice, train_split=getattr(task, "train_split", None))
        counts = {**data.counts, **left_out_rows(task, data)}
        place_local(task, data)
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
    """Lets mteb load its dataset from the snapshot folder of the pinned revision.

    Given a folder as path, `datasets` reads the files in it, with and without a network, whatever revisions and
    processed copies its own caches hold.
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
    """Refuses a reranking task without candidates, which would be scored as a search of the whole corpus."""
    if not isinstance(task, AbsTaskRetrieval) or choice.type not in RERANKING_TYPES:
        return
    for subset, splits in task.dataset.items():
        for split, data in splits.items():
            if data.get("top_ranked") is None:
                where = f"{choice.name}, split {split!r}, subset {subset!r}"
                raise DataError([f"{where}: the dataset has no candidates."])


def load_retrieval_from_hub(choice: TaskChoice, split: str) -> RetrievalSplitData:
    """Loads one split of a retrieval task's Hub dataset, at the revision that mteb pins.

    Raises:
        EvaluationError: The dataset can't be loaded.
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
    """Counts what a split of a Hub dataset has that can't be scored: repeated ids, judgements of unknown ids.

    The reader of local data counts the same and refuses repeated ids. The ids of a corpus stay in Arrow.
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
        "queries with a repeated id": len(queries) - len(known),
        "documents with a repeated id": len(documents) - pc.count_distinct(documents).as_py(),
    }
    return {what: count for what, count in counts.items() if count}


def _ids(corpus: Dataset) -> pa.Array:
    column = corpus.select_columns(["id"]).with_format("arrow")[:]["id"]
    return pa.concat_arrays([chunk.cast(pa.string()) for chunk in column.chunks] or [pa.array([], pa.string())])
