"""What a plan says of jobs that are stored, damaged, served or not here, and that it never asks the Hub."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.fake_runs import job_record

from evaluation import run
from evaluation.commands.run_benchmark.plan import fitting, plan_run
from evaluation.config.model_config import EndpointConfig
from evaluation.config.run_config import RunConfig
from evaluation.errors import UsageError
from evaluation.execution.local_executor import LocalExecutor
from evaluation.jobs import build_jobs
from evaluation.planning.calibration import Calibration
from evaluation.planning.estimate import JobCost, RunCost, find_shape, speed_name
from evaluation.records.store import RunStore
from evaluation.system.machine import place_name

COMMIT = "c" * 40
STS = [{"sentence1": f"the text {row}", "sentence2": f"text {row * row}", "score": row % 5} for row in range(12)]
CALL = "import sys; from evaluation.commands.run_benchmark.command import main; sys.argv[0] = 'run-benchmark'; main()"


@pytest.fixture
def on_hub(
    make_config: Callable[..., Any],
    write_data: Callable[..., Path],
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> RunConfig:
    """A model by a tag of its Hub repository, which lies in the Hub's cache, on two small tasks."""
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    repository = tmp_path / "home" / "hub" / "models--someone--tiny"
    shutil.copytree(tiny_checkpoint, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(COMMIT, encoding="utf-8")
    data = write_data("sts", {"test.jsonl": STS})
    config = make_config(
        [{"local": name, "type": "STS", "data": data} for name in ("First", "Second")], "someone/tiny", "none"
    )
    (model,) = config.models
    config = config.with_models((model.model_copy(update={"revision": "v1"}),))
    shape = find_shape(config, config.models[0])
    assert shape is not None
    known = Calibration()
    known.note_speed(place_name("cpu"), speed_name(shape, config.models[0]), {16: 1e-6, 512: 1e-6})
    known.save()
    return config


def states(config: RunConfig) -> dict[str, str]:
    return {job.task: job.state for job in plan_run(config, build_jobs(config)).jobs}


def no_network(*_: object, **__: object) -> None:
    raise AssertionError("the Hub was asked")


@pytest.mark.usefixtures("single_thread")
def test_stored_jobs_of_a_hub_model_are_done_without_asking_the_hub(
    on_hub: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(on_hub)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("evaluation.models.checkpoint.fetch", no_network)
    assert states(on_hub) == {"First": "done", "Second": "done"}
    shutil.rmtree(Path(on_hub.run_folder).parents[1] / "home")
    assert states(on_hub) == dict.fromkeys(("First", "Second"), "unknown until fetched")


@pytest.mark.usefixtures("single_thread")
def test_damaged_job_counts_as_not_done_and_is_named(on_hub: RunConfig) -> None:
    run(on_hub)
    (file,) = on_hub.run_folder.glob("jobs/*/First/*/samples.parquet")
    file.write_bytes(b"")
    cost = plan_run(on_hub, build_jobs(on_hub))
    assert {job.task: job.state for job in cost.jobs} == {"First": "damaged", "Second": "done"}
    protocol, damage = cost.notes
    assert protocol == "tiny none: protocol none, as the config says."
    assert f"{file} is damaged" in damage
    assert damage.endswith("tiny none on First counts as not done.")
    (label,) = {job.label for job in cost.jobs}
    assert fitting(cost, 1.0) == {(label, "First"), (label, "Second")}


def test_stored_jobs_of_a_served_model_are_done(on_hub: RunConfig) -> None:
    endpoint = EndpointConfig(url="http://127.0.0.1:9/v1")
    (model,) = on_hub.models
    changes = {"model": "far-away", "revision": None, "backend": "openai", "endpoint": endpoint}
    served = on_hub.with_models((model.model_copy(update=changes),))
    first, second = build_jobs(served)
    record = job_record(model.label, "First", type="STS", protocol="none", metric="cosine_spearman")
    fingerprint = LocalExecutor(served).fingerprint(first)
    RunStore(served.run_folder).save(record.model_copy(update={"fingerprint": fingerprint}))
    cost = plan_run(served, [first, second])
    assert {job.task: (job.state, job.seconds) for job in cost.jobs} == {
        "First": ("done", 0.0),
        "Second": ("waiting", None),
    }
    *_, note = cost.notes
    assert note == f"{model.label} is served by http://127.0.0.1:9/v1; its tokens and time are not known here."


def test_hours_of_a_named_device_are_those_of_the_device() -> None:
    """Two jobs of 1.4e17 operations take 25 min each on an A100, and one hour there holds both; here they take 50 h."""
    jobs = [JobCost("m", task, "waiting", flops=1.4e17, seconds=180_000.0) for task in ("A", "B")]
    cost = RunCost(jobs, {}, [])
    assert fitting(cost, 1, ("a100", None)) == {("m", "A"), ("m", "B")}
    assert len(fitting(cost, 0.6, ("a100", None))) == 1
    with pytest.raises(UsageError, match="the shortest takes about 50.00 h"):
        fitting(cost, 1)


@pytest.mark.parametrize("option", ["--plan", "--on=a100"])
def test_plan_and_lock_do_not_go_together(tmp_path: Path, option: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALL, str(tmp_path / "none.yaml"), option, "--locked"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--locked can't be combined with --plan or --on" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_first_line_says_what_is_read(tmp_path: Path) -> None:
    """Before any library is loaded: a plan or run shows something at once."""
    call = [sys.executable, "-c", CALL, "none.yaml"]
    said = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False).stderr
    assert said.splitlines()[0] == "run-benchmark: reading none.yaml ..."
    assert subprocess.run([*call, "--quiet"], cwd=tmp_path, capture_output=True, text=True, check=False).stderr == (
        "run-benchmark: none.yaml: there is no such file.\n"
    )
