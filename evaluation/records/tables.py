"""The parquet tables beside a record: writes them, and finds them again with their checksums. Knows no scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evaluation.records.job_record import JobRecord
from evaluation.system.atomic_files import check_file, read_checked, write_atomically

if TYPE_CHECKING:
    import pyarrow as pa

SENTENCE_HASHES: Final = ("sentence1_hash", "sentence2_hash")
"""Columns of the samples of tasks on pairs: pairs with the same hash share a sentence."""


def write_tables(folder: Path, tables: Mapping[str, pa.Table]) -> list[str]:
    """Writes tables as <name>.parquet and deletes those of an earlier start that stored more.

    Args:
        folder: The job's folder.
        tables: By name: samples, run, qrels, texts.

    Returns:
        The names of the files.

    Raises:
        StoreError: The folder can't be written.
    """
    import pyarrow.parquet as pq

    names = []
    for name, table in tables.items():
        names.append(f"{name}.parquet")
        write_atomically(
            folder / names[-1],
            lambda path, table=table: pq.write_table(table, path, compression="zstd"),  # type: ignore[misc]
        )
    for file in folder.glob("*.parquet"):
        if file.name not in names:
            file.unlink()
    return names


def stored_file(folder: Path, record: JobRecord, name: str) -> Path | None:
    """Finds one of the files beside a record; None where the job stored no such file.

    Args:
        folder: The job's folder (`RunStore.job_folder`).
        record: The job's record, which holds the file's checksum.
        name: Such as "samples.parquet".

    Raises:
        DamagedFileError: The file is missing, or is not what was written.
        StoreError: The file can't be read.
    """
    if name not in record.files:
        return None
    file = folder / name
    check_file(file, record.files[name])
    return file


def stored_bytes(folder: Path, record: JobRecord, name: str) -> bytes | None:
    """Reads one of the files beside a record and checks it; None where the job stored no such file.

    Raises:
        DamagedFileError: The file is missing, or is not what was written.
        StoreError: The file can't be read.
    """
    return read_checked(folder / name, record.files[name]) if name in record.files else None
