"""Finds snapshots of repositories in the Hugging Face Hub's cache on this machine, and checks that they are complete.

Knows nothing of tasks or models; which files of a repository are wanted is said by patterns.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from evaluation.errors import EvaluationError
from evaluation.system.limited_reading import parse_json

Kind = Literal["model", "dataset"]

MAIN = "main"
CARD_FILES = ("README.md", ".huggingface.yaml")
_SHA256_DIGITS = 64
_CONTENT_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")


class HubError(EvaluationError):
    """A repository that can't be had; the message says what to do."""


class IncompleteSnapshotError(HubError):
    """A snapshot in the cache that lacks files."""


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of some patterns matches a file's name; a folder stands for all files in it."""
    return any(
        fnmatch.fnmatchcase(name, pattern.removeprefix("./").replace("**", "*")) or name.startswith(f"{pattern}/")
        for pattern in patterns
    )


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


def check_complete(folder: Path, patterns: Sequence[str], repository: str, *, ignored: Sequence[str] = ()) -> None:
    """Refuse a snapshot that lacks a wanted file.

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
    missing += [
        name for name in _listed(folder) if matches(name, patterns) and not matches(name, ignored) and name not in there
    ]
    if missing:
        names = ", ".join(list(dict.fromkeys(missing))[:3])
        raise IncompleteSnapshotError(
            f"the copy of {repository} in {hub_cache()} lacks {names}; run fetch-data again where there is a network."
        )


def check_content(folder: Path, patterns: Sequence[str], repository: str) -> list[str]:
    """Refuse a snapshot with a file that is not what the Hub sent.

    In the cache a file is a link to a blob, whose name is the sha256 of its content (large files) or git's sha1 of it.

    Args:
        patterns: Of the files that will be read.

    Returns:
        Names of files that can't be checked, because they are not links to such blobs.

    Raises:
        HubError: The content of a file does not match its blob's name.
    """
    unchecked = []
    for name in files_in(folder):
        if not matches(name, patterns):
            continue
        blob = (folder / name).resolve()
        found = blob.stat()
        if blob.parent.name != "blobs" or not _CONTENT_NAME.fullmatch(blob.name):
            unchecked.append(name)
        elif not _is_sound(blob, found.st_size, found.st_mtime_ns, found.st_ctime_ns):
            raise HubError(
                f"{name} of {repository} in the Hub cache is damaged: its content is not what the Hub sent. Delete "
                f"{blob}, then run fetch-data."
            )
    return unchecked


@cache
def _is_sound(blob: Path, size: int, mtime_ns: int, ctime_ns: int) -> bool:
    """Whether a blob's content has the hash that is its name; read once per process while its size and times stay."""
    digest = hashlib.sha256() if len(blob.name) == _SHA256_DIGITS else hashlib.sha1(b"blob %d\0" % size)
    with blob.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == blob.name


def _listed(folder: Path) -> list[str]:
    """Files of a commit as the Hub's library noted them beside the snapshots; empty where it did not."""
    noted = folder.parent.parent / "trees" / f"{folder.name}.json"
    try:
        return list(parse_json(noted.read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
