"""Finds the files of each table in a data folder, in the layouts in which datasets are saved and downloaded.

A table `test` is one file (`test.jsonl`), its shards (`test-00000-of-00002.parquet`, as the Hub names them), numbered
files in a folder (`test/0000.parquet`, the Hub's converted branch) or a folder written by `Dataset.save_to_disk`; text
files may be compressed with gzip. A .zip archive stands for a folder and is never unpacked. Opens no data file.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from evaluation.errors import DataError
from evaluation.system.limited_reading import parse_json
from evaluation.tasks.local.notes import Notes

DataPath: TypeAlias = Path | zipfile.Path

FORMATS: Final = (".jsonl", ".csv", ".parquet")
ARROW: Final = ".arrow"
_GZIP: Final = ".gz"
_NEVER_COMPRESSED: Final = frozenset({".parquet", ARROW})
_SHARD: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})")
_STATE: Final = "state.json"  # datasets' description of a saved dataset
_FOREIGN_FOLDERS: Final = frozenset({"__MACOSX"})
_LARGEST_STATE: Final = 1 << 20
_TABLE_AS_CSV: Final = "convert it with pandas: read_{}(...).to_csv(..., index=False)"
_REMEDIES: Final[Mapping[str, str]] = {
    ".json": "write one JSON object per line and end the name in .jsonl (pandas: read_json(...).to_json(..., "
    "orient='records', lines=True))",
    ".tsv": "convert it to CSV (pandas: read_csv(..., sep='\\t').to_csv(..., index=False))",
    ".txt": "write it as CSV with a header, or as one JSON object per line (.jsonl)",
    ".xlsx": _TABLE_AS_CSV.format("excel"),
    ".xls": _TABLE_AS_CSV.format("excel"),
    ".pkl": _TABLE_AS_CSV.format("pickle"),
    ".feather": "convert it with pandas: read_feather(...).to_parquet(...)",
    ".arrow": "load it with datasets.Dataset.from_file(...) and write it with .to_parquet(...)",
    ".zst": "decompress it",
    ".bz2": "decompress it",
    ".xz": "decompress it",
    ".7z": "unpack it",
    ".tar": "unpack it",
    ".tgz": "unpack it",
    ".zip": "unpack it, or give the archive itself as data:",
}

Table: TypeAlias = list[DataPath]
"""The files of one table, in order."""


@contextmanager
def opened(folder: Path) -> Iterator[DataPath]:
    """Opens a data folder, or a .zip archive in its place; an archive's only folder stands for the archive.

    Raises:
        DataError: The archive can't be read, or names a path outside itself.
    """
    if not (folder.suffix.lower() == ".zip" and folder.is_file()):
        yield folder
        return
    try:
        archive = zipfile.ZipFile(folder)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError([f"{folder} is not a readable .zip archive ({error}); download it again."]) from error
    with archive:
        for name in archive.namelist():
            if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
                raise DataError([f"{folder} holds the path {name!r}, which leads out of the archive; do not use it."])
        root: DataPath = zipfile.Path(archive)
        inner = _entries(root)
        yield inner[0] if len(inner) == 1 and inner[0].is_dir() else root


def format_of(path: DataPath) -> str:
    """Returns the suffix that says how a file is read, without that of gzip."""
    return Path(path.name.removesuffix(_GZIP)).suffix


def list_tables(folder: DataPath, formats: Sequence[str] = FORMATS) -> dict[str, list[Table]]:
    """Returns each table's name, sorted, with its files in each format that is there."""
    if not folder.is_dir():
        return {}
    found: dict[tuple[str, str], Table] = {}
    for entry in _entries(folder):
        if entry.is_dir():
            inner = _saved_files(entry) or _numbered_files(entry, formats)
            if inner:
                found[entry.name, ""] = inner
        elif _is_of(entry, formats):
            name = entry.name.removesuffix(_GZIP)
            stem, suffix = Path(name).stem, entry.name[len(Path(name).stem) :]
            shard = _SHARD.fullmatch(stem)
            found.setdefault((shard[1] if shard else stem, f"-{shard[3]}{suffix}" if shard else suffix), []).append(
                entry
            )
    tables: dict[str, list[Table]] = {}
    for key in sorted(found, key=lambda key: (key[0], _rank(found[key][0], formats))):
        tables.setdefault(key[0], []).append(found[key])
    return tables


