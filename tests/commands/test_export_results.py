"""export-results from a user's side: what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CALL = "import sys; from evaluation.commands.export_results import main; sys.argv[0] = 'export-results'; main()"


@pytest.mark.parametrize("target", ["mteb", "model-card", "trec"])
def test_folder_that_is_no_run_is_wrong_usage(tmp_path: Path, target: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALL, str(tmp_path), "--to", target],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2
    assert done.stderr == f"export-results: {tmp_path} is no run folder: it holds no run.json.\n"
    assert list(tmp_path.iterdir()) == []
