"""Checks whether a loaded task can be scored at all, and counts what mteb's class leaves out. Knows no model.

A number that every model would get, or that a library returns where its formula is undefined, is not a score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy
from mteb.abstasks.retrieval import AbsTaskRetrieval

from evaluation.adapters.mteb_tables import flat
from evaluation.errors import DataError
from evaluation.jobs import Job
from evaluation.tasks.columns import subset_parts
from evaluation.tasks.types import TASK_CLASS_BY_TYPE

Qrels = Mapping[str, Mapping[str, int]]


def check_fitness(task: AbsTask, job: Job) -> Counter[str]:
    """Checks all chosen splits and subsets of a loaded task.

    Returns:
        What was noticed, with counts.

    Raises:
        DataError: A split without examples, without a judged or relevant document, with one class, with gold values
            that have no order, and so on.
    """
    counts: Counter[str] = Counter()
    for split in job.task.splits:
        for subset in task.hf_subsets:
            where = f"{job.task.name}, split {split!r}, subset {subset!r}"
            parts = subset_parts(task, subset)
            if split not in parts:
                raise DataError([f"{where}: the dataset has no such split (it has: {', '.join(map(str, parts))})."])
            if isinstance(task, AbsTaskRetrieval):
                data = parts[split]
                counts += check_judgements(data["queries"]["id"][:], data["relevant_docs"], len(data["corpus"]), where)
            elif len(parts[split]) == 0:
                raise DataError([f"{where}: no examples."])
            else:
                counts += _check_table(task, parts, split, where)
    return counts


def check_judgements(query_ids: Iterable[str], qrels: Qrels, n_documents: int, where: str) -> Counter[str]:
    """Refuses judgements that give every model the same score; counts judged queries without a relevant document.

    Raises:
        DataError: No document, no judged query, or none with a relevant document.
    """
    if n_documents == 0:
        raise DataError([f"{where}: the corpus is empty."])
    judged = [qrels[query] for query in query_ids if qrels.get(query)]
    if not judged:
        raise DataError([f"{where}: no judged query."])
    barren = sum(not any(grade > 0 for grade in grades.values()) for grades in judged)
    if barren == len(judged):
        raise DataError([f"{where}: no judged query has a relevant document (a judgement above 0)."])
    return Counter(
        {
            "judged queries without a relevant document": barren,
            "corpora of a single document, which every model finds": int(n_documents == 1),
        }
    )


def _check_table(task: Any, parts: Any, split: str, where: str) -> Counter[str]:
    rows = parts[split]
    match TASK_CLASS_BY_TYPE.get(task.metadata.type):
        case "AbsTaskSTS":
            _check_order(rows["score"][:], where, "the scores")
        case "AbsTaskRegression":
            _check_order(rows[task.label_column_name][:], where, "the values")
            _check_training(task, parts, where)
        case "AbsTaskPairClassification":
            _check_classes(flat(rows[task.label_column_name][:]), where, "pair", "average precision")
        case "AbsTaskClassification":
            learnt = rows if task.is_cross_validation else _check_training(task, parts, where)
            labels = learnt[task.label_column_name][:]
            _check_classes(labels, f"{where}, training rows", "row", "a classifier")
            return _count_unlearnt(labels, rows[task.label_column_name][:])
        case "AbsTaskMultilabelClassification":
            learnt = _check_training(task, parts, where)[task.label_column_name][:]
            if not any(learnt):
                raise DataError([f"{where}, training rows: no row has a label, so there is nothing to learn."])
            return _count_unlearnt(learnt, rows[task.label_column_name][:])
        case "AbsTaskSummarization":
            _check_summaries(rows[task.relevancy_column_name][:], where)
        case "AbsTaskClustering":
            return _check_clusters(task, rows, where)
        case "AbsTaskBitextMining":
            return Counter({"splits of a single sentence pair, which every model finds": int(len(rows) == 1)})
    return Counter()


def _count_unlearnt(learnt: Sequence[Any], scored: Sequence[Any]) -> Counter[str]:
    """Counts scored rows with a label that no training row has: no classifier can get them right."""
    known = {label for row in learnt for label in _labels(row)}
    unlearnt = sum(not known.issuperset(_labels(row)) for row in scored)
    return Counter({"rows with a label that no training row has": unlearnt})


def _labels(row: Any) -> list[Any]:
    return row if isinstance(row, list) else [row]


def _check_summaries(scores: Sequence[Sequence[float]], where: str) -> None:
    if all(len(set(row)) < 2 for row in scores):
        raise DataError([f"{where}: no text has summaries with different human scores to rank."])


def _check_training(task: Any, parts: Any, where: str) -> Any:
    train = parts.get(task.train_split, ())
    if len(train) == 0:
        raise DataError([f"{where}: there is no row to learn from in the split {task.train_split!r}."])
    return train


def _check_order(gold: Sequence[float], where: str, what: str) -> None:
    """Refuses gold values that are all alike, with which no correlation is defined."""
    if len(set(gold)) < 2:
        seen = f"all of them are {gold[0]}" if len(gold) > 1 else "there is one row"
        raise DataError([f"{where}: {what} are all equal ({seen}), so a correlation with them is undefined."])


def _check_classes(labels: Sequence[Any], where: str, what: str, needs: str) -> None:
    if len(set(labels)) < 2:
        raise DataError([f"{where}: every {what} has the label {labels[0]!r}; {needs} needs two classes."])


def _check_clusters(task: Any, rows: Any, where: str) -> Counter[str]:
    """Counts degenerate sets and levels: with a single label, or with a label per text; refuses a task of the former.

    Every model clusters a single label perfectly; where no two texts share a label, no cluster is right or wrong.
    """
    labels = rows[task.label_column_name][:]
    if isinstance(task, AbsTaskClusteringLegacy) and isinstance(labels[0], list):
        groups, what = labels, "clustering sets"
    else:
        levels = [_labels(label) for label in labels]
        depth = max(map(len, levels))
        groups = [[level[at] for level in levels if len(level) > at and level[at] != -1] for at in range(depth)]
        what = "clustering levels"
    single = sum(len(set(group)) < 2 for group in groups)
    if single == len(groups):
        raise DataError([f"{where}: all texts have the same label, so that every model would score 1."])
    alone = sum(len(set(group)) == len(group) for group in groups)
    return Counter({f"{what} with a single label": single, f"{what} where no two texts share a label": alone})
