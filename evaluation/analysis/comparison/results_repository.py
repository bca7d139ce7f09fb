"""mteb's results repository, or an mteb ResultCache, as it lies on disk -> published scores with their origin.

The first reading parses every file and keeps the table in the user's cache; later ones compare names, sizes and times.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from evaluation.analysis.comparison.published_tables import PublishedScore
from evaluation.analysis.comparison.result_files import ResultFile, parse_result
from evaluation.errors import ComparisonError, UnwritableError
from evaluation.system.atomic_files import reason, write_atomically
from evaluation.system.cache_folder import user_cache_dir
from evaluation.system.limited_reading import parse_json
from evaluation.system.parquet_files import check_expansion
from evaluation.tasks.index import TaskIndex, load_index

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_VERSION: Final = 1
SELF_REPORTED: Final = "external"
"""The revision under which mteb's repository keeps scores that a model card reports."""
_UNNAMED = frozenset({SELF_REPORTED, "no_revision_available", "None", ""})
_META = "model_meta.json"
_MAX_FILE_BYTES = 1 << 26
_COLUMNS = ("model", "revision", "task", "split", "subset", "score", "dataset_revision", "mteb_version")
_SHOWN_FAULTS = 5


@dataclass(frozen=True, slots=True)
class RepositoryOrigin:
    """Where the scores come from.

    Attributes:
        folder: As the user named it, absolute.
        commit: Of the Git checkout, where it is one.
        sha256: Of all files that were read, by path and content.
        n_files: Result files that were read.
        n_set_aside: Of those, how many others of the same model, task and split were preferred to.
        faults: The first files that could not be used, each with the reason.
        n_faults: How many could not.
    """

    folder: str
    commit: str | None
    sha256: str
    n_files: int
    n_set_aside: int
    faults: tuple[str, ...]
    n_faults: int


class ModelScores(NamedTuple):
    """One model on one task: points by split and subset, and the revisions of the dataset they are of."""

    points: dict[tuple[str, str], float]
    dataset_revisions: set[str]


class ResultsRepository:
    """The scores of many models, one per model, task, split and subset.

    Args:
        table: With the columns model, revision, task, split, subset, score (0-1), dataset_revision, mteb_version.
        origin: Where it comes from.
        models: Globs of the models that count; empty: all.

    Attributes:
        models: The names of the models that count.
    """

    def __init__(self, table: pa.Table, origin: RepositoryOrigin, models: Sequence[str] = ()) -> None:
        self.origin, self._table = origin, table
        names = set(table.column("model").to_pylist())
        self.models: tuple[str, ...] = tuple(
            name for name in sorted(names) if not models or any(fnmatch.fnmatchcase(name, glob) for glob in models)
        )

    def among(self, models: Sequence[str]) -> ResultsRepository:
        """Returns the same repository with the models that match one of these globs; all without globs."""
        return ResultsRepository(self._table, self.origin, models)

    def scores(
        self, models: Collection[str] | None = None, tasks: Collection[str] | None = None
    ) -> list[PublishedScore]:
        """Returns the scores of these models on these tasks; None: of all models that count, on all tasks of mteb."""
        index = load_index()
        wanted = self.models if models is None else [name for name in models if name in self.models]
        return [
            PublishedScore(
                model=model,
                source=_source(revision, version),
                revision=revision,
                protocol="authors" if revision == SELF_REPORTED else "mteb",
                task=task,
                type=index.task(task).type,
                split=split,
                subset=subset,
                metric=index.task(task).main_score,
                score=100 * score,
                dataset_revision=dataset_revision,
            )
            for model, revision, task, split, subset, score, dataset_revision, version in self._rows(wanted, tasks)
            if task in index
        ]

    def main_scores(self, places: Mapping[str, Collection[tuple[str, str]]]) -> dict[str, dict[str, ModelScores]]:
        """Returns task -> model -> scores, for the models that count.

        Args:
            places: Task -> the splits and subsets that are asked for; most rows of a repository are of others.
        """
        found: dict[str, dict[str, ModelScores]] = {task: {} for task in places}
        models = set(self.models)
        for model, _, task, split, subset, score, revision, _ in zip(*self._columns, strict=True):
            if task in places and (split, subset) in places[task] and model in models:
                of_task = found[task]
                if model not in of_task:
                    of_task[model] = ModelScores({}, set())
                of_task[model].points[split, subset] = 100 * score
                of_task[model].dataset_revisions.add(revision)
        return found

    def _rows(self, models: Collection[str], tasks: Collection[str] | None) -> Iterator[tuple[Any, ...]]:
        """The table's rows of some models and tasks; None: all tasks."""
        wanted = set(models)
        for row in zip(*self._columns, strict=True):
            if row[0] in wanted and (tasks is None or row[2] in tasks):
                yield row

    @cached_property
    def _columns(self) -> list[list[Any]]:
        return [self._table.column(name).to_pylist() for name in _COLUMNS]


