"""Reads one table of local data (jsonl, csv, tsv, parquet, arrow) into columns, and notes every fault by file and line.

Knows nothing of task types, of folder layouts, of mteb or torch.
"""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from evaluation.errors import MissingExtraError
from evaluation.system.parquet_files import check_expansion
from evaluation.tasks.local.layouts import ARROW, DataPath, Table, format_of
from evaluation.tasks.local.notes import MAX_VALUE_BYTES, Notes, not_utf8, show

_BINARY: Final = frozenset({".parquet", ARROW})
MISSING: Final = object()  # in place of the value of a key that a row lacks
REFUSED: Final = object()  # what a check returns for a value that breaks the rule


@dataclass(slots=True)
class Rows:
    """The wanted columns of one file or table, in file order, and what is needed to report faults in them.

    Attributes:
        path: The file; of a table of several files, the first.
        columns: Those of the wanted columns that the file has; MISSING where a row lacks the key.
        numbers: The first line of each row in its file; in Parquet and Arrow the number of the row, from 1.
        needs: What every row needs, as the end of a message.
        header: For all formats but JSON, its line (0 in Parquet and Arrow) and the names of all columns.
        later_files: Of a table of several files, each further file and the position of its first row.
    """

    notes: Notes
    path: DataPath
    needs: str
    columns: dict[str, list[Any]]
    numbers: Sequence[int]
    header: tuple[int, list[str]] | None = None
    later_files: list[tuple[int, DataPath]] = field(default_factory=list)

    @property
    def is_csv(self) -> bool:
        """Whether the format has only strings."""
        return format_of(self.path) in {".csv", ".tsv"}

    def place(self, at: int) -> str:
        """Returns file and line of a row."""
        path = self.file_of(at)
        return f"{path}, {'row' if format_of(path) in _BINARY else 'line'} {self.numbers[at]}"

    def file_of(self, at: int) -> DataPath:
        """Returns the file that a row is in."""
        return next((file for start, file in reversed(self.later_files) if start <= at), self.path)

    def append(self, other: Rows) -> None:
        """Adds the rows of the table's next file; a column that only some files have is MISSING in the others."""
        before, added = len(self.numbers), len(other.numbers)
        for name in {**self.columns, **other.columns}:
            column = self.columns.setdefault(name, [MISSING] * before)
            column.extend(other.columns.get(name, [MISSING] * added))
        self.later_files.append((before, other.path))
        self.numbers = array("q", chain(self.numbers, other.numbers))

    def convert(self, name: str, must_be: str, check: Callable[[Any], Any]) -> list[Any]:
        """Returns the column with each value passed through `check`; a refused value is REFUSED, and a problem."""
        column = self.columns.get(name)
        if column is None:
            self._refuse_column(name)
            return [REFUSED] * len(self.numbers)
        converted = [REFUSED if value is MISSING else check(value) for value in column]
        for at, value in enumerate(converted):
            if value is REFUSED and column[at] is MISSING:
                self.notes.problem(self.place(at), f'"{name}" is missing; {self.needs}.')
            elif value is REFUSED:
                what = "" if self.notes.full else show(column[at])
                self.notes.problem(self.place(at), f'"{name}" is {what}; it must be {must_be}.')
        return converted

    def _refuse_column(self, name: str) -> None:
        if self.header is not None:
            line, header = self.header
            place = f"{self.path}, line {line}" if line else self.path
            self.notes.problem(place, f'there is no column "{name}" among {show(header)}; {self.needs}.')
        elif self.numbers:
            every = ", as in every row of the file" if len(self.numbers) > 1 else ""
            self.notes.problem(self.place(0), f'"{name}" is missing{every}; {self.needs}.')

    def texts(self, name: str) -> list[str]:
        """Returns the column's strings; blank ones are kept and counted."""
        column = self.columns.get(name, [])
        if set(map(type, column)) != {str}:
            column = self.convert(name, "a string", lambda value: value if isinstance(value, str) else REFUSED)
        self.count_blank(column)
        return column

    def count_blank(self, texts: Sequence[Any]) -> None:
        """Counts the strings that consist of white space only."""
        blank = sum(1 for text in texts if isinstance(text, str) and (not text or text.isspace()))
        self.notes.counts["blank texts"] += blank

    def ids(self, name: str) -> list[str]:
        """Returns the column's ids as strings; a repeated id is a problem."""
        ids = self.convert(name, "a non-empty string or an integer", as_id)
        if len(set(ids)) < len(ids):
            first: dict[Any, int] = {}
            for at, value in enumerate(ids):
                if first.setdefault(value, at) != at and value is not REFUSED:
                    before = self.place(first[value]).removeprefix(f"{self.file_of(at)}, ")
                    self.notes.problem(
                        self.place(at), f'"{name}" {show(value)} already appears in {before}; ids must be unique.'
                    )
        return ids


def read_rows(notes: Notes, files: Table, names: Sequence[str], needs: str, *, optional: Sequence[str] = ()) -> Rows:
    """Reads the columns `names` and `optional` of a table. Problems, such as one without rows, go to `notes`.

    Raises:
        MissingExtraError: A file is Parquet or Arrow and pyarrow is not installed.
    """
    before = notes.total
    wanted = [*names, *optional]
    rows, *others = (_read_file(notes, path, wanted, needs) for path in files)
    for other in others:
        rows.append(other)
    if not rows.numbers and notes.total == before:
        notes.problem(rows.path, f"is empty; at least one row is needed, and {needs}.")
    return rows


