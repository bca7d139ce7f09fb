"""Locks and synced folders on file systems that lack them: work goes on with another kind of lock and a warning."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path

import pytest
from filelock import FileLock, SoftFileLock, Timeout

from evaluation.errors import FolderInUseError
from evaluation.execution.run_lock import hold
from evaluation.system import atomic_files
from evaluation.system.file_locks import open_lock


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_the_kernels_locks_the_file_is_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def flock(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    lock, other = open_lock(tmp_path / ".lock"), open_lock(tmp_path / ".lock")
    assert isinstance(lock, SoftFileLock)
    with lock.acquire(timeout=0), pytest.raises(Timeout):
        other.acquire(timeout=0)
    other.acquire(timeout=0)
    other.release()
    assert "has no locks" in caplog.text
    with hold(tmp_path / "run"), pytest.raises(FolderInUseError), hold(tmp_path / "run"):
        pass


def test_lock_that_another_process_holds_is_still_the_kernels(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"):
        assert type(open_lock(tmp_path / ".lock")) is FileLock


def test_folder_that_can_not_be_synced_is_a_warning_and_the_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fsync = os.fsync

    def no_folders(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):  # noqa: PTH112 - a link of the kernel
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", no_folders)
    monkeypatch.setattr(atomic_files, "_unsynced", set())
    caplog.set_level(logging.WARNING)
    for name in ("a", "b"):
        atomic_files.write_text(tmp_path / name, "text")
        assert (tmp_path / name).read_text(encoding="utf-8") == "text"
    assert len(caplog.records) == 1
    assert f"{tmp_path} can't be synced (Invalid argument)" in caplog.text
