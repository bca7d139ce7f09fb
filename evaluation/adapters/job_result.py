"""What an adapter returns for one job, before it becomes a record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from evaluation.errors import EncodingError
from evaluation.records.job_audit import JobAudit
from evaluation.records.job_record import StoredVectors, SubsetScores, Timing
from evaluation.records.origin import WordSettings


@dataclass(slots=True)
class JobResult:
    """Scores of one job, and what they can be recomputed from.

    Attributes:
        scores: Split -> scores of each subset.
        audit: What text reached the model.
        warnings: What looked wrong about the input.
        counts: What was dropped or noticed in the data.
        timing: Seconds by phase.
        tables: Samples, run, qrels and texts, by file name.
        words: How BM25 ranked; None for a model with vectors.
        dataset_content: sha256 of the loaded rows.
        vectors: What storing the vectors takes.
        mteb_files: Content by name in mteb's results folder; empty where nothing may be exported.
    """

    scores: dict[str, tuple[SubsetScores, ...]]
    audit: JobAudit
    warnings: list[str]
    counts: dict[str, int]
    timing: Timing
    tables: dict[str, pa.Table] = field(default_factory=dict)
    mteb_files: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    dataset_content: str = ""
    words: WordSettings | None = None
    vectors: StoredVectors | None = None

    @property
    def main_score(self) -> float:
        """Mean of the main metric over splits and subsets, 0-1.

        Raises:
            EncodingError: A main score is not a number, which leaves the job without a score.
        """
        values = []
        for split, entries in self.scores.items():
            for entry in entries:
                if entry.main_score is None or not math.isfinite(entry.main_score):
                    raise EncodingError(
                        f"the main score of split {split!r}, subset {entry.subset!r} is {entry.main_score}: "
                        "it is undefined on this data (a constant prediction or gold column, or nothing to score)."
                    )
                values.append(entry.main_score)
        return sum(values) / len(values)
