"""Results of copies of the process are those of a loop, in order, whatever becomes of a copy."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from evaluation.system import forked_map
from evaluation.system.forked_map import map_forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no copies elsewhere")
ITEMS = list(range(11))


@pytest.fixture(autouse=True)
def three_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked_map, "_processors", lambda: 3)
    monkeypatch.setattr(threading, "active_count", lambda: 1)  # the test session's own threads hold no lock


def test_results_are_in_order_and_from_several_processes() -> None:
    found = map_forked(lambda item: (item * item, time.sleep(0.02), os.getpid()), ITEMS)
    assert [square for square, *_ in found] == [item * item for item in ITEMS]
    assert len({pid for *_, pid in found}) == 3
    assert map_forked(abs, []) == [] and map_forked(abs, [-1]) == [1]


def test_process_with_threads_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert map_forked(lambda item: os.getpid(), ITEMS) == [os.getpid()] * len(ITEMS)


def test_system_without_a_free_process_is_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    assert map_forked(lambda item: os.getpid(), ITEMS) == [os.getpid()] * len(ITEMS)


def test_share_of_a_killed_copy_is_done_again() -> None:
    own = os.getpid()

    def square(item: int) -> int:
        if os.getpid() != own:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return item * item

    assert map_forked(square, ITEMS) == [item * item for item in ITEMS]


@pytest.mark.parametrize("here", [True, False])
def test_error_is_raised_here_and_no_copy_stays(here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether this process meets it, or copies alone do."""
    own = os.getpid()
    copies: list[int] = []
    fork = os.fork

    def noted() -> int:
        copies.append(fork())
        return copies[-1]

    def fail(item: int) -> int:
        time.sleep(0.02)
        if (os.getpid() == own) == here or item == 0:
            raise FileNotFoundError(f"item {item}")
        return item

    monkeypatch.setattr(os, "fork", noted)
    with pytest.raises(FileNotFoundError, match="item"):
        map_forked(fail, ITEMS)
    assert len(copies) == 2
    for pid in copies:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_buffered_output_and_exit_handlers_are_the_original_s_alone(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import atexit, sys\n"
        "from evaluation.system import forked_map\n"
        "forked_map._processors = lambda: 3\n"
        "atexit.register(print, 'left')\n"
        "sys.stdout.write('begun ')\n"
        "print(forked_map.map_forked(abs, [-1, -2, -3, -4]))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "begun [1, 2, 3, 4]\nleft\n" and done.stderr == ""
