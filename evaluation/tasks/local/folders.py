"""Reads a folder of local data, in the layouts that docs/local-data.md lists, into checked columns in memory.

Knows nothing of mteb, datasets or torch, and of no model or protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evaluation.errors import DataError
from evaluation.system.nearest_names import nearest_hint
from evaluation.tasks.local.layouts import (
    FORMATS,
    DataPath,
    archive_remedy,
    list_folder,
    list_tables,
    opened,
    remedy,
)
from evaluation.tasks.local.notes import Notes, show
from evaluation.tasks.local.qrels import QRELS_FORMATS, no_split, qrels_folder
from evaluation.tasks.local.retrieval import RECORD_FORMATS, RetrievalSplit, read_retrieval
from evaluation.tasks.local.tables import TableSplit, read_tables
from evaluation.tasks.types import RETRIEVAL_TYPES, TASK_TYPES, TRAINED_TYPES

__all__ = ["LocalData", "RetrievalSplit", "TableSplit", "available_splits", "read_local_data", "subfolders"]

_HUB_FOLDER = "data"  # where the Hub's datasets keep their files


@dataclass(frozen=True, slots=True)
class LocalData:
    """A folder of local data, read and checked.

    Attributes:
        subsets: Subset -> split -> data; the one subset of a folder without subfolders is "default".
        content_hash: 40 hex digits over the bytes and relative names of the files that were read.
        counts: What was dropped or noticed, such as "judgements of unknown documents", and how often; never zero.
    """

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
    linked: Sequence[Path] | None = (),
) -> LocalData:
    """Reads and checks a folder, or a .zip archive of one.

    Args:
        folder: Has the documented layout of the type, or a subfolder in it for each subset.
        task_type: MTEB's name of the type, such as "Retrieval" or "STS".
        splits: Splits that are scored; None reads all.
        subsets: Names of subfolders; None reads all.
        needs_train: The split to learn from, by default "train" for classification and regression. It is read in
            addition to `splits` where it exists.
        linked: Resolved folders, besides `folder` itself, that symbolic links may lead into; None: links are followed
            everywhere, for data whose content hash is compared with one made before.

    Raises:
        DataError: The data breaks a rule; names the first 20 faults with file and line.
        MissingExtraError: A file is Parquet and pyarrow is not installed.
    """
    folder = Path(folder)
    if needs_train is None and task_type in TRAINED_TYPES:
        needs_train = "train"
    read: dict[str, dict[str, RetrievalSplit | TableSplit]] = {}
    with _unreadable_as_data_error(), opened(folder) as root:
        notes = Notes(root, linked)
        _check_names(notes, folder, "split", splits)
        _check_names(notes, folder, "split", None if needs_train is None else [needs_train])
        _check_names(notes, folder, "subset", subsets)
        folders = _choose_subsets(notes, root, task_type, subsets)
        notes.raise_problems()
        for subset, inner in folders.items():
            read[subset] = _read_subset(notes, inner, task_type, splits, needs_train)
    notes.raise_problems()
    counts = {what: count for what, count in notes.counts.items() if count}
    return LocalData(read, notes.content_hash(), counts)


def available_splits(folder: Path, task_type: str) -> tuple[str, ...]:
    """Returns the splits that any of the folder's subsets has, sorted; opens no data file.

    Raises:
        DataError: There is no such folder or type, or no data in it.
    """
    with _unreadable_as_data_error(), opened(Path(folder)) as root:
        notes = Notes(root, None)
        folders = _choose_subsets(notes, root, task_type, None)
        notes.raise_problems()
        names = {split for inner in folders.values() for split in _list_splits(inner, task_type)}
    return tuple(sorted(names))


def subfolders(folder: Path) -> frozenset[str]:
    """Returns the names of the folders in a data folder or archive; none where there is no such folder."""
    with _unreadable_as_data_error(), opened(folder) as root:
        return frozenset(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else frozenset()


def _read_subset(
    notes: Notes, folder: DataPath, task_type: str, splits: Sequence[str] | None, needs_train: str | None
) -> dict[str, RetrievalSplit | TableSplit]:
    """Reads the wanted splits of one subset; problems go to `notes`."""
    there = _list_splits(folder, task_type)
    wanted = list(dict.fromkeys(there if splits is None else splits))
    if needs_train in there and needs_train not in wanted:
        wanted.append(needs_train)
    if task_type not in RETRIEVAL_TYPES:
        return {**read_tables(notes, folder, task_type, wanted)}
    if not wanted:
        no_split(notes, folder, _expected(task_type))
        return {}
    return {**read_retrieval(notes, folder, task_type, wanted)}


@contextmanager
def _unreadable_as_data_error() -> Iterator[None]:
    """Turns a folder without access, or a name too long for the file system, into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError([f"{error.filename}: can't be read: {error.strerror or error}."]) from error


