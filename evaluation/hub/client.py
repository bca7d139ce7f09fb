"""Repositories of the Hugging Face Hub and their snapshots in its cache on this machine: find, describe, fetch, lock.

Knows nothing of tasks or models; which files of a repository are wanted is said by patterns. Imports huggingface_hub
inside functions only.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from evaluation.errors import EvaluationError, UsageError
from evaluation.system.retries import can_pass, with_retries

Kind = Literal["model", "dataset"]
Result = TypeVar("Result")

LOCK_VERSION = 2
MAIN = "main"
CARD_FILES = ("README.md", ".huggingface.yaml")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")
_NETWORK_ERRORS = frozenset({"ConnectError", "ConnectionError", "ConnectTimeout", "NetworkError", "TransportError"})


class HubError(EvaluationError):
    """A repository that can't be had; the message says what to do."""


class IncompleteSnapshotError(HubError):
    """A snapshot in the cache that lacks files."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository: its size in bytes, and its sha256 where the Hub states it (large files)."""

    name: str
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Repository:
    """What the Hub says of a repository at a commit."""

    kind: Kind
    name: str
    commit: str
    licence: str | None
    files: tuple[RemoteFile, ...]

    def matching(self, patterns: Sequence[str]) -> list[RemoteFile]:
        """The files that one of the patterns matches; a * also matches slashes."""
        return [file for file in self.files if matches(file.name, patterns)]


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of some patterns matches a file's name; a folder stands for all files in it."""
    return any(
        fnmatch.fnmatchcase(name, pattern.removeprefix("./").replace("**", "*")) or name.startswith(f"{pattern}/")
        for pattern in patterns
    )


# ------------------------------------------------------------------------------------------------------ in the cache


def hub_cache() -> Path:
    """The Hub's cache folder, where huggingface_hub looks: HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME."""
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if own:
        return Path(own).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def is_offline() -> bool:
    """Whether the user switched the network off (HF_HUB_OFFLINE)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def snapshot_folder(kind: Kind, repository: str, revision: str | None) -> Path | None:
    """The folder of a repository's files at a revision, if the cache has one.

    Args:
        kind: Of the repository.
        repository: Its name on the Hub.
        revision: Commit, branch or tag; None: main.
    """
    root = hub_cache() / f"{kind}s--{repository.replace('/', '--')}"
    commit = revision or MAIN
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (root / "refs" / commit).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return None
    folder = root / "snapshots" / commit
    return folder if folder.is_dir() else None


def files_in(folder: Path) -> list[str]:
    """Names of a snapshot's files, sorted; links whose content is gone are left out."""
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def check_complete(folder: Path, patterns: Sequence[str], repository: str) -> None:
    """Refuse a snapshot that lacks a file of the wanted ones.

    Each pattern must match a file (of general ones such as *.csv, one), numbered shards must all be there, and so must
    every file that the Hub's library noted when it listed the repository.

    Raises:
        IncompleteSnapshotError: It lacks one.
    """
    there = files_in(folder)
    named = [pattern for pattern in patterns if not pattern.startswith("*")]
    missing = [pattern for pattern in named if not any(matches(name, [pattern]) for name in there)]
    if len(named) < len(patterns) and not any(matches(name, patterns) for name in there if name not in CARD_FILES):
        missing.append("every data file")
    wanted = [name for name in there if matches(name, patterns)]
    for name in wanted:
        shard = _SHARD.search(name)
        for number in range(int(shard.group(2)) if shard else 0):
            other = f"{name[: shard.start(1)]}{number:05d}{name[shard.end(1) :]}" if shard else name
            if other not in there:
                missing.append(other)
    missing += [name for name in _listed(folder) if matches(name, patterns) and name not in there]
    if missing:
        names = ", ".join(list(dict.fromkeys(missing))[:3])
        raise IncompleteSnapshotError(
            f"the copy of {repository} in {hub_cache()} lacks {names}; run fetch-data again where there is a network."
        )


