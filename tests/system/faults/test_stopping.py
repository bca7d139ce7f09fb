"""Ctrl-C and SIGTERM at any moment: one sentence, exit code 130, and a start that goes on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.watched_runs import Orders, Scores, finished_jobs, read_events, scores_of, start

from evaluation.execution.stopping import StopSignals
from evaluation.records.store import RunStore

EARLY = ("write", 3)  # of the file that names the holder, before there is a run.json
MOMENTS = [EARLY, ("job", 1), ("encode", 1), ("encoded", 3), ("write", 14), ("written", 19), ("search", 1)]
ONCE, TWICE, TERMINATED = (signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)
SHORT = (("encoded", 3), TERMINATED)
ALL = [(moment, signals) for moment in MOMENTS for signals in (ONCE, TWICE, TERMINATED)]


@pytest.mark.parametrize(
    ("moment", "signals"),
    [pytest.param(*case, marks=() if case == SHORT else pytest.mark.full) for case in ALL],
    ids=lambda value: " ".join(map(str, value)),
)
def test_a_stopped_run_says_how_to_go_on_and_does(
    moment: tuple[str, int], signals: tuple[int, ...], fresh: Callable[..., Orders], expected: Scores
) -> None:
    orders = fresh("run", kill_at=moment, signals=signals)
    process = start(orders)
    process.join(120)
    said = orders.said.read_text(encoding="utf-8")
    assert process.exitcode == 130, said
    assert "Traceback" not in said
    assert "Run the same command again to continue." in said
    assert len(said.splitlines()) == 1
    folder = orders.config.parent / "results" / "small"
    content = RunStore(folder).read_run_or_set_aside()
    done = finished_jobs(folder)
    assert {job.task for job in (content.jobs if content else ()) if job.state == "done"} == done
    assert (content is None) == (moment == EARLY)
    assert content is None or content.ended is None
    assert not list(folder.rglob("*.tmp"))
    assert not (folder / ".holder.json").exists()
    n_events = len(read_events(orders.events))
    process = start(replace(orders, kill_at=None))
    process.join(120)
    assert process.exitcode == 0
    again = {event.what for event in read_events(orders.events)[n_events:] if event.kind == "job"}
    assert not again & done
    assert scores_of(folder) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
@pytest.mark.parametrize(
    "delay_s", [0.03, *(pytest.param(s, marks=pytest.mark.full) for s in (0.1, 0.2, 0.3, 1, 2, 4))]
)
def test_a_start_is_stopped_without_a_traceback_while_libraries_load(
    delay_s: float, number: int, fresh: Callable[..., Orders]
) -> None:
    """The delay counts from our own first line: how long the interpreter takes to get there is the machine's affair."""
    orders = fresh("run")
    program = "from evaluation.commands.entry import os, run_benchmark; os.write(1, b'up'); run_benchmark()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(orders.config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.read(2)
    time.sleep(delay_s)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert b"Traceback" not in said
    assert b"run-benchmark: interrupted" in said


@pytest.mark.parametrize("moment", ["loading", pytest.param("measuring", marks=pytest.mark.full)])
def test_a_plan_is_stopped_without_a_traceback(
    moment: str, fresh: Callable[..., Orders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measuring a model's speed is the only long work of a plan; the program says when it begins."""
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path))  # no speed is known
    orders = fresh("run")
    process = subprocess.Popen(
        [sys.executable, "-c", PLANS[moment], str(orders.config), "--plan"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,  # not ignored
    )
    assert process.stdout is not None
    assert process.stdout.read(2) == b"up"
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - sent < 10
    assert process.returncode == 130, said
    assert b"Traceback" not in said
    assert b"run-benchmark: interrupted" in said


PLANS = {
    "loading": """
import os, sys
from evaluation.commands.entry import run_benchmark
class Watcher:
    def find_spec(self, name, path=None, target=None):
        if name == "evaluation.planning.estimate":
            os.write(1, b"up")
sys.meta_path.insert(0, Watcher())
run_benchmark()
""",
    "measuring": """
import os
from evaluation.commands.entry import run_benchmark
from evaluation.planning import speed
timed = speed.timed_passes
speed.timed_passes = lambda act, seconds: (os.write(1, b'up'), timed(act, 60))[1]
run_benchmark()
""",
}


def test_a_signal_is_kept_until_work_may_stop() -> None:
    before = signal.getsignal(signal.SIGINT)
    steps = []
    with pytest.raises(KeyboardInterrupt), StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        steps.append("written")
        with signals.allowed():
            steps.append("never")
    assert steps == ["written"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_in_the_last_write_is_not_lost() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), StopSignals():
        os.kill(os.getpid(), signal.SIGINT)
        steps.append("written")
    assert steps == ["written"]


def test_an_error_is_not_hidden_by_a_signal() -> None:
    with pytest.raises(ValueError, match="full"), StopSignals():
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("full")


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def work() -> None:
        with StopSignals() as signals, signals.allowed():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]
