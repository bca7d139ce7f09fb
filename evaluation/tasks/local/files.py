"""Reads one file of local data (jsonl, csv, parquet) into columns, and notes every fault by file and line.

Knows nothing of task types, of folder layouts, of mteb or torch.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from evaluation.errors import DataError, MissingExtraError

FORMATS: Final = (".jsonl", ".csv", ".parquet")
MISSING: Final = object()  # stands for a key that a row lacks
REFUSED: Final = object()  # a check's answer to a value that breaks the rule
_MAX_PROBLEMS: Final = 20
_CHUNK_BYTES: Final = 1 << 20
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_DECODER: Final = json.JSONDecoder()


class Notes:
    """What comes to light while a folder is read: problems, counts, and a digest of each file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.counts: Counter[str] = Counter()
        self.total = 0
        self._problems: list[str] = []
        self._digests: dict[str, bytes] = {}

    def problem(self, place: Path | str, sentence: str) -> None:
        """Note a fault; only the first 20 are kept, the rest are counted."""
        self.total += 1
        if not self.full:
            self._problems.append(f"{place}: {sentence}")

    @property
    def full(self) -> bool:
        """Whether a further problem would only be counted."""
        return len(self._problems) >= _MAX_PROBLEMS

    def raise_problems(self) -> None:
        """Raise DataError if there was any problem."""
        more = self.total - len(self._problems)
        if self.total:
            raise DataError([*self._problems, f"and {more} more"] if more else self._problems)

    def content_hash(self) -> str:
        """40 hex digits over relative name and bytes of every file read, whatever the order of reading."""
        whole = hashlib.blake2b(digest_size=20)
        for name, digest in sorted(self._digests.items()):
            whole.update(name.encode("utf-8", "surrogateescape") + b"\0" + digest)
        return whole.hexdigest()

    def inside(self, path: Path) -> bool:
        """Whether the path, its symbolic links followed, stays inside the folder; a problem otherwise."""
        try:
            real = path.resolve()
            if real.is_relative_to(self.root.resolve()):
                return True
            self.problem(path, f"is a symbolic link out of the folder (to {real}); copy the data into the folder.")
        except (OSError, RuntimeError) as error:  # a link to itself
            self.problem(path, f"is a symbolic link that can't be followed: {error}.")
        return False

    def byte_lines(self, path: Path) -> Iterator[bytes]:
        """The file's lines with their ends, hashed on the way; a problem where it can't be read."""
        if not self.inside(path):
            return
        digest = hashlib.blake2b(digest_size=20)
        try:
            if not path.is_file():  # opening a named pipe would wait for ever
                self.problem(path, "is not a file.")
                return
            with path.open("rb") as file:
                while lines := file.readlines(_CHUNK_BYTES):
                    digest.update(b"".join(lines))
                    yield from lines
        except OSError as error:
            self.problem(path, f"can't be read: {error.strerror}.")
        self._digests[path.relative_to(self.root).as_posix()] = digest.digest()

    def text_lines(self, path: Path) -> Iterator[tuple[int, str]]:
        """Number and text of each line that isn't blank, without line end and byte-order mark."""
        for number, raw in enumerate(self.byte_lines(path), start=1):
            try:
                line = (raw.removeprefix(_BYTE_ORDER_MARK) if number == 1 else raw).decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                self.problem(f"{path}, line {number}", _not_utf8(error))
                continue
            if line and not line.isspace():
                yield number, line

    def parse_json(self, text: str, names: Sequence[str] = ()) -> Any:
        """The JSON value with lone surrogates replaced and counted; of an object, in the keys `names` alone.

        Raises:
            ValueError: the text is not JSON; the message says why.
        """
        try:
            value = _DECODER.decode(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{error.msg} at column {error.colno}") from error
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        if "\\ud" not in text and "\\uD" not in text:
            return value
        if isinstance(value, dict):
            value = {name: value[name] for name in names if name in value}
        return self._clean(value)

    def _clean(self, value: Any) -> Any:
        match value:
            case str():
                cleaned, found = _LONE_SURROGATE.subn("\ufffd", value)
                self.counts["lone surrogates replaced"] += found
                return cleaned
            case list():
                return [self._clean(item) for item in value]
            case dict():
                return {key: self._clean(item) for key, item in value.items()}
        return value


@dataclass(slots=True)
class Rows:
    """The wanted columns of one file, in file order, and what is needed to name a fault in them.

    Attributes:
        columns: Only the wanted ones that the file has; a row that lacks a key holds MISSING there.
        numbers: A row's first line in the file, or in parquet its number, from 1.
        needs: What every row needs, as the end of a sentence.
        header: csv and parquet: line (0 in parquet) and names of all columns.
    """

    notes: Notes
    path: Path
    needs: str
    columns: dict[str, list[Any]]
    numbers: Sequence[int]
    header: tuple[int, list[str]] | None = None

    @property
    def is_csv(self) -> bool:
        """Whether every value is a string because the format has nothing else."""
        return self.path.suffix == ".csv"

    def place(self, at: int) -> str:
        """File and line of a row."""
        return f"{self.path}, {'row' if self.path.suffix == '.parquet' else 'line'} {self.numbers[at]}"

    def convert(self, name: str, must_be: str, check: Callable[[Any], Any]) -> list[Any]:
        """The column with each value through `check`; REFUSED, and a problem, where the check refuses one."""
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
        """The column's strings; blank ones are kept and counted."""
        column = self.columns.get(name, [])
        if set(map(type, column)) != {str}:
            column = self.convert(name, "a string", lambda value: value if isinstance(value, str) else REFUSED)
        self.count_blank(column)
        return column

    def count_blank(self, texts: Sequence[Any]) -> None:
        """Count the strings that hold nothing but white space."""
        blank = sum(1 for text in texts if isinstance(text, str) and (not text or text.isspace()))
        self.notes.counts["blank texts"] += blank

    def ids(self, name: str) -> list[str]:
        """The column's ids as strings; one that comes twice is a problem."""
        ids = self.convert(name, "a string that isn't empty or an integer", as_id)
        if len(set(ids)) < len(ids):
            first: dict[Any, int] = {}
            for at, value in enumerate(ids):
                if first.setdefault(value, at) != at and value is not REFUSED:
                    before = self.place(first[value]).removeprefix(f"{self.path}, ")
                    self.notes.problem(
                        self.place(at), f'"{name}" {show(value)} is already in {before}; ids must be unique.'
                    )
        return ids


def read_rows(notes: Notes, path: Path, names: Sequence[str], needs: str, *, optional: Sequence[str] = ()) -> Rows:
    """The columns `names` and `optional` of a file; problems go to `notes`. No row at all is one.

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
    """The id as a string; REFUSED for what can't be one."""
    return value if isinstance(value, str) and value else str(value) if type(value) is int else REFUSED


def show(value: object) -> str:
    """A value as an error message quotes it: JSON, cut short."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."


def list_folder(folder: Path) -> str:
    """What a folder holds, for an error message."""
    try:
        names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    except OSError as error:
        return f"can't be listed ({error.strerror})"
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"holds {', '.join(names[:12])}{more}" if names else "is empty"


def find_file(notes: Notes, folder: Path, stem: str, formats: Sequence[str] = FORMATS) -> Path | None:
    """The folder's one file with this stem; None, and a problem, where there is none or several."""
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


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8."


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
        notes.problem(f"{path}, line {line}", _not_utf8(error))
        return Rows(notes, path, needs, {}, [])
    # The limit belongs to the process and is 128 KiB at first, less than a long document.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
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
    """Give `rows` an empty column for each wanted name in its header; position and column of each."""
    assert rows.header is not None, rows
    line, header = rows.header
    for name in names:
        if header.count(name) > 1:
            rows.notes.problem(f"{rows.path}, line {line}", f'the column "{name}" comes {header.count(name)} times.')
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
        file = parquet.ParquetFile(pyarrow.BufferReader(data))
        header = list(file.schema_arrow.names)
        table = file.read(columns=[name for name in names if name in header])
        rows.columns = {name: table.column(name).to_pylist() for name in names if name in header}
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        notes.problem(path, f"is not a Parquet file that can be read: {error}.")
        return rows
    rows.header = (0, header)
    rows.numbers = range(1, file.metadata.num_rows + 1)
    return rows
