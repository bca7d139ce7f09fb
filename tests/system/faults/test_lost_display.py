"""A display that is lost (a full disk, a closed pipe, a closed stream) stops no work and changes no exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.watched_runs import Orders, Scores, scores_of

PROGRAM = "from evaluation.commands.entry import run_benchmark; run_benchmark()"
FULL = pytest.mark.full


def call(orders: Orders, redirect: str) -> subprocess.CompletedProcess[str]:
    """The command in a shell with its streams redirected; standard output is the command's exit code alone."""
    streams, _, reader = redirect.partition("|")
    script = f'{{ "$0" -c "$1" "$2" {streams}; echo "exit $?" >&3; }}'
    script += f" | {reader}" if reader else " >&2"
    environment = {**os.environ, "E5_EVALUATION_CACHE": str(orders.cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        ["sh", "-c", f"exec 3>&1; {script}", sys.executable, PROGRAM, str(orders.config)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=300,
    )


@pytest.mark.parametrize(
    "redirect",
    [
        "2>/dev/full >/dev/full",
        *(pytest.param(redirect, marks=FULL) for redirect in ("2>/dev/full", "2>&-", ">&-", "<&- >&- 2>&-")),
        *(pytest.param(redirect, marks=FULL) for redirect in ("| true", "2>&1 | true")),
    ],
)
def test_a_run_without_a_display_is_stored_as_any_other(
    redirect: str, fresh: Callable[..., Orders], expected: Scores
) -> None:
    orders = fresh("run")
    done = call(orders, redirect)
    assert done.stdout == "exit 0\n", done.stderr
    folder = orders.config.parent / "results" / "small"
    assert scores_of(folder) == expected
    assert "[4/4] tiny on Groups: " in (folder / "run.log").read_text(encoding="utf-8")


@FULL
@pytest.mark.parametrize("redirect", ["2>/dev/full >/dev/full", ">&- 2>&-"])
def test_failed_jobs_keep_their_exit_code(redirect: str, fresh: Callable[..., Orders]) -> None:
    orders = fresh("run")
    pairs = orders.config.parent / "data" / "Pairs" / "test.jsonl"
    rows = [json.loads(line) for line in pairs.read_text(encoding="utf-8").splitlines()]
    pairs.write_text("".join(json.dumps({**row, "score": 1.0}) + "\n" for row in rows), encoding="utf-8")
    assert call(orders, redirect).stdout == "exit 3\n"
    said = call(orders, "")
    assert said.stdout == "exit 3\n"
    assert said.stderr.count("  tiny on Pairs: ") == 1, "repeated at the end"
    assert "1 failed" in said.stderr


@pytest.mark.parametrize("redirect", ["2>/dev/full", pytest.param("2>&-", marks=FULL)])
def test_wrong_usage_keeps_its_exit_code(redirect: str, fresh: Callable[..., Orders]) -> None:
    orders = fresh("run")
    orders.config.write_text("name: x\nmodels: []\n", encoding="utf-8")
    assert call(orders, redirect).stdout == "exit 2\n"


def test_progress_reaches_the_log_of_a_quiet_run(undisturbed: Path) -> None:
    log = (undisturbed / "results" / "small" / "run.log").read_text(encoding="utf-8")
    assert "4 jobs; about " in log
    assert "[1/4] tiny on Pairs: " in log
