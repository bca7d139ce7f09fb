"""A part of a run in this process: what is stored after it, and what readers say of the jobs of other parts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from support.small_runs import write_small_run

from evaluation import check_regression, load_config, results_frame, run
from evaluation.analysis.run_view import read_run_view
from evaluation.commands.run_benchmark.run import run_tables
from evaluation.config.run_config import RunConfig
from evaluation.errors import UsageError
from evaluation.execution.runner import RunOptions
from evaluation.planning.parts import Part
from evaluation.records.store import RunStore


@pytest.fixture
def config(tiny_checkpoint: Path, tmp_path: Path) -> RunConfig:
    file = write_small_run(
        tmp_path, ["Pairs", "Kinds"], {"tiny": "e5", "bare": "none"}, model=tiny_checkpoint, name="small"
    )
    return load_config(file)


def test_readers_show_what_is_done_and_what_is_missing(config: RunConfig) -> None:
    first = run(config, RunOptions(part=Part(1, 3)))
    done = {(record.label, record.task) for record in first.records}
    view, manifest = read_run_view(first.folder), RunStore(first.folder).read_run()
    assert 1 <= len(done) <= 3
    assert [(job.label, job.task) for job in view.jobs] == [
        (label, task) for label in ("tiny", "bare") for task in ("Pairs", "Kinds")
    ]
    assert {(job.label, job.task) for job in view.jobs if job.score is not None} == done
    assert Counter(job.state for job in manifest.jobs) == {"done": len(done), "waiting": 4 - len(done)}
    assert manifest.ended is None, "other parts are missing"
    assert len(results_frame(first.folder)) == len(done)
    text = " ".join(str(table) for table in run_tables(view))
    assert all(task in text for _, task in done)
    with pytest.raises(UsageError, match="incomplete|no score|never ended"):
        check_regression(first.folder, first.folder)
    for number in (2, 3, 3):
        run(config, RunOptions(part=Part(number, 3)))
    assert RunStore(first.folder).read_run().ended is not None
    assert len(results_frame(first.folder)) == 4
    assert check_regression(first.folder, first.folder).passed


def test_a_changed_model_leaves_no_stale_entry_of_its_own_label(config: RunConfig) -> None:
    run(config, RunOptions(part=Part(1, 1)))
    changed = config.with_models(tuple(model.model_copy(update={"max_length": 16}) for model in config.models))
    run(changed, RunOptions(part=Part(1, 4)))
    manifest = RunStore(config.run_folder).read_run()
    labels = {job.label for job in manifest.jobs if job.state == "done"}
    assert len(manifest.jobs) == 4
    assert labels <= {"tiny", "bare"}
    new = [job for job in RunStore(config.run_folder).current_records() if job.provenance.model is not None]
    (ran,) = [record for record in new if record.provenance.model.settings.max_length == 16]  # type: ignore[union-attr]
    same_label = [job for job in manifest.jobs if job.label == ran.label]
    assert sorted(job.state for job in same_label) == ["done", "waiting"], "the other job of the label ran as it was"


def test_more_parts_than_jobs_leave_some_without_work(config: RunConfig) -> None:
    shares = [run(config, RunOptions(part=Part(number, 6), only=("Pairs",))) for number in (1, 2, 3)]
    assert [len(share.records) for share in shares] == [1, 1, 0]


def test_parts_and_ray_are_two_ways_of_dividing_work(config: RunConfig) -> None:
    on_ray = config.model_copy(update={"runtime": config.runtime.model_copy(update={"executor": "ray"})})
    with pytest.raises(UsageError, match=r"set runtime.executor: local, or leave --part out"):
        run(on_ray, RunOptions(part=Part(1, 2)))
