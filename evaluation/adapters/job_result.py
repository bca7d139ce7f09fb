"""What an adapter hands back for one job, before it becomes a record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from evaluation.errors import EncodingError


@dataclass(slots=True)
class JobResult:
    """Scores of one job and what they can be recomputed from.

    Attributes:
        scores: Split -> metrics of each subset, with hf_subset and main_score, as in mteb's result files.
        tables: samples, run and texts, by file name.
        dataset_content: sha256 of the loaded rows.
        mteb_files: A file's name in mteb's results folder -> its content; empty where nothing may be exported.
    """

    scores: dict[str, list[dict[str, Any]]]
    audit: dict[str, Any]
    warnings: list[str]
    counts: dict[str, int]
    timing: dict[str, Any]
    tables: dict[str, pa.Table] = field(default_factory=dict)
    mteb_files: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    dataset_content: str = ""

    @property
    def main_score(self) -> float:
        """Mean of the main metric over splits and subsets, 0-1.

        Raises:
            EncodingError: It is not a number somewhere: no score, never zero.
        """
        values = [float(entry["main_score"]) for entries in self.scores.values() for entry in entries]
        for split, entries in self.scores.items():
            for entry in entries:
                if not math.isfinite(float(entry["main_score"])):
                    raise EncodingError(
                        f"the main score of split {split!r}, subset {entry['hf_subset']!r} is {entry['main_score']}: "
                        "it is undefined on this data (a constant prediction or gold column, or nothing to score)."
                    )
        return sum(values) / len(values)
