"""Tells local disks from network file systems, whose clients may report a file's old size and times."""

from __future__ import annotations

import os
from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
_LOCAL = frozenset(
    {
        "apfs", "bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "hfs", "jfs", "ntfs", "ntfs3", "overlay",
        "ramfs", "squashfs", "tmpfs", "vfat", "xfs", "zfs",
    }
)  # fmt: skip


def is_on_local_disk(path: Path, mounts: Path = _MOUNTS) -> bool:
    """Whether a path lies on a file system that only this machine writes to; False where that is unknown."""
    place, found = Path(os.path.realpath(path)), ("", "")
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    for line in lines:
        _, mounted, kind, *_ = line.split(" ")
        mounted = mounted.encode("utf-8", "surrogateescape").decode("unicode_escape")  # blanks are written as \040
        if place.is_relative_to(mounted) and len(mounted) >= len(found[0]):
            found = mounted, kind
    return found[1] in _LOCAL
