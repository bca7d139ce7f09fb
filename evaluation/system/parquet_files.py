"""Refuses Parquet files that stand for far more data than they hold, before anything reads them.

Parquet stores a value that repeats once, so that less than a megabyte can describe gigabytes. Refused is what is both
large and hundreds of times larger than the file; a large corpus is not. Imports pyarrow inside functions only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

_MAX_BYTES, _MAX_RATIO = 1 << 28, 100
"""A file may stand for a quarter of a gigabyte, or for 100 times its own size if that is more."""


def check_expansion(data: bytes | pa.Buffer, names: Sequence[str] | None = None) -> None:
    """Refuses a file's content if it stands for far more data than it holds.

    Args:
        data: The whole file.
        names: The columns that will be read; None: all.

    Raises:
        ValueError: It does; the text ends a sentence.
        OSError, pyarrow.ArrowException: It can't be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    buffer = pa.py_buffer(data)
    with parquet.ParquetFile(pa.BufferReader(buffer)) as file:
        check_opened(file, buffer, names)


def check_opened(file: parquet.ParquetFile, data: bytes | pa.Buffer, names: Sequence[str] | None = None) -> None:
    """Does what `check_expansion` does for a file whose footer was read already, so that it is read once.

    Args:
        file: The file, open; nothing of it is read here.
        data: Its content.
        names: The columns that will be read; None: all.

    Raises:
        ValueError: It stands for far more data than it holds.
        OSError, pyarrow.ArrowException: It can't be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    buffer = pa.py_buffer(data)
    limit = max(_MAX_BYTES, _MAX_RATIO * buffer.size)
    schema = file.schema
    leaves = [schema.column(number) for number in range(len(schema))]
    leaves = [leaf for leaf in leaves if names is None or leaf.path.partition(".")[0] in names]
    wanted = list(dict.fromkeys(leaf.path.partition(".")[0] for leaf in leaves))
    # of groups only: pyarrow ends the process when it is asked for the metadata of a damaged column
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    sizes = [(group.num_rows * len(wanted), max(group.total_byte_size, 0)) for group in groups]
    _check(sum(max(size) for size in sizes), limit)
    flat = all(leaf.max_repetition_level == 0 for leaf in leaves)
    if flat and sum(n_values * (n_bytes + 8) for n_values, n_bytes in sizes) <= limit:
        return  # even if each value were all that its group holds
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    n_bytes = 0
    with parquet.ParquetFile(pa.BufferReader(buffer), read_dictionary=texts) as again:  # each text once
        for number in range(again.num_row_groups):
            table = again.read_row_group(number, columns=wanted, use_threads=False)
            n_bytes += sum(_size(chunk) for column in table.columns for chunk in column.chunks)
            _check(n_bytes, limit)


def _check(n_bytes: int, limit: int) -> None:
    if n_bytes > limit:
        raise ValueError(f"it stands for {n_bytes:,} bytes, more than {_MAX_RATIO} times what it holds")


def _size(array: Any) -> int:
    """Returns the bytes of an array with every text in full, and at least one per value."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        return _n_text_bytes(array) + len(array)
    if isinstance(array, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        return len(array) + _size(array.flatten())
    if isinstance(array, pa.StructArray):
        return len(array) + sum(_size(child) for child in array.flatten())
    return max(len(array), int(array.nbytes))


def _n_text_bytes(array: Any) -> int:
    """Returns the bytes of a dictionary array's texts, each as often as it occurs; pyarrow.compute loads slowly."""
    import numpy as np

    texts, indices = array.dictionary, array.indices
    if not len(texts):
        return 0
    ends = np.frombuffer(texts.buffers()[1], np.int32, len(texts) + 1, 4 * texts.offset).astype(np.int64)
    width = indices.type.bit_width // 8
    rows = np.frombuffer(indices.buffers()[1], f"i{width}", len(indices), width * indices.offset)
    return int(np.diff(ends)[np.clip(rows, 0, len(texts) - 1)].sum())  # the row of a missing value is any number
