"""Reads the tables that mteb hands to a model, queries and corpora, as ids and texts; mteb 2.26."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from evaluation.adapters.task_search import CORPUS_BLOCK, Documents
from evaluation.protocols import document_text


def query_texts(queries: Any) -> list[str]:
    """Returns the queries as mteb joins them: with their instructions, conversations flattened."""
    from mteb._create_dataloaders import _combine_queries_with_instruction_text, _convert_conv_history_to_query

    if len(queries) and isinstance(queries[0]["text"], list):
        return column(queries.map(_convert_conv_history_to_query), "text")
    if "instruction" in queries.column_names:
        queries = _combine_queries_with_instruction_text(queries)
    return column(queries, "text")


def corpus_blocks(corpus: Any, *, join_title: bool) -> Iterator[Documents]:
    """Reads a corpus dataset by columns, block by block, and yields texts with titles joined."""
    for start in range(0, len(corpus), CORPUS_BLOCK):
        columns = corpus[start : start + CORPUS_BLOCK]
        titles = columns.get("title") or [""] * len(columns["id"])
        pairs = zip(titles, columns["text"], strict=True)
        texts = [document_text(title, text, join_title=join_title) for title, text in pairs]
        yield Documents([str(id_) for id_ in columns["id"]], texts)


def documents_of(corpus: Any, needed: set[str], *, join_title: bool) -> Documents:
    """Returns the needed documents of a corpus dataset, in corpus order."""
    rows = [row for row, id_ in enumerate(column(corpus, "id")) if id_ in needed]
    blocks = list(corpus_blocks(corpus.select(rows), join_title=join_title))
    return Documents([id_ for block in blocks for id_ in block.ids], [text for block in blocks for text in block.texts])


def column(dataset: Any, name: str) -> list[Any]:
    """Returns a whole column of a datasets.Dataset as a list; its own column object reads lazily."""
    return list(dataset[name][:])


def flat(column: Sequence[Any]) -> Sequence[Any]:
    """Returns the values of a column one by one; mteb's older pair datasets hold all of them in one row."""
    return column[0] if len(column) == 1 and isinstance(column[0], list) else column
