"""Reads and writes the lock of a config: the commit and the file hashes of every repository that it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evaluation.errors import UsageError
from evaluation.hub.cache import MAIN, hub_cache
from evaluation.hub.client import Repository
from evaluation.system.atomic_files import sha256_of
from evaluation.system.limited_reading import parse_json

LOCK_VERSION = 2


def lock_file(config: Path) -> Path:
    """Where a config's lock lies: beside it, with the suffix .lock.json."""
    return config.with_suffix(".lock.json")


def locked_repository(
    repository: Repository, revision: str | None, folder: Path, names: Iterable[str]
) -> dict[str, Any]:
    """A lock's entry: what was asked for (commit, branch or tag) and fetched, with the sha256 of each file."""
    files = {name: {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size} for name in names}
    return {
        "kind": repository.kind,
        "repository": repository.name,
        "asked": revision or MAIN,
        "revision": repository.commit,
        "licence": repository.licence,
        "files": dict(sorted(files.items())),
    }


def read_lock(file: Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    """(kind, repository, revision asked for) -> entry.

    Raises:
        UsageError: There is no lock, or it can't be understood.
    """
    try:
        content = parse_json(file.read_bytes())
        if content["lock_version"] != LOCK_VERSION:
            raise ValueError(f"it has version {content['lock_version']}, not {LOCK_VERSION}")
        return {(entry["kind"], entry["repository"], entry["asked"]): entry for entry in content["repositories"]}
    except FileNotFoundError:
        raise UsageError(f"there is no lock {file}; fetch-data writes it.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"the lock {file} can't be read ({error}); write it again with fetch-data.") from error


def lock_faults(entry: Mapping[str, Any], folder: Path | None, names: Iterable[str]) -> list[str]:
    """What of a snapshot is not as the lock says, a sentence each.

    Args:
        entry: From the lock.
        folder: The snapshot, if there is one.
        names: The files that would be read.
    """
    where = f"{entry['kind']} {entry['repository']} (revision {entry['revision']})"
    if folder is None:
        return [f"{where} is locked, but not in {hub_cache()}; run fetch-data."]
    locked: Mapping[str, Any] = entry["files"]
    faults = [f"{where}: {name} is not in the lock." for name in names if name not in locked]
    for name, expected in locked.items():
        file = folder / name
        if not file.is_file():
            faults.append(f"{where}: {name} is locked, but missing; run fetch-data.")
        elif sha256_of(file) != expected["sha256"]:
            faults.append(f"{where}: {name} is not the file that was locked; delete {file.resolve()} and fetch again.")
    return faults
