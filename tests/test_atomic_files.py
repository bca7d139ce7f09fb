"""Files that appear whole or not at all: what killed processes leave is removed, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.system import atomic_files
from evaluation.system.atomic_files import write_text

KILLED = """
import os, signal, sys
from pathlib import Path
from evaluation.system.atomic_files import write_atomically
write_atomically(Path(sys.argv[1]), lambda _: os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_files, "_swept", set())


def age(file: Path) -> Path:
    os.utime(file, (1_000, 1_000), follow_symlinks=False)
    return file


def test_next_write_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, tmp_path / "a.html"]).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    write_text(tmp_path / "b.html", "young")
    assert left.exists()  # its process may be at work
    age(left)
    write_text(tmp_path / "b.html", "the same process looks once")
    assert left.exists()
    atomic_files._swept.clear()
    write_text(tmp_path / "b.html", "another process")
    assert [file.name for file in tmp_path.iterdir()] == ["b.html"]


def test_other_files_and_links_stay(tmp_path: Path) -> None:
    """Old files under names of others, a link under a name of ours, and a folder that is a link."""
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    own_name = f".a.html.{'0' * 16}.tmp"
    others = [folder / name for name in (".a.html.tmp", f"a.html.{'0' * 16}.tmp", f".a.html.{'0' * 15}g.tmp")]
    others += [elsewhere / own_name]
    for file in others:
        file.write_text("", encoding="utf-8")
        age(file)
    link = folder / own_name
    link.symlink_to(elsewhere / own_name)
    age(link)
    (tmp_path / "linked").symlink_to(elsewhere)
    for place in ("folder", "linked"):
        write_text(tmp_path / place / "b.html", "")
    assert all(file.exists() for file in [*others, link])