def find_table(notes: Notes, folder: DataPath, name: str, formats: Sequence[str] = FORMATS) -> Table | None:
    """Returns the files of the one table of this name; None, and a problem, where there is none or more than one."""
    found = list_tables(folder, formats).get(name, [])
    if not found:
        missing = f"{name}{formats[0]}" + (f" (or {', '.join(formats[1:])})" if len(formats) > 1 else "")
        if folder.is_dir():
            notes.problem(folder, f"{missing} is missing; the folder {list_folder(folder)}{remedy(folder, formats)}.")
        else:
            above = folder.parent
            there = list_folder(above) if isinstance(above, Path | zipfile.Path) else "has no such folder"
            notes.problem(folder, f"there is no such folder, so {missing} is missing; {above} {there}.")
        return None
    if len(found) > 1:
        notes.problem(folder, f"holds {' and '.join(files[0].name for files in found)}; keep only one of them.")
        return None
    return found[0] if has_all_shards(notes, found[0]) else None


def has_all_shards(notes: Notes, files: Table) -> bool:
    """Returns whether every shard of a table is there; notes a problem if not."""
    shard = _SHARD.fullmatch(Path(files[0].name.removesuffix(_GZIP)).stem)
    if shard is None or format_of(files[0]) == ARROW or len(files) == int(shard[3]):
        return True
    there = f"of the {int(shard[3])} shards that its name promises, the folder holds {len(files)}"
    notes.problem(files[0], f"{there}; download the others or rename the file to {shard[1]}{format_of(files[0])}.")
    return False


def list_folder(folder: DataPath) -> str:
    """Describes the content of a folder, for an error message."""
    try:
        names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    except OSError as error:
        return f"can't be listed ({error.strerror})"
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"holds {', '.join(names[:12])}{more}" if names else "is empty"


def remedy(folder: DataPath, formats: Sequence[str] = FORMATS) -> str:
    """Returns how to make a folder's content readable, as the end of a message; empty where nothing is known."""
    entries = _entries(folder)
    if any(entry.name == "snapshots" and entry.is_dir() for entry in entries):
        return "; it is a repository of the Hub's cache: give one of the folders in snapshots/"
    if any(entry.name == _STATE for entry in entries):
        return "; it is a saved dataset without a split: save datasets.DatasetDict({'test': dataset}) with save_to_disk"
    for entry in entries:
        if entry.is_file() and entry.name.startswith("qrels"):
            return f"; {entry.name} must be qrels/<split>.tsv, such as qrels/test.tsv"
    for entry in entries:
        ending = Path(entry.name).suffix.lower()
        if entry.is_file() and ending in _REMEDIES and ending not in formats:
            return f"; to use {entry.name}, {_REMEDIES[ending]}"
    return ""


def archive_remedy(file: Path) -> str:
    """Returns what to do with a file that was named in place of a folder, as the end of a message."""
    if format_of(file) in FORMATS:
        return f"; give its folder, {file.parent}"
    unpack = file.name.endswith((".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".zst"))
    return "; unpack it, and give the folder" if unpack else ""


def _entries(folder: DataPath) -> list[DataPath]:
    """Returns what is in a folder, by name, without hidden files."""
    listed: list[DataPath] = [*folder.iterdir()]
    ours = [entry for entry in listed if not entry.name.startswith(".") and entry.name not in _FOREIGN_FOLDERS]
    return sorted(ours, key=lambda entry: entry.name)


def _is_of(entry: DataPath, formats: Sequence[str]) -> bool:
    suffix = format_of(entry)
    return suffix in formats and not (entry.name.endswith(_GZIP) and suffix in _NEVER_COMPRESSED)


def _rank(entry: DataPath, formats: Sequence[str]) -> int:
    suffix = format_of(entry)
    return formats.index(suffix) if suffix in formats else len(formats)


def _saved_files(folder: DataPath) -> Table:
    """Returns the files of a dataset that `save_to_disk` wrote, as its state.json names them; else none."""
    state = folder / _STATE
    if not state.is_file():
        return []
    try:
        with state.open("rb") as file:
            content = parse_json(file.read(_LARGEST_STATE))
        names = [str(part["filename"]) for part in content["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [folder / name for name in names if name == Path(name).name and name.endswith(ARROW)]


def _numbered_files(folder: DataPath, formats: Sequence[str]) -> Table:
    """Returns the folder's files if all that hold data are numbered files of one format; else none."""
    files = [entry for entry in _entries(folder) if _is_of(entry, formats)]
    stems = [Path(entry.name.removesuffix(_GZIP)).stem for entry in files]
    if not files or not all(stem.isdecimal() for stem in stems) or len({format_of(entry) for entry in files}) > 1:
        return []
    return sorted(files, key=lambda entry: int(Path(entry.name.removesuffix(_GZIP)).stem))
