"""No room, or no right to write: one sentence, the right exit code, nothing half-written, a resume that completes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.watched_runs import Orders, Scores, read_events, scores_of, start

from evaluation.errors import StoreError
from evaluation.records.store import RunStore
from evaluation.system.atomic_files import write_text

SIZES = [0, 64, 512, 1_000, 2_000, 3_500, 6_000, 9_000, 16_000, 40_000]
"""Bytes that a file may have at most: the smallest refuses run.json, the largest lets all through but the vectors."""


def check_sound(folder: Path) -> None:
    """Every stored record is whole, and nothing unfinished lies about."""
    assert not list(folder.rglob("*.tmp"))
    for file in folder.glob("jobs/*/*/*/record.json"):
        fingerprint = file.parent.name
        record = RunStore(folder).load(file.parents[2].name, file.parents[1].name, fingerprint)
        assert record is not None
    if (folder / "run.json").exists():
        RunStore(folder).read_run()


def check_said(orders: Orders, *parts: str) -> None:
    lines = [line for line in orders.said.read_text(encoding="utf-8").splitlines() if line]
    assert "Traceback" not in "\n".join(lines)
    assert "Error" not in "\n".join(lines)
    complaints = [line for line in lines if line.startswith("run-benchmark: ") or ": failed: " in line]
    assert len(complaints) == 1, lines
    for part in parts:
        assert part in complaints[0]


@pytest.mark.parametrize("size", [pytest.param(n, marks=() if n == 2_000 else pytest.mark.full) for n in SIZES])
def test_a_file_size_limit_damages_nothing_and_the_next_start_completes(
    size: int, fresh: Callable[..., Orders], expected: Scores
) -> None:
    orders = fresh("run", max_file_bytes=size)
    os.mkfifo(orders.said)  # a pipe has no size limit
    pipe = os.open(orders.said, os.O_RDWR | os.O_NONBLOCK)
    starved = start(orders)
    starved.join(240)
    orders.said.unlink()
    orders.said.write_bytes(os.read(pipe, 65_536))
    os.close(pipe)
    folder = orders.config.parent / "results" / "small"
    if starved.exitcode == 0:  # only vectors did not fit
        assert "vectors can't be kept" in orders.said.read_text(encoding="utf-8")
        assert scores_of(folder) == expected
    else:
        assert starved.exitcode == 3, orders.said.read_text(encoding="utf-8")
        check_said(orders, "can't be", "File too large")
    check_sound(folder)
    assert not list((orders.cache).rglob("*.tmp"))
    process = start(replace(orders, max_file_bytes=None))
    process.join(120)
    assert process.exitcode == 0, orders.said.read_text(encoding="utf-8")
    assert scores_of(folder) == expected
    assert not list(folder.rglob("*.damaged"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A function: KiB -> the folder of a file system of that size."""
    mounted: list[Path] = []

    def mount(kib: int) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small file system takes root")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("kib", [48, *(pytest.param(kib, marks=pytest.mark.full) for kib in (8, 24, 96))])
def test_a_really_full_file_system_damages_nothing_and_the_next_start_completes(
    kib: int, small_disk: Callable[[int], Path], fresh: Callable[..., Orders], expected: Scores
) -> None:
    disk, orders = small_disk(kib), fresh("run")
    orders = replace(orders, arguments=("--output", str(disk / "results")))
    starved = start(orders)
    starved.join(120)
    assert starved.exitcode == 3, orders.said.read_text(encoding="utf-8")
    check_said(orders, "No space left on device")
    check_sound(disk / "results" / "small")
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    before = read_events(orders.events)
    process = start(orders)
    process.join(120)
    assert process.exitcode == 0, orders.said.read_text(encoding="utf-8")
    assert scores_of(disk / "results" / "small") == expected
    encoded = {event.what for event in read_events(orders.events)[len(before) :] if event.kind == "encode"}
    assert not encoded & {event.what for event in before if event.kind == "kept"}


@pytest.mark.full
def test_a_full_disk_under_the_cache_is_a_warning_and_the_scores_are_the_same(
    small_disk: Callable[[int], Path], fresh: Callable[..., Orders], expected: Scores
) -> None:
    orders = fresh("run")
    disk = small_disk(16)
    models = orders.cache / "models"
    assert not models.exists()
    process = start(replace(orders, cache=disk))
    process.join(120)
    said = orders.said.read_text(encoding="utf-8")
    assert process.exitcode == 0, said
    assert said.count("vectors can't be kept") == 1
    assert "No space left" in said
    assert scores_of(orders.config.parent / "results" / "small") == expected
    assert not list(disk.rglob("*.tmp"))


@pytest.mark.full
def test_a_read_only_file_system_is_one_sentence(
    small_disk: Callable[[int], Path], fresh: Callable[..., Orders], undisturbed: Path
) -> None:
    disk, orders = small_disk(8_000), fresh("run")
    shutil.copytree(undisturbed / "results", disk / "results")
    before = {file: file.read_bytes() for file in disk.rglob("*") if file.is_file()}
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    process = start(replace(orders, arguments=("--output", str(disk / "results"))))
    process.join(120)
    assert process.exitcode == 2
    check_said(orders, str(disk), "can't be")
    assert {file: file.read_bytes() for file in disk.rglob("*") if file.is_file()} == before


def test_a_folder_that_may_not_be_written_is_one_sentence(fresh: Callable[..., Orders], tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    orders = replace(fresh("run"), arguments=("--output", str(closed / "results")))
    process = start(orders)
    process.join(120)
    assert process.exitcode == 2
    check_said(orders, str(closed), "can't be")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_standard_output_is_a_sentence(tmp_path: Path) -> None:
    import sys

    program = "from evaluation.commands.entry import embedding_cache; embedding_cache()"
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-c", program, "show"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 3
    assert done.stderr == "embedding-cache: the output can't be written: No space left on device.\n"


def test_what_was_there_stays_where_a_write_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    write_text(file, "before")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="file can't be written: No space left on device"):
        write_text(file, "after")
    assert file.read_text(encoding="utf-8") == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
