"""Cuts a loaded task for a smoke run: fewer documents, queries or examples; judged documents are always kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData

from evaluation.config.limit import Limit
from evaluation.tasks.columns import subset_parts
from evaluation.tasks.selection import TaskChoice


def apply_limit(task: AbsTask, choice: TaskChoice, limit: Limit) -> None:
    """Cuts a loaded task for a smoke run, in place. Training splits stay whole; judged documents are kept."""
    for subset in task.hf_subsets:
        if isinstance(task, AbsTaskRetrieval):
            for split in choice.splits:
                apply_limit_to_retrieval(task.dataset[subset][split], limit)
        elif limit.examples is not None:
            parts: Any = subset_parts(task, subset)
            for split in choice.splits:
                if split != getattr(task, "train_split", None) and not isinstance(parts[split], dict):
                    parts[split] = _limit_rows(task, parts[split], limit.examples)


def _limit_rows(task: AbsTask, rows: Dataset, n: int) -> Dataset:
    if isinstance(task, AbsTaskClusteringLegacy):
        columns = (str(task.input_column_name), task.label_column_name)
        return Dataset.from_dict({name: [values[:n] for values in rows[name][:]] for name in columns})
    return rows.select(range(min(n, len(rows))))


def apply_limit_to_retrieval(data: RetrievalSplitData, limit: Limit) -> None:
    """Cuts one retrieval split in place: to the first judged queries; their documents and candidates, then others."""
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
    """Returns all needed rows and the first others, n in all unless more are needed."""
    room = max(0, n - len(needed & set(ids)))
    kept = []
    for row, id_ in enumerate(ids):
        if id_ in needed:
            kept.append(row)
        elif room:
            room -= 1
            kept.append(row)
    return kept
