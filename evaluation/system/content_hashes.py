"""Hashes files, and remembers the hashes of large ones for later processes, as git's index does.

A remembered hash counts while the file system reports the same inode, size and times for the file. It is neither
used nor kept where that proves nothing: on network file systems, and for files written within the last seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import NamedTuple

from evaluation.errors import StoreError
from evaluation.system.atomic_files import read_sealed_json, sha256_of, write_sealed_json
from evaluation.system.cache_folder import user_cache_dir
from evaluation.system.file_systems import is_on_local_disk

_LEAST_BYTES = 1 << 20
"""Smaller files are hashed as fast as their remembered hash is read."""
_JUST_WRITTEN_NS = 2_000_000_000
"""The coarsest clock of a file system: a file written within this time of being read may change without a trace."""


class FileState(NamedTuple):
    """What the file system says of a file: as long as all of it stays, so does the content."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def state_of(path: Path) -> FileState | None:
    """Returns the state of a file; None where it can't be had."""
    try:
        found = path.stat()
    except OSError:
        return None
    return FileState(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def was_just_written(state: FileState, read_at_ns: int) -> bool:
    """Returns whether a file was written so shortly before it was read that a later change may leave its state."""
    return read_at_ns - max(state.mtime_ns, state.ctime_ns) < _JUST_WRITTEN_NS


def content_hash(path: Path) -> str:
    """Returns the sha256 of a file's content: read now, or remembered of a large file that has not changed since.

    Raises:
        OSError: The file can't be read.
    """
    state, read_at_ns = state_of(path), time.time_ns()
    if state is None or state.size < _LEAST_BYTES or not is_on_local_disk(path):
        return sha256_of(path)
    note = _note_of(path)
    known = _remembered(note, state)
    if known is not None:
        return known
    digest = sha256_of(path)
    if state_of(path) == state and not was_just_written(state, read_at_ns):
        with contextlib.suppress(StoreError):  # a cache that can't be written: hashed again next time
            write_sealed_json(note, {"state": state, "content": digest})
    return digest


def _note_of(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    return user_cache_dir() / "hashes" / f"{name}.json"


def _remembered(note: Path, state: FileState) -> str | None:
    try:
        found = read_sealed_json(note)
    except (FileNotFoundError, StoreError):
        return None
    digest = found.get("content")
    return digest if found.get("state") == list(state) and isinstance(digest, str) else None
