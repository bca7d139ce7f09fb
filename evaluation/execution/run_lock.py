"""Lets one process at a time use a run's folder, or one per part, by locks that end with their processes."""

from __future__ import annotations

import contextlib
import datetime
import errno
import logging
import os
import platform
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import BaseFileLock, Timeout

from evaluation.errors import FolderInUseError, UnwritableError, UsageError
from evaluation.planning.parts import Part
from evaluation.system.atomic_files import make_folder, reason, write_json
from evaluation.system.file_locks import open_lock
from evaluation.system.limited_reading import parse_json

_LOG = logging.getLogger(__name__)
LOCK_FILE, HOLDER_FILE, PARTS_FOLDER = ".lock", ".holder.json", ".parts"
_GLANCE_S = 1.0
"""How long a lock that only has to be free is tried: others glance at it too, for milliseconds."""
_WAIT_S = (0.2, 1.0)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class _Place(NamedTuple):
    """A lock in a run's folder, and the file that names its holder."""

    lock: Path
    holder: Path


@contextmanager
def hold(folder: Path, *, part: Part | None = None, wait: bool = False) -> Iterator[None]:
    """Creates a run's folder if needed, and keeps other processes out of it.

    The kernel drops the lock when its process ends for whatever reason, so it can't become stale: a killed process
    leaves only the file that names it.

    Args:
        part: Keeps out only who runs the same part, the whole run, or parts of another count.
        wait: Wait until other processes release the folder.

    Raises:
        FolderInUseError: Another process holds the folder; the message names it.
        UsageError: The folder can't be created or written.
        UnwritableError: The disk is full.

    >>> with hold(config.run_folder):  # doctest: +SKIP
    ...     run_jobs()
    """
    own = _place(folder, part)
    try:
        make_folder(own.lock.parent)
        lock = open_lock(own.lock)
        _acquire(lock, folder, part, wait=wait)
    except OSError as error:
        kind = UnwritableError if error.errno in _FULL else UsageError
        raise kind(f"{folder} can't be written: {reason(error)}.") from error
    try:
        if own.holder.exists():
            _LOG.info("%s was held by %s, which was killed", folder, _describe(own.holder))
        write_json(own.holder, {"pid": os.getpid(), "host": platform.node(), "started": _now()})
        yield
    finally:
        with contextlib.suppress(OSError):
            own.holder.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: BaseFileLock, folder: Path, part: Part | None, *, wait: bool) -> None:
    """Takes the own lock, then looks at those that exclude it; of two processes, one at least sees the other's."""
    is_told = False
    while True:
        holder = _try_to_acquire(lock, folder, part)
        if holder is None:
            return
        who = _describe(holder)
        if not wait:
            raise FolderInUseError(
                f"{folder} is in use by {who}. Start again when it has ended, add --wait, or choose another --output."
            )
        if not is_told:
            _LOG.warning("%s is in use by %s; waiting until it ends.", folder, who)
            is_told = True
        time.sleep(random.uniform(*_WAIT_S))  # so that two that wait for each other don't do so in step


def _try_to_acquire(lock: BaseFileLock, folder: Path, part: Part | None) -> Path | None:
    """Takes the lock; if another process is in the way, returns the file that names it, and holds nothing."""
    own = _place(folder, part)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return own.holder
    for other in _excluding(folder, part):
        try:
            with open_lock(other.lock).acquire(timeout=_GLANCE_S):
                pass
        except Timeout:
            lock.release()
            return other.holder
    return None


def _place(folder: Path, part: Part | None) -> _Place:
    if part is None:
        return _Place(folder / LOCK_FILE, folder / HOLDER_FILE)
    name = f"{part.number}-of-{part.n_parts}"
    return _Place(folder / PARTS_FOLDER / f"{name}.lock", folder / PARTS_FOLDER / f"{name}.json")


def _excluding(folder: Path, part: Part | None) -> list[_Place]:
    """Returns the locks of whoever may not use the folder at the same time."""
    whole = [] if part is None else [_place(folder, None)]
    same = "" if part is None else f"-of-{part.n_parts}"
    parts = sorted((folder / PARTS_FOLDER).glob("*-of-*.lock"))
    others = [_Place(lock, lock.with_suffix(".json")) for lock in parts if not same or not lock.stem.endswith(same)]
    return [place for place in (*whole, *others) if place.lock.exists()]


def _describe(holder: Path) -> str:
    try:
        content = parse_json(holder.read_bytes())
        return f"process {content['pid']} on {content['host']} (since {content['started']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
