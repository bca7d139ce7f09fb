"""Lets one process at a time use a run's folder, by a lock that ends with its process, and names the holder."""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from evaluation.errors import FolderInUseError, UnwritableError, UsageError
from evaluation.system.atomic_files import make_folder, reason, write_json

_LOG = logging.getLogger(__name__)
LOCK_FILE, HOLDER_FILE = ".lock", ".holder.json"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def hold(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Creates a run's folder if needed, and keeps other processes out of it.

    The kernel drops the lock when its process ends for whatever reason, so it can't become stale: a killed process
    leaves only the file that names it.

    Args:
        folder: The run's folder.
        wait: Wait until another process releases the folder.

    Raises:
        FolderInUseError: Another process holds the folder; the message names it.
        UsageError: The folder can't be created or written.
        UnwritableError: The disk is full.

    >>> with hold(config.run_folder):  # doctest: +SKIP
    ...     run_jobs()
    """
    holder = folder / HOLDER_FILE
    try:
        make_folder(folder)
        lock = FileLock(folder / LOCK_FILE)
        _acquire(lock, folder, wait=wait)
    except OSError as error:
        kind = UnwritableError if error.errno in _FULL else UsageError
        raise kind(f"{folder} can't be written: {reason(error)}.") from error
    try:
        if holder.exists():
            _LOG.info("%s was held by %s, which was killed", folder, _describe(holder))
        write_json(holder, {"pid": os.getpid(), "host": platform.node(), "started": _now()})
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, folder: Path, *, wait: bool) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = _describe(folder / HOLDER_FILE)
        if not wait:
            raise FolderInUseError(
                f"{folder} is in use by {who}. Start again when it has ended, add --wait, or choose another --output."
            ) from None
        _LOG.warning("%s is in use by %s; waiting until it ends.", folder, who)
        lock.acquire()


def _describe(holder: Path) -> str:
    try:
        content = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {content['pid']} on {content['host']} (since {content['started']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