def _listed(folder: Path) -> list[str]:
    """Files of a commit as the Hub's library noted them beside the snapshots; empty where it did not."""
    noted = folder.parent.parent / "trees" / f"{folder.name}.json"
    try:
        return list(json.loads(noted.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


# ----------------------------------------------------------------------------------------------------- over the network


def describe(kind: Kind, name: str, revision: str | None) -> Repository:
    """What the Hub says of a repository: commit, licence, files with sizes.

    Raises:
        HubError: It can't be reached, or not with this token, or it has no such revision.
    """
    from huggingface_hub import HfApi

    def ask() -> Repository:
        info: Any = HfApi().repo_info(name, repo_type=kind, revision=revision, files_metadata=True)
        files = tuple(
            RemoteFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None)
            for file in info.siblings or ()
        )
        licence = getattr(info.card_data, "license", None) if info.card_data else None
        return Repository(kind, name, str(info.sha), None if licence is None else str(licence), files)

    return _persistent(kind, name, revision, ask)


def fetch(kind: Kind, name: str, revision: str | None, patterns: Sequence[str], *, ignored: Sequence[str] = ()) -> Path:
    """Bring the matching files of a repository into the Hub's cache; what is there is not fetched again.

    Files come in parallel; one that was cut off goes on where it stopped.

    Args:
        kind: Of the repository.
        name: Its name on the Hub.
        revision: Commit, branch or tag; None: the newest.
        patterns: Of the wanted files.
        ignored: Of files that are not wanted, though they match.

    Returns:
        The snapshot's folder, whose name is the commit.

    Raises:
        HubError: It can't be had.
    """
    from huggingface_hub import snapshot_download

    wanted = [pattern.removeprefix("./").replace("**", "*") for pattern in patterns]

    def download() -> Path:
        found = snapshot_download(
            name, repo_type=kind, revision=revision, allow_patterns=wanted, ignore_patterns=list(ignored)
        )
        return Path(found)

    return _persistent(kind, name, revision, download)


def exactly(name: str) -> str:
    """A pattern that matches one name only."""
    return glob.escape(name)


def _persistent(kind: Kind, name: str, revision: str | None, act: Callable[[], Result]) -> Result:
    """Call, again a few times where it fails for a reason that can pass, and say in a sentence what went wrong."""

    def direct() -> Result:
        try:
            return act()
        except FileNotFoundError as error:  # the library looked into its cache after the network had failed
            raise (error.__cause__ if isinstance(error.__cause__, Exception) else error) from None

    try:
        return with_retries(direct, f"{kind} {name}")
    except Exception as error:  # the library's transport, whichever it is, has exceptions of its own
        if not isinstance(error, OSError | ValueError) and not can_pass(error) and not _is_network_error(error):
            raise
        raise HubError(_sentence(kind, name, revision, error)) from error


def _status(error: Exception) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _is_network_error(error: Exception) -> bool:
    return any(kind.__name__ in _NETWORK_ERRORS for kind in type(error).__mro__)


def _sentence(kind: Kind, name: str, revision: str | None, error: Exception) -> str:
    """What went wrong and what to do."""
    what = f"{kind} {name!r}" if revision is None else f"{kind} {name!r} (revision {revision})"
    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}"
    status, kinds = _status(error), {base.__name__ for base in type(error).__mro__}
    login = "log in with `hf auth login` or set HF_TOKEN"
    if "GatedRepoError" in kinds:
        return f"{what} is gated: accept its conditions on {page}, then {login}."
    if "RevisionNotFoundError" in kinds:
        return f"{what} has no such revision on the Hub; take a commit, branch or tag that {page} lists."
    if "RepositoryNotFoundError" in kinds or status == 404:
        return f"{what} is not on the Hub, or is private: check the name, or {login}."
    if status in {401, 403}:
        return f"{what} is not open to this machine (HTTP {status}): {login}."
    if status == 429:
        return f"{what}: the Hub asks to slow down (HTTP 429); start again later, or {login}, which raises the limit."
    if status is not None:
        return f"{what}: the Hub answered HTTP {status}; start again later, what was fetched is kept."
    if "OfflineModeIsEnabled" in kinds or "LocalEntryNotFoundError" in kinds or is_offline():
        cache = hub_cache()
        return f"{what} is not in the local Hub cache ({cache}); fetch it with fetch-data where there is a network."
    if "ConnectError" in kinds or "ConnectTimeout" in kinds:
        return f"{what}: the Hub can't be reached; check the network, or fetch it elsewhere with fetch-data."
    if can_pass(error) or "consistency check" in str(error).lower():
        return f"{what}: the download was cut off; start again, it goes on where it stopped."
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return f"{what} can't be fetched: {reason.rstrip('.')}."


# ------------------------------------------------------------------------------------------------------------ the lock


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
        content = json.loads(file.read_text(encoding="utf-8"))
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


def sha256_of(file: Path) -> str:
    """Of a file's content, 64 hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
