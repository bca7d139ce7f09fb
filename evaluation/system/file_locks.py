"""Opens locks between processes, also where a file system has none of the kernel. Knows nothing of what they guard."""

from __future__ import annotations

import errno
import fcntl
import logging
from pathlib import Path
from tempfile import TemporaryFile

from filelock import BaseFileLock, FileLock, SoftFileLock

_LOG = logging.getLogger(__name__)
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})


def open_lock(file: Path) -> BaseFileLock:
    """Returns a lock that is not held yet: of the kernel, or where that has none (some NFS mounts), the file itself.

    Raises:
        OSError: The file can't be created.
    """
    if _has_locks(file.parent):
        return FileLock(file)
    _LOG.warning(
        "the file system of %s has no locks, so the file itself is the lock; if a process elsewhere is killed, "
        "delete the file.",
        file,
    )
    return SoftFileLock(file.with_name(f"{file.name}.soft"))


def _has_locks(folder: Path) -> bool:
    with TemporaryFile(dir=folder) as probe:  # a file of its own: trying another's lock would be in its holder's way
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _NO_LOCKS
    return True
