"""Local data as mteb's datasets: the same rows, at the cost of one copy."""

from __future__ import annotations

import tracemalloc

import pyarrow as pa

from evaluation.tasks.local.retrieval import RetrievalSplit
from evaluation.tasks.local_datasets import retrieval_data


def split_of(ids: list[str], texts: list[str]) -> RetrievalSplit:
    return RetrievalSplit(ids, [""] * len(ids), texts, ["q"], ["a query"], {"q": {"d0": 1}}, None, None)


def test_a_corpus_of_several_blocks_keeps_its_rows_and_their_order():
    ids, texts = [f"d{n}" for n in range(40_000)], [f"text {n}" for n in range(40_000)]
    corpus = retrieval_data(split_of(ids, texts))["corpus"]
    assert corpus[:] == {"id": ids, "title": [""] * 40_000, "text": texts}
    assert corpus[16_384] == {"id": "d16384", "title": "", "text": "text 16384"}
    empty = retrieval_data(split_of([], []))["corpus"]
    assert (len(empty), empty.column_names) == (0, ["id", "title", "text"])


def test_a_corpus_is_copied_once():
    texts = ["x" * 1_000] * 20_000  # 20 MB in Arrow, a kilobyte as strings
    split, before = split_of([f"d{n}" for n in range(20_000)], texts), pa.total_allocated_bytes()
    tracemalloc.start()
    data = retrieval_data(split)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data["corpus"]) == 20_000
    assert pa.total_allocated_bytes() - before < 22e6
    assert peak < 2e6, "pickled, or held as strings"
