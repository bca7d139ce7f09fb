"""The units of a task: the queries, examples or texts that its score is computed from. Scores, reads and writes them.

`sample_reading.py` reads them from a job's stored samples. Knows no statistics of uncertainty.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.analysis.statistics.sample_columns import Kind
from evaluation.analysis.statistics.sample_reading import SampleReader
from evaluation.analysis.statistics.scorers import Statistic, score_part
from evaluation.analysis.statistics.shared_texts import CLUSTER
from evaluation.errors import ComparisonError, StoreError
from evaluation.records.job_record import JobRecord
from evaluation.system.limited_reading import decompress, parse_json

FORMAT: Final = "e5-evaluation units 1"
_MAX_BYTES, _MAX_NUMBERS = 1 << 28, 1 << 25
"""Of a job's units, unpacked: 33 million numbers, far more than the largest task of mteb has."""
SCORE_TOLERANCE: Final = 1e-9
"""Units are used only if the score recomputed from them is this close to the recorded one."""


@dataclass(frozen=True, slots=True, eq=False)
class UnitPart:
    """The units of one split and subset (of one fold, in cross-validation).

    Attributes:
        ids: (N,) unique ids by which two models' units are paired, in stored order.
        arrays: Numbers by name, each with N as its last dimension: "value" (N,) or (E, N) where the score is a mean
            (E experiments); otherwise "gold" (N,) and "prediction" (N,), (E, N) or (columns, N), with labels and
            similarities as codes or ranks, which are all that the score depends on. Classification has "gold" beside
            "value", for what a constant answer scores. "cluster", where present: see `shared_texts.CLUSTER`.
    """

    split: str
    subset: str
    ids: tuple[str, ...]
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Units:
    """One model's scored units of one task: all its chosen splits and subsets.

    Attributes:
        metric: mteb's name of the score, such as "ndcg_at_10".
        statistic: How the score follows from a part's arrays.
        kind: What a unit is. "algorithm": an experiment of clustering, which shows the algorithm's chance only.
        parts: One per split and subset. The task's score is the mean of the parts' scores, 0-1.
    """

    task: str
    type: str
    metric: str
    statistic: Statistic
    kind: Kind
    parts: tuple[UnitPart, ...]

    @property
    def n_units(self) -> int:
        """Number of queries, examples or texts in all parts."""
        return sum(len(part.ids) for part in self.parts)

    @cached_property
    def part_scores(self) -> tuple[float, ...]:
        """The score of each part, 0-1."""
        return tuple(score_part(self.statistic, part.arrays) for part in self.parts)


def load_units(folder: Path, record: JobRecord, reader: SampleReader | None = None) -> Units | None:
    """Reads the units of a stored job.

    Args:
        folder: The job's folder (`RunStore.job_folder`), which holds samples.parquet.
        record: Its record.
        reader: Holds what the jobs of several models have in common.

    Returns:
        None where the recorded score cannot be recomputed from the stored samples: the job failed, there are no
        samples, the metric needs more than they hold, or the task class of mteb has its own way of scoring.

    Raises:
        StoreError: samples.parquet cannot be read.
    """
    found = (reader or SampleReader()).read(folder, record)
    if found is None or not found.parts or record.main_score is None:
        return None
    parts = tuple(UnitPart(*part) for part in found.parts)
    units = Units(record.task, record.type, record.metric, found.statistic, found.kind, parts)
    return units if abs(score(units) - record.main_score) <= SCORE_TOLERANCE else None


def score(units: Units) -> float:
    """Returns the task's score, 0-1, as mteb computes it from these units; it equals the record's main score."""
    return sum(units.part_scores) / len(units.parts)


