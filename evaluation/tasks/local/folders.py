"""Reads a folder of local data, in the layout that docs/local-data.md documents, into checked columns in memory.

Knows nothing of mteb, datasets or torch, and of no model or protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evaluation.errors import DataError
from evaluation.system.nearest_names import nearest_hint
from evaluation.tasks.local.files import FORMATS, list_folder
from evaluation.tasks.local.notes import Notes, show
from evaluation.tasks.local.retrieval import RetrievalSplit, read_retrieval
from evaluation.tasks.local.tables import TableSplit, read_tables
from evaluation.tasks.types import RETRIEVAL_TYPES, TASK_TYPES, TRAINED_TYPES

__all__ = ["LocalData", "RetrievalSplit", "TableSplit", "available_splits", "read_local_data"]


@dataclass(frozen=True, slots=True)
class LocalData:
    """A folder of local data, read and checked.

    Attributes:
        subsets: Subset -> split -> data; the one subset of a folder without subfolders is "default".
        content_hash: 40 hex digits over the bytes and relative names of the files that were read.
        counts: What was dropped or noticed, such as "judgements of unknown documents", and how often; never zero.
    """

    folder: Path
    task_type: str
    subsets: dict[str, dict[str, RetrievalSplit | TableSplit]]
    content_hash: str
    counts: dict[str, int]


def read_local_data(
    folder: Path,
    task_type: str,
    *,
    splits: Sequence[str] | None = None,
    subsets: Sequence[str] | None = None,
    needs_train: str | None = None,
) -> LocalData:
    """Reads and checks a folder.

    Args:
        folder: Has the documented layout of the type, or a subfolder in it for each subset.
        task_type: MTEB's name of the type, such as "Retrieval" or "STS".
        splits: Splits that are scored; None reads all.
        subsets: Names of subfolders; None reads all.
        needs_train: The split to learn from, by default "train" for classification and regression. It is read in
            addition to `splits` where it exists.

    Raises:
        DataError: The data breaks a rule; names the first 20 faults with file and line.
        MissingExtraError: A file is Parquet and pyarrow is not installed.
    """
    folder = Path(folder)
    notes = Notes(folder)
    if needs_train is None and task_type in TRAINED_TYPES:
        needs_train = "train"
    _check_names(notes, folder, "split", splits)
    _check_names(notes, folder, "split", None if needs_train is None else [needs_train])
    _check_names(notes, folder, "subset", subsets)
    read: dict[str, dict[str, RetrievalSplit | TableSplit]] = {}
    with _unreadable_as_data_error():
        folders = _choose_subsets(notes, folder, task_type, subsets)
        notes.raise_problems()
        for subset, inner in folders.items():
            read[subset] = _read_subset(notes, inner, task_type, splits, needs_train)
    notes.raise_problems()
    counts = {what: count for what, count in notes.counts.items() if count}
    return LocalData(folder, task_type, read, notes.content_hash(), counts)


def available_splits(folder: Path, task_type: str) -> tuple[str, ...]:
    """Returns the splits that any of the folder's subsets has, sorted; opens no file.

    Raises:
        DataError: There is no such folder or type, or no data in it.
    """
    notes = Notes(Path(folder))
    with _unreadable_as_data_error():
        folders = _choose_subsets(notes, Path(folder), task_type, None)
        notes.raise_problems()
        names = {split for inner in folders.values() for split in _list_splits(inner, task_type)}
    return tuple(sorted(names))


def _read_subset(
    notes: Notes, folder: Path, task_type: str, splits: Sequence[str] | None, needs_train: str | None
) -> dict[str, RetrievalSplit | TableSplit]:
    """Reads the wanted splits of one subset; problems go to `notes`."""
    there = _list_splits(folder, task_type)
    wanted = list(dict.fromkeys(there if splits is None else splits))
    if needs_train in there and needs_train not in wanted:
        wanted.append(needs_train)
    if task_type not in RETRIEVAL_TYPES:
        return {**read_tables(notes, folder, task_type, wanted)}
    if not wanted:
        where = folder / "qrels" if (folder / "qrels").is_dir() else folder
        notes.problem(where, f"has no split ({_expected(task_type)}); the folder {list_folder(where)}.")
        return {}
    return {**read_retrieval(notes, folder, task_type, wanted)}


@contextmanager
def _unreadable_as_data_error() -> Iterator[None]:
    """Turns a folder without access, or a name too long for the file system, into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError([f"{error.filename}: can't be read: {error.strerror}."]) from error


