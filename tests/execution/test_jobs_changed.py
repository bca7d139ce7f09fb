"""A run knows whether its config lists other jobs than at the last start, so that old summaries are no damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.small_runs import write_small_run

from evaluation import run
from evaluation.commands.run_benchmark.run import run_and_report
from evaluation.config.loading import load_config
from evaluation.execution.runner import RunOptions


def test_only_a_damaged_summary_is_warned_of(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))

    def config(*labels: str) -> Path:
        return write_small_run(tmp_path, ["Pairs"], dict.fromkeys(labels, "none"), model=tiny_checkpoint, name="small")

    assert run(load_config(config("a", "b"))).jobs_changed
    assert not run(load_config(config("a", "b"))).jobs_changed
    run_and_report(load_config(config("a", "b")), RunOptions(), lock=None, quiet=False)
    capsys.readouterr()
    run_and_report(load_config(config("a")), RunOptions(), lock=None, quiet=False)  # one row fewer, nothing to run
    assert "did not match" not in capsys.readouterr().err
    (tmp_path / "results" / "small" / "summary.csv").write_text("damaged", encoding="utf-8")
    run_and_report(load_config(config("a")), RunOptions(), lock=None, quiet=False)
    assert "summary.csv did not match the stored records" in capsys.readouterr().err
