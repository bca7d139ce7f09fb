"""The parquet tables beside a record: writes them, and finds them again with their checksums. Knows no scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evaluation.errors import StoreError
from evaluation.records.job_record import JobRecord
from evaluation.system.atomic_files import read_checked, write_atomically
from evaluation.system.parquet_files import check_opened
from evaluation.system.redaction import HIDDEN, secret_forms

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

SENTENCE_HASHES: Final = ("sentence1_hash", "sentence2_hash")
"""Columns of the samples of tasks on pairs: pairs with the same hash share a sentence."""


def write_tables(folder: Path, tables: Mapping[str, pa.Table]) -> list[str]:
    """Writes tables as <name>.parquet and deletes those of an earlier start that stored more.

    Args:
        tables: By name: samples, run, qrels, texts.

    Returns:
        The names of the files.

    Raises:
        StoreError: The folder can't be written.
    """
    import pyarrow.parquet as pq

    names = []
    for name, given in tables.items():
        table = _without_secrets(given)
        names.append(f"{name}.parquet")
        write_atomically(
            folder / names[-1],
            lambda path, table=table: pq.write_table(table, path, compression="zstd"),  # type: ignore[misc]
        )
    for file in folder.glob("*.parquet"):
        if file.name not in names:
            file.unlink()
    return names


def _without_secrets(table: pa.Table) -> pa.Table:
    """Hides secrets in columns of strings: data may hold them, such as the texts of a company's own wiki."""
    import pyarrow as pa
    import pyarrow.compute as pc

    forms = secret_forms()
    pattern = "|".join(map(re.escape, forms))
    for place, field in enumerate(table.schema if forms else ()):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            hidden = pc.replace_substring_regex(table.column(place), pattern, HIDDEN)
            table = table.set_column(place, field, hidden)
    return table


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
    return None if stored_bytes(folder, record, name) is None else folder / name


def stored_bytes(folder: Path, record: JobRecord, name: str) -> bytes | None:
    """Reads one of the files beside a record and checks it; None where the job stored no such file.

    Raises:
        DamagedFileError: The file is missing, or is not what was written.
        StoreError: The file can't be read, or is a table that stands for gigabytes.
    """
    if name not in record.files:
        return None
    data = read_checked(folder / name, record.files[name])
    if name.endswith(".parquet"):
        _opened(folder / name, data, ()).close()
    return data


def open_table(
    folder: Path, record: JobRecord, name: str, *, dictionaries: Sequence[str] = ()
) -> parquet.ParquetFile | None:
    """Opens one of the tables beside a record, checked as `stored_bytes` does; its footer is read once.

    Args:
        folder: The job's folder (`RunStore.job_folder`).
        record: The job's record, which holds the file's checksum.
        name: Such as "samples.parquet".
        dictionaries: Columns to read with each distinct value stored once.

    Returns:
        The table, for the caller to close; None where the job stored no such table.

    Raises:
        DamagedFileError: The file is missing, or is not what was written.
        StoreError: The file can't be read, or is a table that stands for gigabytes.
    """
    if name not in record.files:
        return None
    file = folder / name
    return _opened(file, read_checked(file, record.files[name]), dictionaries)


def _opened(file: Path, data: bytes, dictionaries: Sequence[str]) -> parquet.ParquetFile:
    """Refuses a table that stands for gigabytes: a checksum shows that it is the one that the record names, no more.

    Raises:
        StoreError: It does, or it is not a table.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(pa.BufferReader(data), read_dictionary=list(dictionaries))
        check_opened(table, data)
        return table
    except (ValueError, OSError, pa.ArrowException) as error:
        raise StoreError(f"{file} can't be read: {str(error).rstrip('.')}.") from error
