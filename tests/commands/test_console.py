"""What all commands share: --version, and outputs that are closed, broken or full."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.fake_runs import retrieval, write_run

SCRIPTS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "scripts"
]
CALL = "import sys; from evaluation.commands.entry import {0} as main; sys.argv[0] = '{1}'; main()"


def call(command: str, arguments: Sequence[object], *, shell: str = "", closed_pipe: bool = False) -> tuple[int, str]:
    """Exit code and standard error; `shell` holds redirections, `closed_pipe`: nobody reads standard output."""
    code = CALL.format(command.replace("-", "_"), command)
    given = [sys.executable, "-c", code, *map(str, arguments)]
    if shell:
        given = ["bash", "-c", f'exec "$@" {shell}', "bash", *given]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            given,
            stdout=writer if closed_pipe else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=300,
        )
    finally:
        os.close(writer)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """A run, and the same a little worse."""
    values = np.random.default_rng(1).random(200)
    return (
        write_run(tmp_path / "before", [retrieval(values)]),
        write_run(tmp_path / "now", [retrieval(values - 0.1)]),
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_command_has_a_version(script: str) -> None:
    code = CALL.format(script.replace("-", "_"), script)
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("e5-evaluation ")


def test_run_benchmark_imports_little_before_its_first_line() -> None:
    code = "import sys; import evaluation.commands.run_benchmark.command; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pydantic", "yaml", "rich", "importlib.metadata"} & set(done.stdout.split())


def test_verdict_of_a_gate_survives_a_closed_pipe(runs: tuple[Path, Path]) -> None:
    before, now = runs
    assert call("check-regression", [before, "--baseline", before], closed_pipe=True) == (0, "")
    assert call("check-regression", [now, "--baseline", before], closed_pipe=True) == (1, "")


@pytest.mark.parametrize("shell", [">&-", ">/dev/full", ">&- 2>&-", "<&- >&- 2>/dev/full"])
def test_verdict_survives_outputs_that_are_closed_or_full(runs: tuple[Path, Path], shell: str) -> None:
    before, now = runs
    assert call("check-regression", [now, "--baseline", before, "--junit", now / "j.xml"], shell=shell) == (1, "")
    assert (now / "j.xml").read_text(encoding="utf-8").startswith("<?xml")


def test_work_is_done_behind_a_closed_pipe(runs: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = [runs[0], "--to", "model-card", "--output", tmp_path / "cards"]
    assert call("export-results", arguments, closed_pipe=True) == (0, "")
    assert (tmp_path / "cards" / "E5-small.md").is_file()


def test_comparison_that_nobody_reads_ends_as_in_a_shell(runs: tuple[Path, Path]) -> None:
    assert call("compare-results", [runs[0]], closed_pipe=True) == (141, "")
    code, said = call("compare-results", [runs[0], "--format", "csv"], shell=">/dev/full")
    assert (code, said) == (3, "compare-results: the output can't be written: No space left on device.\n")
