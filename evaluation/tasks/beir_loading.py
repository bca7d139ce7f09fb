"""Loads a BEIR dataset as beir's dictionaries, from a local folder or from mteb's pinned Hub repository of it."""

from __future__ import annotations

from typing import NamedTuple

from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData

from evaluation.config.limit import Limit
from evaluation.tasks.limits import apply_limit_to_retrieval
from evaluation.tasks.loading import load_retrieval_from_hub, retrieval_counts
from evaluation.tasks.local.folders import RetrievalSplit
from evaluation.tasks.local_datasets import retrieval_data
from evaluation.tasks.selection import TaskChoice, read_choice


class BeirData(NamedTuple):
    """corpus: id -> title and text; queries: id -> text; qrels: query id -> document id -> grade."""

    corpus: dict[str, dict[str, str]]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    counts: dict[str, int]


def load_beir(choice: TaskChoice, split: str, limit: Limit | None) -> BeirData:
    """Loads one split; leaves out queries without a judgement, as beir's own loader does.

    Raises:
        DataError: Local data changed since the run was planned.
        EvaluationError: A Hub dataset can't be loaded.
    """
    counts: dict[str, int] = {}
    if choice.data is not None:
        read = read_choice(choice)
        part = next(iter(read.subsets.values()))[split]
        assert isinstance(part, RetrievalSplit), choice.name
        data, counts = retrieval_data(part), read.counts
    else:
        data = load_retrieval_from_hub(choice, split)
        counts = retrieval_counts(data)
    if limit is not None:
        apply_limit_to_retrieval(data, limit)
    return _as_dictionaries(data, counts)


def _as_dictionaries(data: RetrievalSplitData, counts: dict[str, int]) -> BeirData:
    corpus = data["corpus"][:]
    titles = corpus.get("title") or [""] * len(corpus["id"])
    documents = {
        id_: {"title": title or "", "text": text}
        for id_, title, text in zip(corpus["id"], titles, corpus["text"], strict=True)
    }
    qrels = {query: dict(judged) for query, judged in data["relevant_docs"].items() if judged}
    queries = data["queries"][:]
    texts = {id_: text for id_, text in zip(queries["id"], queries["text"], strict=True) if id_ in qrels}
    return BeirData(documents, texts, {query: qrels[query] for query in texts}, counts)
