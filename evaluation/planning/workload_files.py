"""Counts the texts of a task on local data, following mteb's sampling. Imports neither mteb nor torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.planning.text_groups import (
    TextGroup,
    apply_options,
    drawn_rows,
    sample_group,
    script_of,
    training_sample,
)
from evaluation.protocols import Side, TaskRules, document_text, instructed_query
from evaluation.tasks.index import TaskIndex
from evaluation.tasks.index_entries import TaskEntry
from evaluation.tasks.local.folders import RetrievalSplit, TableSplit
from evaluation.tasks.selection import TaskChoice, read_choice
from evaluation.tasks.types import TRAINED_TYPES

_TEXT_COLUMNS: Mapping[str, tuple[str, str]] = {
    "STS": ("sentence1", "sentence2"),
    "BitextMining": ("sentence1", "sentence2"),
    "Summarization": ("human_summaries", "machine_summaries"),
}


def file_groups(choice: TaskChoice, index: TaskIndex, rules: TaskRules) -> list[TextGroup]:
    """Returns the text groups of a task on local data.

    Raises:
        DataError: The data changed since the config was checked.
    """
    entry = index.task(choice.source) if choice.source else None
    train_split = str(choice.options.get("train_split", (entry.train_split if entry else None) or "train"))
    data = read_choice(choice, train_split=train_split if choice.type in TRAINED_TYPES else None)
    entry = apply_options(entry or TaskEntry(choice.name, choice.type), choice)
    groups: list[TextGroup] = []
    for subset, splits in data.subsets.items():
        for split in choice.splits:
            part, train = splits[split], splits.get(train_split)
            pool = f"{choice.dataset_revision}/{subset}"
            if isinstance(part, RetrievalSplit):
                groups += _retrieval_groups(part, pool, rules)
                continue
            groups += _table_groups(choice, entry, f"{pool}/{split}", part.columns)
            is_trained = choice.type in TRAINED_TYPES and not entry.is_cross_validation
            if is_trained and isinstance(train, TableSplit):
                groups.append(_training_group(entry, f"{pool}/{split} training", train.columns))
    return groups


def _retrieval_groups(part: RetrievalSplit, pool: str, rules: TaskRules) -> Iterator[TextGroup]:
    candidates = None
    if part.top_ranked is not None:
        candidates = {document for ids in part.top_ranked.values() for document in ids}
    texts = [
        document_text(title, text, join_title=rules.join_title)
        for document, title, text in zip(part.corpus_ids, part.titles, part.texts, strict=True)
        if candidates is None or document in candidates
    ]
    instructions = part.instructions or {}
    queries = [
        instructed_query(text, instructions.get(query))
        for query, text in zip(part.query_ids, part.query_texts, strict=True)
    ]
    yield _count("query", f"{pool} queries", queries)
    yield _count("passage", f"{pool} documents", texts)


def _table_groups(
    choice: TaskChoice, entry: TaskEntry, pool: str, columns: Mapping[str, list[Any]]
) -> Iterator[TextGroup]:
    match choice.type:
        case "PairClassification":
            yield _count("text", pool, [*columns["sentence1"], *columns["sentence2"]])
        case "STS" | "BitextMining" | "Summarization":
            for column in _TEXT_COLUMNS[choice.type]:
                yield _count("text", f"{pool} {column}", _flattened(columns[column]))
        case "Clustering":
            yield from _clustering_groups(choice, entry, pool, columns)
        case _:
            yield sample_group(_count("text", pool, columns["text"]), entry.max_eval_samples)


def _clustering_groups(
    choice: TaskChoice, entry: TaskEntry, pool: str, columns: Mapping[str, list[Any]]
) -> Iterator[TextGroup]:
    if "sentences" in columns and entry.base_class == "AbsTaskClusteringLegacy":
        for number, sentences in enumerate(columns["sentences"]):
            yield _count("text", f"{pool} set {number}", sentences)
        return
    group = _count("text", pool, _flattened(columns["sentences" if "sentences" in columns else "text"]))
    fraction = None if choice.source is None else entry.max_fraction_of_documents_to_embed
    yield sample_group(group, entry.max_document_to_embed if fraction is None else int(fraction * group.texts))


def _training_group(entry: TaskEntry, pool: str, columns: Mapping[str, list[Any]]) -> TextGroup:
    group = _count("text", pool, columns["text"])
    if "value" in columns:
        n_rows = drawn_rows([group.texts], entry.n_samples or 2_048, entry.n_experiments or 10)
    else:
        counts = Counter(_flattened(columns["label"]))
        n_rows = drawn_rows(counts.values(), entry.samples_per_label or 8, entry.n_experiments or 10)
    return training_sample(group, pool, n_rows)


def _flattened(column: Sequence[Any]) -> list[Any]:
    """Returns the entries of a column, where each row holds one value or a list of values."""
    return [value for row in column for value in (row if isinstance(row, list) else [row])]


def _count(side: Side, pool: str, texts: Sequence[str]) -> TextGroup:
    distinct = list(dict.fromkeys(texts))
    lengths = np.fromiter(map(len, distinct), np.float32, len(distinct))
    return TextGroup(side, pool, len(texts), len(distinct), lengths, script_of(distinct))
