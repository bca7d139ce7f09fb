"""What a task's score can be recomputed from: its queries, examples or texts, read from a job's stored samples.

Knows no resampling; `scorers.py` turns units into scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from evaluation.records import JobRecord

Kind = Literal["query", "example", "algorithm"]


@dataclass(frozen=True, slots=True)
class UnitPart:
    """The units of one split and subset.

    Attributes:
        ids: (N,) What two models' units are paired by, ascending; unique.
        arrays: Numbers by name, float64 or int64, each with N as its last dimension:
            "value" (N,) or (E, N) where the score is a mean (E experiments);
            "gold" (N,) and "prediction" (N,), (E, N) or (columns, N) otherwise.
    """

    split: str
    subset: str
    ids: tuple[str, ...]
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Units:
    """One model's scored units of one task: all its chosen splits and subsets.

    Attributes:
        metric: mteb's name of the score, such as "ndcg_at_10".
        kind: What a unit is. "algorithm": clustering's experiments, never in a test of significance.
        parts: One a split and subset. The task's score is the mean of the parts' scores, 0-1.
    """

    task: str
    type: str
    metric: str
    kind: Kind
    parts: tuple[UnitPart, ...]

    @property
    def n_units(self) -> int:
        """Number of queries, examples or texts over all parts."""
        return sum(len(part.ids) for part in self.parts)


def load_units(folder: Path, record: JobRecord) -> Units | None:
    """The units of a stored job.

    Args:
        folder: The job's folder (`RunStore.job_folder`), which holds samples.parquet.
        record: Its record.

    Returns:
        None where nothing is stored that its score can be recomputed from.

    Raises:
        StoreError: samples.parquet can't be read.
    """
    raise NotImplementedError


def units_to_bytes(units: Units) -> bytes:
    """Units as compressed bytes, the same for the same units; no pickle."""
    raise NotImplementedError


def units_from_bytes(data: bytes) -> Units:
    """Units from what `units_to_bytes` gave.

    Raises:
        StoreError: The bytes are damaged or of another format.
    """
    raise NotImplementedError


def score(units: Units) -> float:
    """The task's score, 0-1, as mteb computes it from these units; equals the record's main score."""
    raise NotImplementedError
