"""Hashes of large files are remembered for later processes only as long as the file can't have changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.system import content_hashes
from evaluation.system.content_hashes import content_hash


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read, with a cache of their own; files of every size and age are remembered."""
    read: list[Path] = []

    def noted(path: Path) -> str:
        read.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(content_hashes, "sha256_of", noted)
    monkeypatch.setattr(content_hashes, "_LEAST_BYTES", 0)
    monkeypatch.setattr(content_hashes, "_JUST_WRITTEN_NS", 0)
    return read


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights of one")
    time.sleep(0.02)  # more than a tick of the file system's clock
    return path


def sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def test_an_unchanged_file_is_read_once(file: Path, reads: list[Path]) -> None:
    assert [content_hash(file) for _ in range(3)] == [sha256(b"weights of one")] * 3
    assert reads == [file]


def test_a_link_to_the_file_is_the_file(file: Path, reads: list[Path]) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    content_hash(file)
    assert content_hash(link) == sha256(b"weights of one")
    assert reads == [file]


def overwritten(file: Path) -> None:
    file.write_bytes(b"weights of two")


def replaced(file: Path) -> None:
    new = file.with_name("new")
    new.write_bytes(b"weights of two")
    shutil.copystat(file, new)
    new.replace(file)


@pytest.mark.parametrize("change", [overwritten, replaced])
def test_other_bytes_of_the_same_size_and_time_are_read(
    file: Path, reads: list[Path], change: Callable[[Path], None]
) -> None:
    content_hash(file)
    before = file.stat()
    change(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert content_hash(file) == sha256(b"weights of two")


@pytest.mark.parametrize(
    ("name", "value"),
    [("_JUST_WRITTEN_NS", 10**15), ("_LEAST_BYTES", 10**9), ("is_on_local_disk", lambda path: False)],
    ids=["just written", "small", "on a network"],
)
def test_what_may_change_unseen_is_read_each_time(
    file: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    content_hash(file)
    monkeypatch.setattr(content_hashes, name, value)
    overwritten(file)
    content_hash(file)
    content_hash(file)
    assert reads == [file] * 3


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    file: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(path: Path) -> str:
        found = sha256(path.read_bytes())
        overwritten(path)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(content_hashes, "sha256_of", slow)
        content_hash(file)
    assert content_hash(file) == sha256(b"weights of two")


def test_a_damaged_note_is_no_hash(file: Path, reads: list[Path], tmp_path: Path) -> None:
    content_hash(file)
    (note,) = (tmp_path / "cache" / "hashes").iterdir()
    note.write_bytes(note.read_bytes().replace(sha256(b"weights of one").encode(), sha256(b"other").encode()))
    assert content_hash(file) == sha256(b"weights of one")


def test_a_cache_that_can_not_be_written_is_done_without(file: Path, reads: list[Path], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder", encoding="utf-8")
    assert content_hash(file) == content_hash(file) == sha256(b"weights of one")
