"""export-results from a user's side: what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.fake_runs import retrieval, write_run

from evaluation.commands.export_results import main

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


def test_output_that_can_not_be_written_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, blocked = write_run(tmp_path / "run", [retrieval(np.ones(3))]), tmp_path / "file"
    blocked.write_text("no folder", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["export-results", str(run), "--to", "model-card", "--output", str(blocked)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == f"export-results: --output: {blocked / 'E5-small.md'} can't be written: Not a directory.\n"
