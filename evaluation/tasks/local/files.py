"""Reads one file of local data (jsonl, csv, parquet) into columns, and notes every fault by file and line.

Knows nothing of task types, of folder layouts, of mteb or torch.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from evaluation.errors import MissingExtraError
from evaluation.system.parquet_files import check_expansion
from evaluation.tasks.local.notes import MAX_VALUE_BYTES, Notes, not_utf8, show

FORMATS: Final = (".jsonl", ".csv", ".parquet")
MISSING: Final = object()  # in place of the value of a key that a row lacks
REFUSED: Final = object()  # what a check returns for a value that breaks the rule


@dataclass(slots=True)
class Rows:
    """The wanted columns of one file, in file order, and what is needed to report faults in them.

    Attributes:
        columns: Those of the wanted columns that the file has; MISSING where a row lacks the key.
        numbers: The first line of each row in the file; in Parquet the number of the row, from 1.
        needs: What every row needs, as the end of a message.
        header: For CSV and Parquet, its line (0 in Parquet) and the names of all columns.
    """

    notes: Notes
    path: Path
    needs: str
    columns: dict[str, list[Any]]
    numbers: Sequence[int]
    header: tuple[int, list[str]] | None = None

    @property
    def is_csv(self) -> bool:
        """Whether the format has only strings."""
        return self.path.suffix == ".csv"

    def place(self, at: int) -> str:
        """Returns file and line of a row."""
        return f"{self.path}, {'row' if self.path.suffix == '.parquet' else 'line'} {self.numbers[at]}"

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
                    before = self.place(first[value]).removeprefix(f"{self.path}, ")
                    self.notes.problem(
                        self.place(at), f'"{name}" {show(value)} already appears in {before}; ids must be unique.'
                    )
        return ids


def read_rows(notes: Notes, path: Path, names: Sequence[str], needs: str, *, optional: Sequence[str] = ()) -> Rows:
    """Reads the columns `names` and `optional` of a file. Problems, such as a file without rows, go to `notes`.

    Raises:
        MissingExtraError: the file is Parquet and pyarrow is not installed.
    """
    before = notes.total
    wanted = [*names, *optional]
    match path.suffix:
        case ".csv":
            rows = _read_csv(notes, path, wanted, needs)
        case ".parquet":
            rows = _read_parquet(notes, path, wanted, needs)
        case _:
            rows = _read_jsonl(notes, path, wanted, needs)
    if not rows.numbers and notes.total == before:
        notes.problem(path, f"is empty; at least one row is needed, and {needs}.")
    return rows


def as_id(value: Any) -> Any:  # a check answers a string or REFUSED
    """Returns the id as a string; REFUSED where the value can't be an id."""
    return value if isinstance(value, str) and value else str(value) if type(value) is int else REFUSED


def list_folder(folder: Path) -> str:
    """Describes the content of a folder, for an error message."""
    try:
        names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    except OSError as error:
        return f"can't be listed ({error.strerror})"
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"holds {', '.join(names[:12])}{more}" if names else "is empty"


def find_file(notes: Notes, folder: Path, stem: str, formats: Sequence[str] = FORMATS) -> Path | None:
    """Returns the folder's one file with this stem; None, and a problem, where there is none or more than one."""
    found = [path for path in (folder / f"{stem}{suffix}" for suffix in formats) if path.is_file() or path.is_symlink()]
    if len(found) == 1:
        return found[0]
    if found:
        notes.problem(folder, f"holds {' and '.join(path.name for path in found)}; keep only one of them.")
        return None
    missing = f"{stem}{formats[0]}" + (f" (or {', '.join(formats[1:])})" if len(formats) > 1 else "") + " is missing"
    if folder.is_dir():
        notes.problem(folder, f"{missing}; the folder {list_folder(folder)}.")
    else:
        above = folder.parent
        notes.problem(folder, f"there is no such folder, so {missing}; {above} {list_folder(above)}.")
    return None


def _read_jsonl(notes: Notes, path: Path, names: Sequence[str], needs: str) -> Rows:
    columns: dict[str, list[Any]] = {name: [] for name in names}
    fields = list(columns.items())
    numbers: list[int] = []
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


def _read_csv(notes: Notes, path: Path, names: Sequence[str], needs: str) -> Rows:
    data = b"".join(notes.byte_lines(path))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        notes.problem(f"{path}, line {line}", not_utf8(error))
        return Rows(notes, path, needs, {}, [])
    csv.field_size_limit(MAX_VALUE_BYTES)  # belongs to the process, and is at first less than a long document
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = Rows(notes, path, needs, {}, numbers := [])
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


def _read_parquet(notes: Notes, path: Path, names: Sequence[str], needs: str) -> Rows:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError(
            f"{path}: reading Parquet needs pyarrow; install it with: pip install pyarrow"
        ) from error
    rows = Rows(notes, path, needs, {}, [])
    before = notes.total
    data = b"".join(notes.byte_lines(path))
    if notes.total > before:
        return rows
    try:
        check_expansion(data, names)
        file = parquet.ParquetFile(pyarrow.BufferReader(data))
        header = list(file.schema_arrow.names)
        table = file.read(columns=[name for name in names if name in header])
        rows.columns = {name: table.column(name).to_pylist() for name in names if name in header}
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        notes.problem(path, f"is not a readable Parquet file: {error}.")
        return rows
    rows.header = (0, header)
    rows.numbers = range(1, file.metadata.num_rows + 1)
    return rows