def aggregate_units(task: str, members: Sequence[Units]) -> Units:
    """Returns the units of an aggregate task, such as CQADupstack, made from those of its tasks.

    Raises:
        ComparisonError: The members differ in type, metric or number of parts, so that the mean over tasks is not the
            mean over parts.
    """
    kinds = {(units.type, units.metric, units.statistic, units.kind, len(units.parts)) for units in members}
    if len(kinds) != 1:
        raise ComparisonError(
            f"{task}: its parts cannot be taken as one task: they differ in type, metric or number of subsets."
        )
    parts = [
        replace(
            part,
            subset=f"{units.task}/{part.subset}",
            ids=_prefixed(units.task, part.ids),  # the same id in two tasks is two queries
            arrays={
                name: array + (at << 32) if name == CLUSTER else array  # likewise documents
                for name, array in part.arrays.items()
            },
        )
        for at, units in enumerate(sorted(members, key=lambda units: units.task))
        for part in units.parts
    ]
    return replace(members[0], task=task, parts=tuple(parts))


@lru_cache(maxsize=256)
def _prefixed(task: str, ids: tuple[str, ...]) -> tuple[str, ...]:
    """The ids of a part of an aggregate, which are the same for all models."""
    return tuple(f"{task}/{id_}" for id_ in ids)


def units_to_bytes(units: Units) -> bytes:
    """Returns units as compressed bytes, always the same for the same units; no pickle."""
    parts: list[dict[str, Any]] = []
    arrays: list[NDArray[Any]] = []
    for part in units.parts:
        packed = {name: _packed(array) for name, array in sorted(part.arrays.items())}
        layout = {name: [array.dtype.str, list(array.shape)] for name, array in packed.items()}
        ids = None if part.ids == _numbers(len(part.ids)) else part.ids
        parts.append({"split": part.split, "subset": part.subset, "n": len(part.ids), "ids": ids, "arrays": layout})
        arrays += packed.values()
    fields = {name: getattr(units, name) for name in ("task", "type", "metric", "statistic", "kind")}
    header = json.dumps({"format": FORMAT, **fields, "parts": parts}, ensure_ascii=False, sort_keys=True)
    content = b"".join([header.encode(), b"\n", *(np.ascontiguousarray(array).tobytes() for array in arrays)])
    return zlib.compress(content, 9)


def units_from_bytes(data: bytes) -> Units:
    """Reads what `units_to_bytes` wrote.

    Raises:
        StoreError: The bytes are damaged or have another format.
    """
    try:
        header, _, content = decompress(data, max_bytes=_MAX_BYTES).partition(b"\n")
        fields = parse_json(header)
        if fields.pop("format") != FORMAT:
            raise StoreError(f"stored units have a format that this version cannot read (it reads {FORMAT!r}).")
        parts, offset = [], 0
        described = fields.pop("parts")
        if sum(math.prod(shape) for part in described for _, shape in part["arrays"].values()) > _MAX_NUMBERS:
            raise ValueError(f"they hold more than {_MAX_NUMBERS:,} numbers")
        for part in described:
            arrays = {}
            for name, (dtype, shape) in sorted(part["arrays"].items()):
                flat = np.frombuffer(content, dtype, int(np.prod(shape)), offset)
                wide = np.float64 if flat.dtype.kind == "f" else np.int64
                arrays[name], offset = flat.reshape(shape).astype(wide), offset + flat.nbytes
            if any(array.shape[-1] != part["n"] for array in arrays.values()):
                raise ValueError(f"the number of units is {part['n']!r}, and their arrays differ")
            ids = _numbers(part["n"]) if part["ids"] is None else tuple(part["ids"])
            parts.append(UnitPart(part["split"], part["subset"], ids, arrays))
        return Units(**fields, parts=tuple(parts))
    except (zlib.error, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise StoreError(f"stored units are damaged: {error}.") from error


def _numbers(n: int) -> tuple[str, ...]:
    return tuple(map(str, range(n)))


def _packed(array: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers in the smallest type that holds them, little-endian."""
    if array.dtype.kind == "f":
        return array.astype("<f8")
    return array.astype(np.promote_types(np.min_scalar_type(array.min()), np.min_scalar_type(array.max())))