def _read_file(notes: Notes, path: DataPath, names: Sequence[str], needs: str) -> Rows:
    match format_of(path):
        case ".csv":
            return _read_csv(notes, path, names, needs)
        case ".tsv":
            return _read_tsv(notes, path, names, needs)
        case ".parquet" | ".arrow":
            return _read_arrow(notes, path, names, needs)
    return _read_jsonl(notes, path, names, needs)


def as_id(value: Any) -> Any:  # a check answers a string or REFUSED
    """Returns the id as a string; REFUSED where the value can't be an id."""
    return value if isinstance(value, str) and value else str(value) if type(value) is int else REFUSED


def _read_jsonl(notes: Notes, path: DataPath, names: Sequence[str], needs: str) -> Rows:
    columns: dict[str, list[Any]] = {name: [] for name in names}
    fields = list(columns.items())
    numbers = array("q")
    for number, line in notes.text_lines(path):
        try:
            row = notes.parse_json(line, names)
        except ValueError as error:
            notes.problem(f"{path}, line {number}", f"is not valid JSON: {error}.")
            continue
        if not isinstance(row, dict):
            notes.problem(f"{path}, line {number}", f"is {show(row)}; a line must be a JSON object, and {needs}.")
            continue
        numbers.append(number)
        for name, column in fields:
            column.append(row.get(name, MISSING))
    present = {name: column for name, column in fields if any(value is not MISSING for value in column)}
    return Rows(notes, path, needs, present, numbers)


def _read_csv(notes: Notes, path: DataPath, names: Sequence[str], needs: str) -> Rows:
    data = b"".join(notes.byte_lines(path))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        notes.problem(f"{path}, line {line}", not_utf8(error))
        return Rows(notes, path, needs, {}, [])
    csv.field_size_limit(MAX_VALUE_BYTES)  # belongs to the process, and is at first less than a long document
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = Rows(notes, path, needs, {}, numbers := array("q"))
    fields: list[tuple[int, list[Any]]] = []
    start = 1  # a record's first line: the one after the last line of the record before
    try:
        for cells in reader:
            number, start = start, reader.line_num + 1
            if cells and rows.header is None:
                rows.header = (number, [cell.strip() for cell in cells])
                fields = _open_columns(rows, names)
            elif cells and rows.header and len(cells) != len(rows.header[1]):
                expected = len(rows.header[1])
                notes.problem(f"{path}, line {number}", f"has {len(cells)} cells; the header has {expected}.")
            elif cells:
                numbers.append(number)
                for at, column in fields:
                    column.append(cells[at])
    except csv.Error as error:
        notes.problem(f"{path}, line {start}", f"is not valid CSV: {error}.")
    return rows


def _read_tsv(notes: Notes, path: DataPath, names: Sequence[str], needs: str) -> Rows:
    """Reads tab-separated ids and texts, as MS MARCO has them, with or without a header. Nothing is quoted."""
    rows = Rows(notes, path, needs, {}, numbers := array("q"))
    fields: list[tuple[int, list[Any]]] = []
    for number, line in notes.text_lines(path):
        cells = line.split("\t")
        if rows.header is None:
            is_header = not {"_id", "id", "text"}.isdisjoint(cells)
            if not is_header and len(cells) != 2:
                has = f"has {len(cells)} field{'s' if len(cells) > 1 else ''} and no header"
                notes.problem(f"{path}, line {number}", f"{has}; a line is id and text, with a tab between.")
                break
            rows.header = (number, [cell.strip() for cell in cells] if is_header else ["_id", "text"])
            fields = _open_columns(rows, names)
            if is_header:
                continue
        if len(cells) != len(rows.header[1]):
            notes.problem(f"{path}, line {number}", f"has {len(cells)} fields; it must have {len(rows.header[1])}.")
            continue
        numbers.append(number)
        for at, column in fields:
            column.append(cells[at])
    return rows


def _open_columns(rows: Rows, names: Sequence[str]) -> list[tuple[int, list[Any]]]:
    """Adds to `rows` an empty column for each wanted name in its header; returns each one's position and column."""
    assert rows.header is not None, rows
    line, header = rows.header
    for name in names:
        if header.count(name) > 1:
            rows.notes.problem(f"{rows.path}, line {line}", f'the column "{name}" appears {header.count(name)} times.')
        if name in header:
            rows.columns[name] = []
    return [(header.index(name), column) for name, column in rows.columns.items()]


def _read_arrow(notes: Notes, path: DataPath, names: Sequence[str], needs: str) -> Rows:
    """Reads a Parquet file, or an Arrow file as `datasets` writes it."""
    kind = "Arrow" if format_of(path) == ARROW else "Parquet"
    try:
        import pyarrow
        from pyarrow import ipc, parquet
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: reading {kind} needs pyarrow; install it with: pip install pyarrow"
        ) from error
    rows = Rows(notes, path, needs, {}, [])
    before = notes.total
    data = b"".join(notes.byte_lines(path))
    if notes.total > before:
        return rows
    try:
        buffer = pyarrow.BufferReader(data)
        if kind == "Arrow":
            table = ipc.open_stream(buffer).read_all()
            header, n_rows = list(table.column_names), table.num_rows
        else:
            check_expansion(data, names)
            file = parquet.ParquetFile(buffer)
            header, n_rows = list(file.schema_arrow.names), file.metadata.num_rows
            table = file.read(columns=[name for name in names if name in header])
        rows.columns = {name: table.column(name).to_pylist() for name in names if name in header}
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        notes.problem(path, f"is not a readable {kind} file: {error}.")
        return rows
    rows.header = (0, header)
    rows.numbers = range(1, n_rows + 1)
    return rows
