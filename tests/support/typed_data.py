"""A little local data of every task type, the texts of it that a model must receive, and what reached the tokenizer."""

from __future__ import annotations

from typing import Any

import pytest

from evaluation.encoding.tokenizing import TextTokenizer

# What a job reads. Blanks at the ends of texts and a document without a title are there on purpose.
CORPUS = [
    {"_id": "d1", "title": "Bells", "text": " The church bells ring at noon. "},
    {"_id": "d2", "title": "", "text": "\tNo parking behind the mill.\n"},
    {"_id": "d3", "text": "The ferry is late."},
]
QUERIES = [{"_id": "q1", "text": "when do the bells ring"}, {"_id": "q2", "text": " where to park "}]
QRELS = [("q1", "d1", 1), ("q2", "d2", 1), ("q2", "d3", 0)]
RETRIEVAL = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels/test.tsv": QRELS}
CANDIDATES = {"top_ranked/test.jsonl": [{"query-id": query, "corpus-ids": ["d1", "d2"]} for query in ("q1", "q2")]}
INSTRUCTIONS = {
    "instructions.jsonl": [
        {"query-id": "q1", "instruction": "Only weekdays count."},
        {"query-id": "q2", "instruction": "Leave out garages."},
    ]
}
WORDS = ["ash", "birch", "cedar", "dogwood", "elder", "fir", "ginkgo", "hazel", "ivy", "juniper", "larch", "maple"]
PAIRS = [{"sentence1": word, "sentence2": f"{word} wood "} for word in WORDS]
PAIR_TEXTS = [*WORDS, *(f"{word} wood " for word in WORDS)]

DATA: dict[str, dict[str, list[Any]]] = {
    "Retrieval": RETRIEVAL,
    "Reranking": RETRIEVAL | CANDIDATES,
    "InstructionRetrieval": RETRIEVAL | INSTRUCTIONS,
    "InstructionReranking": RETRIEVAL | CANDIDATES | INSTRUCTIONS,
    "STS": {"test.jsonl": [{**pair, "score": float(row % 5)} for row, pair in enumerate(PAIRS)]},
    "PairClassification": {"test.jsonl": [{**pair, "label": row % 2} for row, pair in enumerate(PAIRS)]},
    "BitextMining": {"test.jsonl": PAIRS},
    "Classification": {
        "train.jsonl": [{"text": f"{word} leaf", "label": row % 2} for row, word in enumerate(WORDS)],
        "test.jsonl": [{"text": word, "label": row % 2} for row, word in enumerate(WORDS)],
    },
    "MultilabelClassification": {
        "train.jsonl": [{"text": f"{word} leaf", "label": [row % 2, 2]} for row, word in enumerate(WORDS)],
        "test.jsonl": [{"text": word, "label": [row % 2, 2]} for row, word in enumerate(WORDS)],
    },
    "Regression": {
        "train.jsonl": [{"text": f"{word} leaf", "value": float(row)} for row, word in enumerate(WORDS)],
        "test.jsonl": [{"text": word, "value": float(row)} for row, word in enumerate(WORDS)],
    },
    "Clustering": {"test.jsonl": [{"text": word, "label": row % 3} for row, word in enumerate(WORDS)]},
    "Clustering, legacy": {
        "test.jsonl": [{"sentences": WORDS[start::2], "labels": [0, 0, 0, 1, 1, 1]} for start in (0, 1)]
    },
    "Summarization": {
        "test.jsonl": [
            {
                "text": f"about {word}",
                "human_summaries": [word],
                "machine_summaries": [f"{word} one", f"{word} two"],
                "relevance": [1.0, 5.0],
            }
            for word in WORDS
        ]
    },
}

# The dataset texts of each side as they must arrive, without a prefix. The originals of summaries are never encoded.
QUERY_TEXTS = ["when do the bells ring", " where to park "]
JOINED = ["Bells  The church bells ring at noon.", "No parking behind the mill.", "The ferry is late."]
ONLY_TEXT = ["The church bells ring at noon.", "No parking behind the mill.", "The ferry is late."]
INSTRUCTED = ["when do the bells ring Only weekdays count.", " where to park  Leave out garages."]
LABELLED = [*WORDS, *(f"{word} leaf" for word in WORDS)]
SUMMARIES = [f"{word}{end}" for word in WORDS for end in ("", " one", " two")]

TEXTS: dict[str, tuple[list[str], list[str]]] = {  # queries and documents, or all texts and none
    "Retrieval": (QUERY_TEXTS, JOINED),
    "Reranking": (QUERY_TEXTS, JOINED[:2]),  # d3 is nobody's candidate
    "InstructionRetrieval": (INSTRUCTED, JOINED),
    "InstructionReranking": (INSTRUCTED, JOINED[:2]),
    "STS": (PAIR_TEXTS, []),
    "PairClassification": (PAIR_TEXTS, []),
    "BitextMining": (PAIR_TEXTS, []),
    "Classification": (LABELLED, []),
    "MultilabelClassification": (LABELLED, []),
    "Regression": (LABELLED, []),
    "Clustering": (WORDS, []),
    "Clustering, legacy": (WORDS, []),
    "Summarization": (SUMMARIES, []),
}

QUICK = {
    "Classification": {"n_experiments": 1},
    "MultilabelClassification": {"n_experiments": 1},
    "Regression": {"n_experiments": 1},
    "Clustering": {"n_clusters": 1, "max_documents_per_cluster": 20},
}


@pytest.fixture
def arrived(monkeypatch):
    """Strings that reached the tokenizer, in order."""
    strings: list[str] = []
    original = TextTokenizer.__call__

    def listening(self, texts):
        strings.extend(texts)
        return original(self, texts)

    monkeypatch.setattr(TextTokenizer, "__call__", listening)
    return strings


def task_of(name: str, data) -> dict[str, Any]:
    if name == "Clustering, legacy":
        return {"mteb": "TwentyNewsgroupsClustering", "data": data}
    return {"local": "Own", "type": name, "data": data, "options": QUICK.get(name, {})}