def read_repository(folder: Path) -> ResultsRepository:
    """Reads a results repository; from the user's cache where no file has changed since.

    Args:
        folder: A checkout of mteb's results repository, an mteb ResultCache, or its `results` folder.

    Raises:
        ComparisonError: The folder does not exist or holds no result of mteb.
    """
    if not folder.is_dir():
        raise ComparisonError(
            f"--published {folder}: there is no such folder. Name a checkout of mteb's results repository or an mteb "
            "ResultCache; `fetch-data --published DIR` fetches the repository into DIR."
        )
    folder = folder.resolve()
    files = sorted(_result_files(folder))
    if not files:
        raise ComparisonError(
            f"--published {folder} holds no results of mteb: expected files such as "
            "results/intfloat__e5-base/REVISION/SciFact.json."
        )
    state = hashlib.sha256(repr([TABLE_VERSION, load_index().mteb_version, files]).encode()).hexdigest()
    kept = user_cache_dir() / "published" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.parquet"
    table = _load(kept, state)
    if table is None:
        table = _parse(folder, files, state)
        _keep(table, kept)
    origin = parse_json(table.schema.metadata[b"origin"])
    origin["faults"] = tuple(origin["faults"])
    return ResultsRepository(table, RepositoryOrigin(folder=str(folder), commit=_commit(folder), **origin))


# -------------------------------------------------------------------------------------------------------------- files


class _File(NamedTuple):
    """A file below the repository's folder, as its folder lists it."""

    path: str
    size: int
    modified_ns: int


def _result_files(folder: Path) -> Iterator[_File]:
    """Result files and models' own descriptions; links are not followed, and experiments are left out."""
    roots = [root for root in (folder / "results", folder / "remote" / "results") if root.is_dir()] or [folder]
    for root in roots:
        above = len(str(folder / "_")) - 1  # a path begins with the folder; os.path.relpath is slow for so many files
        for model in _folders(root):
            for revision in _folders(model.path):
                for entry in os.scandir(revision.path):
                    if entry.name.endswith(".json") and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        yield _File(entry.path[above:], status.st_size, status.st_mtime_ns)


