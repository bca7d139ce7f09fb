"""The lock: what it holds a snapshot to, and what it says when it can't be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.data import make_snapshot

from evaluation.errors import UsageError
from evaluation.hub.cache import files_in
from evaluation.hub.lock import lock_faults, lock_file, read_lock
from evaluation.system.atomic_files import sha256_of

COMMIT = "a" * 40


def test_lock_names_what_changed(tmp_path: Path) -> None:
    folder = make_snapshot(tmp_path, COMMIT, {"a.csv": "1", "b.csv": "2", "c.csv": "3"})
    locked = {name: {"sha256": sha256_of(folder / name)} for name in ("a.csv", "b.csv")}
    entry = {"kind": "dataset", "repository": "some/data", "revision": COMMIT, "files": locked}
    assert lock_faults(entry, folder, ["a.csv", "b.csv"]) == []
    assert "c.csv is not in the lock" in lock_faults(entry, folder, files_in(folder))[0]
    (folder / "a.csv").write_bytes(bytes([ord("1") ^ 1]))
    assert "a.csv is not the file that was locked" in lock_faults(entry, folder, ["a.csv"])[0]
    (folder / "b.csv").unlink()
    assert "b.csv is locked, but missing" in lock_faults(entry, folder, [])[1]
    assert "run fetch-data" in lock_faults(entry, None, [])[0]


def test_lock_that_is_not_there_or_is_damaged_is_a_sentence(tmp_path: Path) -> None:
    file = lock_file(tmp_path / "suite.yaml")
    assert file.name == "suite.lock.json"
    with pytest.raises(UsageError, match="there is no lock .*; fetch-data writes it"):
        read_lock(file)
    file.write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="can't be read"):
        read_lock(file)
