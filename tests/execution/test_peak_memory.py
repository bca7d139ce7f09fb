"""Peak memory of a job: what the system's counter says, and whether it says it of this job alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.execution import peak_memory
from evaluation.execution.peak_memory import watch_memory
from evaluation.records.job_record import PeakMemory


@pytest.fixture
def status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "status"
    file.write_text("Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n", encoding="utf-8")
    monkeypatch.setattr(peak_memory, "_STATUS", file)
    return file


def test_a_counter_that_rose_is_the_peak_of_the_job(status: Path) -> None:
    peak = watch_memory("cpu")
    status.write_text("VmHWM:\t    3072 kB\n", encoding="utf-8")
    assert peak() == PeakMemory(where="process", bytes=3 * 2**20, at_most=False)


def test_a_counter_that_stayed_is_an_upper_limit(status: Path) -> None:
    assert watch_memory("cpu")() == PeakMemory(where="process", bytes=2 * 2**20, at_most=True)


def test_a_system_without_the_counter_measures_nothing(status: Path) -> None:
    status.unlink()
    assert watch_memory("cpu")() is None
