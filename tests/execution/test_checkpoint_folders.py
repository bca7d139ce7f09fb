"""A training run's config with `folders:`, started again: only the jobs of new checkpoints run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.small_runs import write_small_run

from evaluation import load_config, run
from evaluation.execution.reporting import Reporter
from evaluation.jobs import Job


class Started(Reporter):
    """Notes which jobs start."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, str]] = []

    def job_started(self, job: Job) -> None:
        self.jobs.append(job.key)


def test_second_start_scores_the_new_checkpoint_only(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))
    file = write_small_run(tmp_path, ["Pairs"], {"a": "none"}, model=tiny_checkpoint, name="series")
    document = json.loads(file.read_text(encoding="utf-8"))
    document["models"] = [{"folders": "step-*", "protocol": "none", "dtype": "float32"}]
    file.write_text(json.dumps(document), encoding="utf-8")
    shutil.copytree(tiny_checkpoint, tmp_path / "step-100")

    first, second = Started(), Started()
    before = run(load_config(file), reporter=first)
    assert first.jobs == [("step-100", "Pairs")]
    shutil.copytree(tiny_checkpoint, tmp_path / "step-200")
    after = run(load_config(file), reporter=second)
    assert second.jobs == [("step-200", "Pairs")]
    assert (after.n_executed, len(after.records), after.failed) == (1, 2, [])
    assert after.records[0].timing == before.records[0].timing  # seconds as measured by the first start
