"""What an embedder notices of vectors: queries whose documents all tie, and vectors of zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evaluation.adapters.embedding import TaskEmbedder
from evaluation.adapters.task_search import Documents, TaskSearch
from evaluation.encoding.encoder import Encoded

CORPUS = Documents(["d1", "d2", "d3"], ["one", "two", "three"])


class FixedEncoder:
    """Gives each text the vector that is listed for it."""

    checkpoint = SimpleNamespace(normalize=False, similarity="cosine")
    tokens_encoded, encoding_time_s = 0, 0.0

    def __init__(self, vectors: Mapping[str, Sequence[float]]) -> None:
        from evaluation.encoding.settings import EncoderSettings

        self.settings = EncoderSettings("transformers", "mean", 8, "float32", "cpu", 8)
        self._vectors = vectors

    def encode(self, texts: Sequence[str], *, prefix: str = "", route: Any = None) -> Encoded:
        vectors = np.array([self._vectors[text] for text in texts], np.float32)
        return Encoded(vectors, np.ones(len(texts), np.int64), 0, tuple(texts[:2]), 1)


@pytest.fixture
def embedder(make_config: Any, tmp_path: Any) -> Any:
    def make(vectors: Mapping[str, Sequence[float]]) -> TaskEmbedder:
        from evaluation.jobs import build_jobs

        (tmp_path / "data").mkdir(exist_ok=True)
        row = '{"sentence1": "a", "sentence2": "b", "score": 1}'
        (tmp_path / "data" / "test.jsonl").write_text(f"{row}\n{row}\n", encoding="utf-8")
        tasks = [{"local": "Pairs", "type": "STS", "data": tmp_path / "data"}]
        (job,) = build_jobs(make_config(tasks, "some/model", "none"))
        return TaskEmbedder(FixedEncoder(vectors), job.rules)  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize("how", ["search", "rerank"])
def test_queries_whose_documents_all_tie_are_a_notice(embedder: Any, how: str) -> None:
    """d1 to d3 are one vector to a query along the first axis and different ones to a query along the second."""
    found = embedder({"one": [1, 1], "two": [1, 0], "three": [1, -1], "flat": [0, 0], "steep": [0, 1]})
    queries = found.embed(["flat", "steep"], "query")
    if how == "search":
        TaskSearch(found).search(["q1", "q2"], queries, [CORPUS], 3)
    else:
        TaskSearch(found).rerank(["q1", "q2"], queries, CORPUS, {"q1": ["d1", "d2"], "q2": ["d1", "d3"]})
    assert [warning for warning in found.warnings if "documents tie for 1 of 2 queries" in warning]
    assert found.counts["texts whose vector is zero"] == 1


def test_a_sound_model_and_a_single_document_are_no_notice(embedder: Any) -> None:
    found = embedder({"one": [1, 1], "two": [1, 0], "three": [1, -1], "steep": [0, 1]})
    queries = found.embed(["steep"], "query")
    TaskSearch(found).search(["q"], queries, [CORPUS], 3)
    TaskSearch(found).rerank(["q"], queries, CORPUS, {"q": ["d1"]})
    assert found.warnings == []
    assert +found.counts == {}
