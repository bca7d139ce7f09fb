"""Streams whose loss does not matter, and what a running suite shows of its progress."""

from __future__ import annotations

import errno
import io
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from evaluation.commands.display import LossyStream
from evaluation.commands.run_benchmark import progress
from evaluation.commands.run_benchmark.progress import ConsoleReporter
from evaluation.commands.run_benchmark.time_left import TimeLeft
from evaluation.encoding.encoder import Progress
from evaluation.execution.reporting import WorkerProgress


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


# --------------------------------------------------------------------------------------------------------- streams


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_stream_on_a_full_disk_drops_what_it_can_not_write() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    stream = LossyStream(full, "utf-8")
    assert stream.failure is None
    for _ in range(3):
        assert stream.write("line\n") == 5
        assert stream.failure is not None
        assert stream.failure.errno == errno.ENOSPC
    os.close(full)


def test_a_closed_pipe_is_dropped() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = LossyStream(writing, "utf-8")
    stream.write("line\n")
    assert isinstance(stream.failure, BrokenPipeError)
    os.close(writing)


def test_a_sound_stream_is_written() -> None:
    reading, writing = os.pipe()
    stream = LossyStream(writing, "ascii")
    stream.write("line \N{GREEK SMALL LETTER ALPHA}\n")
    assert (stream.failure, stream.isatty()) == (None, False)
    os.close(writing)
    assert os.read(reading, 100).startswith(b"line ")
    os.close(reading)


PROTECTED = """
import os, sys
from evaluation.commands.display import protect_display
protect_display()
file = open(sys.argv[1], "w")
assert file.fileno() > 2, file.fileno()
print("to standard output")
print("to standard error", file=sys.stderr)
os.write(2, b"from a library")
"""


@pytest.mark.parametrize("redirect", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_standard_streams_reach_no_other_file(tmp_path: Path, redirect: str) -> None:
    command = ["sh", "-c", f'"$0" -c "$1" "$2" {redirect}', sys.executable, PROTECTED, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_bytes() == b""


# -------------------------------------------------------------------------------------------------------- time left


def test_time_left_within_the_first_job_by_hand() -> None:
    clock = Clock()
    left = TimeLeft(2, {("a", "X"): 600, ("a", "Y"): 400}, clock)
    assert (left.total, left.done, left.seconds()) == (1_000, 0, None)
    left.add(0)  # a worker that still loads
    clock.now = 60.0  # loading does not count
    left.add(200)
    assert (left.done, left.seconds()) == (200, None)
    clock.now = 70.0
    left.add(200)
    assert (left.done, left.seconds()) == (400, 30.0)
    left.add(5_000)  # more than planned
    assert (left.done, left.seconds()) == (1_000, 0.0)


def test_an_ended_job_counts_as_planned_whatever_it_did_encode() -> None:
    clock = Clock()
    left = TimeLeft(2, {("a", "X"): 600, ("a", "Y"): 400}, clock)
    left.add(100)  # most of X came from the cache
    left.job_ended(("a", "X"), 100)
    assert left.done == 600
    clock.now = 14.0
    left.add(200)
    assert left.done == 800
    assert left.seconds() == 4.0  # 700 of 1,000 tokens since the first batch took 14 s


def test_jobs_of_unknown_cost_count_like_the_average_and_without_any_tokens_jobs_count() -> None:
    clock = Clock()
    left = TimeLeft(3, {("a", "X"): 100, ("a", "Y"): 300}, clock)
    assert left.total == 600
    left.job_ended(("b", "Z"), 0)
    assert left.done == 200
    unknown = TimeLeft(4, {}, clock)
    assert (unknown.total, unknown.seconds()) == (0, None)
    clock.now = 8.0
    unknown.job_ended(("b", "Z"), 50)
    assert unknown.seconds() == 24.0


@pytest.fixture
def said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> tuple[ConsoleReporter, io.StringIO, Clock]:
    """A reporter of a run of one job of 1,000 tokens, what it writes, and its clock."""
    clock, stream = Clock(), io.StringIO()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(progress, "TimeLeft", lambda n_jobs, planned: TimeLeft(n_jobs, planned, clock))
    caplog.set_level(logging.INFO)
    reporter = ConsoleReporter(Console(file=stream, width=200))
    job: Any = SimpleNamespace(name="a on X", key=("a", "X"))
    reporter.run_started([job], 0, {("a", "X"): 1_000})
    reporter.job_started(job)
    return reporter, stream, clock


def test_total_and_time_left_are_shown_within_the_first_job_and_logged(
    said: tuple[ConsoleReporter, io.StringIO, Clock], caplog: pytest.LogCaptureFixture
) -> None:
    reporter, stream, clock = said
    clock.now = 10.0
    reporter.advanced(Progress(texts=1, tokens=50))
    clock.now = 20.0
    reporter.advanced(Progress(texts=4, tokens=200))
    first, second = stream.getvalue().splitlines()
    assert first == "1 job; about 1,000 tokens to encode"
    assert second == "  ... 5 texts, 12 tokens/s, 25% of about 1,000 tokens, about 38 s left"
    logged = [record.message for when in ("setup", "call") for record in caplog.get_records(when)]
    assert logged == [first, second]


def test_workers_that_are_lost_stay_in_the_total(said: tuple[ConsoleReporter, io.StringIO, Clock]) -> None:
    reporter, stream, clock = said
    clock.now = 20.0
    reporter.workers_advanced([WorkerProgress("one", "X", 4, 300), WorkerProgress("two", "X", 1, 100)])
    clock.now = 40.0
    reporter.workers_advanced([WorkerProgress("three", "", 2, 100)])
    *_, first, second = stream.getvalue().splitlines()
    assert "2 workers, 5 texts, 20 tokens/s, 40% of about 1,000 tokens" in first
    assert "1 worker, 7 texts, 5 tokens/s, 50% of about 1,000 tokens, about 2 min left" in second
    assert "three: idle" in second
