"""Rankings of a task's documents, and what the searches of one job leave for its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class RankedRun:
    """A ranking: for each query the ids and scores of its documents, best first."""

    document_ids: dict[str, list[str]] = field(default_factory=dict)
    scores: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def of_results(cls, found: Mapping[str, Mapping[str, float]]) -> RankedRun:
        """Returns a ranking in trec_eval's order: by score, documents of equal score by larger id first."""
        run = cls()
        for query, scores in found.items():
            best = sorted(scores.items(), key=lambda item: (item[1], item[0]), reverse=True)
            run.document_ids[query] = [document for document, _ in best]
            run.scores[query] = np.array([score for _, score in best], np.float32)
        return run

    def as_results(self) -> dict[str, dict[str, float]]:
        """Returns query id -> document id -> score, as pytrec_eval takes it."""
        return {
            query: dict(zip(self.document_ids[query], self.scores[query].tolist(), strict=True))
            for query in self.document_ids
        }


@dataclass(slots=True)
class Ties:
    """Counts queries whose documents all have one score."""

    n_ranked: int = 0
    n_tied: int = 0

    def add(self, scores: NDArray[np.float32]) -> None:
        """Adds the scores of queries with more than one document; (Q, K), best first."""
        if scores.shape[1] > 1:
            self.n_ranked += len(scores)
            self.n_tied += int((scores[:, 0] == scores[:, -1]).sum())

    @property
    def warnings(self) -> list[str]:
        """A warning where the order of documents says nothing about the model."""
        tied = f"documents tie for {self.n_tied} of {self.n_ranked} queries"
        return [f"{tied}: all ranked documents have one score, and their ids decide the order."] if self.n_tied else []


class KeptSearches:
    """The searches of one job, by (split, subset).

    Attributes:
        runs: The ranking.
        query_texts: Query id -> text.
        corpora: The dataset searched.
    """

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str], RankedRun] = {}
        self.query_texts: dict[tuple[str, str], dict[str, str]] = {}
        self.corpora: dict[tuple[str, str], Any] = {}