def _folders(path: str | Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        yield from (entry for entry in entries if entry.is_dir(follow_symlinks=False))


def _commit(folder: Path) -> str | None:
    """The commit of a checkout, read from Git's own files."""
    for root in (folder, folder / "remote", folder.parent):
        git = root / ".git"
        try:
            head = (git / "HEAD").read_text(encoding="utf-8").strip()
            name = head.removeprefix("ref: ")
            found = head if name == head else _reference(git, name)
        except (OSError, UnicodeDecodeError):
            continue
        if len(found) in (40, 64) and set(found) <= set("0123456789abcdef"):
            return found
    return None


def _reference(git: Path, name: str) -> str:
    if ".." not in name and (git / name).is_file():
        return (git / name).read_text(encoding="utf-8").strip()
    lines = (git / "packed-refs").read_text(encoding="utf-8").splitlines()
    return next((line.partition(" ")[0] for line in lines if line.endswith(f" {name}")), "")


# ------------------------------------------------------------------------------------------------------------ parsing


class _Result(NamedTuple):
    """A result file with the model and revision that its folders name."""

    model: str
    revision: str
    file: ResultFile


def _parse(folder: Path, files: Sequence[_File], state: str) -> pa.Table:
    import pyarrow as pa

    index, digest, faults = load_index(), hashlib.sha256(), []
    names: dict[str, str] = {}
    results: list[_Result] = []
    for path, size, _ in files:
        place = Path(path)
        try:
            if size > _MAX_FILE_BYTES:
                raise ValueError(f"it has {size:,} bytes; at most {_MAX_FILE_BYTES:,} are read")
            content = (folder / place).read_bytes()
            digest.update(f"{path}\0{hashlib.sha256(content).hexdigest()}\n".encode())
            if place.name == _META:
                names[str(place.parent)] = _model_name(content, place)
            else:
                results.append(_Result(str(place.parent), place.parent.name, parse_result(content, index)))
        except OSError as error:
            faults.append(f"{path}: {reason(error)}")
        except ValueError as error:
            faults.append(f"{path}: {error}")
    named = [result._replace(model=names.get(result.model) or _folder_name(result.model)) for result in results]
    rows, n_set_aside = _preferred(named, index)
    origin = {
        "sha256": digest.hexdigest(),
        "n_files": len(results),
        "n_set_aside": n_set_aside,
        "faults": faults[:_SHOWN_FAULTS],
        "n_faults": len(faults),
    }
    table = pa.table({name: [row[at] for row in rows] for at, name in enumerate(_COLUMNS)})
    return table.replace_schema_metadata({"state": state, "origin": json.dumps(origin)})


def _model_name(content: bytes, place: Path) -> str:
    found = parse_json(content)
    name = found.get("name") if isinstance(found, Mapping) else None
    return name if isinstance(name, str) and name else _folder_name(str(place.parent))


def _folder_name(folder: str) -> str:
    """mteb writes org/model as org__model."""
    return Path(folder).parent.name.replace("__", "/", 1)


def _preferred(results: Iterable[_Result], index: TaskIndex) -> tuple[list[tuple[Any, ...]], int]:
    """One file per model, task and split, as rows, and how many files lost a split to another.

    Preferred is today's dataset revision, then a named revision of the model, then the newest mteb.
    """
    from packaging.version import InvalidVersion, Version

    def version_of(text: str) -> Version:
        try:
            return Version(text)
        except InvalidVersion:
            return Version("0")

    def order(result: _Result) -> tuple[bool, bool, Version, str]:
        task, revision = result.file.task, result.file.dataset_revision
        is_current = task in index and revision == index.task(task).revision
        return is_current, result.revision not in _UNNAMED, version_of(result.file.mteb_version), result.revision

    owners: dict[tuple[str, str, str], int] = {}
    rows, lost = [], set()
    for at, result in enumerate(sorted(results, key=order, reverse=True)):
        file = result.file
        for split, subset, score in file.scores:
            if owners.setdefault((result.model, file.task, split), at) != at:
                lost.add(at)
                continue
            place = result.model, result.revision, file.task, split, subset
            rows.append((*place, score, file.dataset_revision, file.mteb_version))
    return rows, len(lost)


def _source(revision: str, mteb_version: str) -> str:
    if revision == SELF_REPORTED:
        return "model card, by MTEB's results repository"
    return f"MTEB results repository{f', mteb {mteb_version}' if mteb_version else ''}"


# -------------------------------------------------------------------------------------------------------------- cache


def _load(file: Path, state: str) -> pa.Table | None:
    """The kept table, if it is of this state and is read as it was written."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        data = file.read_bytes()
        check_expansion(data)
        with parquet.ParquetFile(pa.BufferReader(data)) as stored:
            table = stored.read(use_threads=False)
        metadata = table.schema.metadata or {}
        whole = (
            tuple(table.column_names) == _COLUMNS and {"sha256", "n_faults"} <= parse_json(metadata[b"origin"]).keys()
        )
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
    return table if whole and metadata.get(b"state") == state.encode() else None


def _keep(table: pa.Table, file: Path) -> None:
    """Keeps the table for the next reading; a cache that can't be written costs time only."""
    from pyarrow import parquet

    with contextlib.suppress(UnwritableError, OSError):
        write_atomically(file, lambda path: parquet.write_table(table, path, compression="zstd"))
