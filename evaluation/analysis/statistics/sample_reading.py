"""Reads a job's samples.parquet; `sample_columns.py` says what its metric needs of it.

Queries whose relevant documents are the same, as qrels.parquet says, are marked as one cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.analysis.statistics.sample_columns import Kind, reading_of
from evaluation.analysis.statistics.scorers import Statistic
from evaluation.analysis.statistics.shared_texts import (
    CLUSTER,
    Part,
    Places,
    RelevantDocuments,
    document_clusters,
    relevant_documents,
    sentence_clusters,
)
from evaluation.errors import StoreError
from evaluation.records.job_record import JobRecord
from evaluation.records.parquet_tables import open_table, stored_bytes

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

_PLACE: Final = ["split", "subset"]
_FILE: Final = "samples.parquet"


class Samples(NamedTuple):
    """A job's samples as its metric sees them.

    Attributes:
        parts: Split, subset, ids and arrays of each (see `units.UnitPart`).
    """

    statistic: Statistic
    kind: Kind
    parts: list[Part]


class SampleReader:
    """Reads the samples of stored jobs. What models have in common, ids and judgements, is read and held once."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._texts: dict[tuple[Any, ...], NDArray[Any]] = {}
        self._documents: dict[str, RelevantDocuments] = {}
        self._clusters: dict[tuple[str, Places], list[NDArray[np.int64]] | None] = {}

    def read(self, folder: Path, record: JobRecord) -> Samples | None:
        """Reads the samples of a stored job; None where they do not hold what its metric is computed from.

        Raises:
            DamagedFileError: A file is missing or is not what was written.
            StoreError: A file cannot be read.
        """
        import pyarrow as pa

        opened = open_table(folder, record, _FILE, dictionaries=_PLACE)
        if opened is None:
            return None
        try:
            with opened as stored:
                available = stored.schema_arrow.names
                reading = reading_of(record, available)
                if reading is None or not {*_PLACE, *reading.columns} <= set(available):
                    return None
                wanted = [*reading.columns, *(name for name in reading.texts if name in available)]
                whole = _holds_one_subset(stored.metadata)
                table = stored.read([*wanted, *([] if whole else _PLACE)], use_threads=False)  # threads cost more
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{folder / _FILE} cannot be read: {error}.") from error
        columns = {name: self._column(table[name]) for name in wanted}
        parts: list[Part] = []
        for split, entries in record.scores.items():
            for subset in (entry.subset for entry in entries):
                rows = (
                    _rows_of(table, split, subset)
                    if whole is None
                    else slice(0, len(table) * (whole == (split, subset)))
                )
                own = {name: column[rows] for name, column in columns.items()}
                if not len(own[wanted[0]]):
                    return None
                for suffix, ids, arrays in reading.read(own):
                    parts.append((split, subset + suffix, self._ids.setdefault(ids, ids), arrays))
        if reading.kind == "query":
            parts = self._with_clusters(folder, record, parts)
        return Samples(reading.statistic, reading.kind, sentence_clusters(parts) if reading.texts else parts)

    def _column(self, column: pa.ChunkedArray) -> NDArray[Any]:
        """The values of a column; strings, which models have in common, are made once from equal bytes."""
        import pyarrow as pa

        joined = column.combine_chunks()
        if not pa.types.is_string(joined.type) or joined.offset:
            return _array(joined)
        key = len(joined), *(buffer and buffer.to_pybytes() for buffer in joined.buffers())
        if key not in self._texts:
            self._texts[key] = _array(joined)
        return self._texts[key]

    def _with_clusters(self, folder: Path, record: JobRecord, parts: list[Part]) -> list[Part]:
        """The parts with an array `CLUSTER` where queries have the same relevant documents."""
        documents, sha256 = self._relevant_documents(folder, record)
        key = sha256, tuple(part[:3] for part in parts)
        if key not in self._clusters:
            self._clusters[key] = document_clusters(documents, key[1])
        found = self._clusters[key]
        if found is None:
            return parts
        return [(*part[:3], {**part[3], CLUSTER: numbers}) for part, numbers in zip(parts, found, strict=True)]

    def _relevant_documents(self, folder: Path, record: JobRecord) -> tuple[RelevantDocuments, str]:
        """What qrels.parquet says, and its checksum."""
        name = "qrels.parquet"
        sha256 = record.files.get(name, "")
        if sha256 not in self._documents:
            data = stored_bytes(folder, record, name)
            self._documents[sha256] = {} if data is None else relevant_documents(data, folder / name)
        return self._documents[sha256], sha256


def _holds_one_subset(metadata: parquet.FileMetaData) -> tuple[str, str] | None:
    """The split and subset of all rows, if the file's statistics show that there is one only."""
    names = metadata.schema.names
    at = [names.index(name) for name in _PLACE]
    places = set()
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        split, subset = (group.column(number).statistics for number in at)
        for found in (split, subset):
            if found is None or not found.has_min_max or found.null_count or found.min != found.max:
                return None
        places.add((split.min, subset.min))
    return places.pop() if len(places) == 1 else None


def _rows_of(table: pa.Table, split: str, subset: str) -> NDArray[np.intp]:
    """The rows of a split and subset."""
    here = np.ones(len(table), bool)
    for column, wanted in ((table["split"], split), (table["subset"], subset)):
        indices = column.combine_chunks()
        here &= (np.array(indices.dictionary.to_pylist(), object) == wanted)[_array(indices.indices)]
    return np.flatnonzero(here)


def _array(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """Numbers as numbers, missing ones as NaN; strings and lists as objects. `to_numpy` would import pandas."""
    import pyarrow as pa

    joined = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if joined.null_count == 0 and (pa.types.is_integer(joined.type) or pa.types.is_floating(joined.type)):
        return np.asarray(np.from_dlpack(joined))
    values = joined.to_pylist()
    if values and isinstance(values[0], str | list):
        array = np.empty(len(values), object)
        array[:] = values
        return array
    return np.array([np.nan if value is None else value for value in values])