def _check_names(notes: Notes, folder: Path, kind: str, names: Sequence[str] | None) -> None:
    """Refuses names that would lead out of the folder, and an empty choice."""
    if names is not None and not names:
        notes.problem(folder, f"no {kind} is named; name at least one, or leave the key out.")
    for name in names or ():
        if not name or name.startswith(".") or ".." in name or set(name) & set("/\\\0"):
            rule = 'a name must not contain "/", "\\" or "..", nor begin with a dot'
            notes.problem(folder, f"{show(name)} can't be the name of a {kind}; {rule}.")


def _choose_subsets(notes: Notes, folder: Path, task_type: str, subsets: Sequence[str] | None) -> dict[str, Path]:
    """Returns subset -> folder, of the named subsets or of all."""
    if task_type not in TASK_TYPES:
        allowed = f"{nearest_hint(task_type, TASK_TYPES)} (allowed: {', '.join(TASK_TYPES)})"
        notes.problem(folder, f"{show(task_type)} is not a task type of local data{allowed}.")
        return {}
    if not folder.is_dir():
        above = next(parent for parent in folder.absolute().parents if parent.is_dir())
        what = "is not a folder" if folder.exists() else "there is no such folder"
        notes.problem(folder, f"{what}; {above} {list_folder(above)}.")
        return {}
    if _holds_data(folder, task_type):
        found = {"default": folder}
    else:
        inner = (path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith("."))
        found = {path.name: path for path in inner if _holds_data(path, task_type) and notes.inside(path)}
    if not found and not notes.total:
        nothing = f"no data of type {task_type} ({_expected(task_type)}), here or in subfolders"
        notes.problem(folder, f"{nothing}; the folder {list_folder(folder)}.")
    wanted = list(dict.fromkeys(found if subsets is None else subsets))
    for name in wanted:
        if found and name not in found:
            there = ", ".join(found)
            if found == {"default": folder}:
                there = 'only "default", because its data files are not in subfolders'
            notes.problem(folder, f"has no subset {show(name)}{nearest_hint(name, found)} (it has {there}).")
    return {name: found[name] for name in wanted if name in found}


def _expected(task_type: str) -> str:
    if task_type in RETRIEVAL_TYPES:
        return "corpus.jsonl, queries.jsonl, qrels/<split>.tsv"
    return ", ".join(f"<split>{suffix}" for suffix in FORMATS)


def _holds_data(folder: Path, task_type: str) -> bool:
    """Returns whether a folder itself holds a subset; part of one is enough, so that the error names the rest."""
    if task_type not in RETRIEVAL_TYPES:
        return bool(_list_splits(folder, task_type))
    files = (folder / f"{stem}{suffix}" for stem in ("corpus", "queries") for suffix in FORMATS)
    return (folder / "qrels").is_dir() or any(path.is_file() or path.is_symlink() for path in files)


def _list_splits(folder: Path, task_type: str) -> list[str]:
    """Returns the names of the splits that have a file, sorted."""
    suffixes: tuple[str, ...] = FORMATS
    if task_type in RETRIEVAL_TYPES:
        folder, suffixes = folder / "qrels", (".tsv",)
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if path.suffix in suffixes and not path.name.startswith("."))
    return sorted({path.stem for path in files if path.is_file() or path.is_symlink()})