def _check_names(notes: Notes, folder: Path, kind: str, names: Sequence[str] | None) -> None:
    """Refuses names that would lead out of the folder, and an empty choice."""
    if names is not None and not names:
        notes.problem(folder, f"no {kind} is named; name at least one, or leave the key out.")
    for name in names or ():
        if not name or name.startswith(".") or ".." in name or set(name) & set("/\\\0"):
            rule = 'a name must not contain "/", "\\" or "..", nor begin with a dot'
            notes.problem(folder, f"{show(name)} can't be the name of a {kind}; {rule}.")


def _choose_subsets(
    notes: Notes, folder: DataPath, task_type: str, subsets: Sequence[str] | None
) -> dict[str, DataPath]:
    """Returns subset -> folder, of the named subsets or of all."""
    if task_type not in TASK_TYPES:
        allowed = f"{nearest_hint(task_type, TASK_TYPES)} (allowed: {', '.join(TASK_TYPES)})"
        notes.problem(folder, f"{show(task_type)} is not a task type of local data{allowed}.")
        return {}
    if not folder.is_dir():
        _refuse_missing(notes, Path(str(folder)))
        return {}
    found = _subsets_in(notes, folder, task_type)
    if not found and not notes.total:
        nothing = f"no data of type {task_type} ({_expected(task_type)}), here or in subfolders"
        notes.problem(folder, f"{nothing}; the folder {list_folder(folder)}{remedy(folder)}.")
    wanted = list(dict.fromkeys(found if subsets is None else subsets))
    for name in wanted:
        if found and name not in found:
            there = ", ".join(found)
            if list(found) == ["default"]:
                there = 'only "default", because its data files are not in subfolders'
            notes.problem(folder, f"has no subset {show(name)}{nearest_hint(name, found)} (it has {there}).")
    return {name: found[name] for name in wanted if name in found}


def _refuse_missing(notes: Notes, folder: Path) -> None:
    above = next(parent for parent in folder.absolute().parents if parent.is_dir())
    if folder.exists():
        notes.problem(folder, f"is not a folder; {above} {list_folder(above)}{archive_remedy(folder)}.")
    else:
        notes.problem(folder, f"there is no such folder; {above} {list_folder(above)}.")


def _subsets_in(notes: Notes, folder: DataPath, task_type: str) -> dict[str, DataPath]:
    """Returns subset -> folder. Data in the folder itself, or only in its folder `data`, is the subset "default"."""
    if _holds_data(folder, task_type):
        return {"default": folder}
    inner = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.name)
    holding = {path.name: path for path in inner if not path.name.startswith(".") and _holds_data(path, task_type)}
    if list(holding) == [_HUB_FOLDER]:
        return {"default": holding[_HUB_FOLDER]}
    return {name: path for name, path in holding.items() if notes.inside(path)}


def _expected(task_type: str) -> str:
    if task_type in RETRIEVAL_TYPES:
        return "corpus.jsonl, queries.jsonl, qrels/<split>.tsv"
    return ", ".join(f"<split>{suffix}" for suffix in FORMATS)


def _holds_data(folder: DataPath, task_type: str) -> bool:
    """Returns whether a folder itself holds a subset; part of one is enough, so that the error names the rest."""
    if task_type not in RETRIEVAL_TYPES:
        return bool(_list_splits(folder, task_type))
    tables = list_tables(folder, RECORD_FORMATS)
    records = [bool(tables.get(name) or list_tables(folder / name, RECORD_FORMATS)) for name in ("corpus", "queries")]
    return (folder / "qrels").is_dir() or any(records)


def _list_splits(folder: DataPath, task_type: str) -> list[str]:
    """Returns the names of the splits that have a table, sorted."""
    if task_type in RETRIEVAL_TYPES:
        return list(list_tables(qrels_folder(folder), QRELS_FORMATS))
    return list(list_tables(folder))
