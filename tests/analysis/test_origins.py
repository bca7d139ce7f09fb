"""Provenance of a run: what is pinned, what stands against reproducing it, and the command that runs it again."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.analysis.origins import config_yaml, pinned_config, reproduction_command, run_origin
from evaluation.config_file import load_config
from evaluation.records import JobError, JobRecord, RunStore

CONFIG: dict[str, Any] = {
    "name": "harbours",
    "models": [
        {"label": "hub", "model": "intfloat/e5-base", "revision": None, "protocol": "e5", "dtype": "auto"},
        {"label": "own", "model": "builtin:multilingual-e5-small", "revision": None, "protocol": "none"},
    ],
    "tasks": [{"mteb": "STSBenchmark", "splits": None}],
    "limit": None,
}


def record(label: str, *, state: str = "done", commit: str = "c1", revision: str | None = "r" * 40) -> JobRecord:
    error = JobError(kind="DataError", message="the folder <b>harbour</b> is empty") if state == "failed" else None
    return JobRecord.model_validate(
        {
            "state": state,
            "fingerprint": label.ljust(64, "0"),
            "label": label,
            "protocol": "e5",
            "task": "STSBenchmark",
            "type": "STS",
            "via": "mteb",
            "splits": ("test",),
            "subsets": ("default",),
            "metric": "cosine_spearman",
            "main_score": 0.5 if error is None else None,
            "audit": {"sides": {}},
            "provenance": {
                "model": {"declared": "x", "name": "x", "revision": revision, "weights_sha256": "w", "settings": {}},
                "dataset": {"name": "mteb/stsb", "revision": "d" * 40},
                "source": {"commit": commit},
                "versions": {"mteb": "2.26.24"},
            },
            "error": error,
        }
    )


def write(folder: Path, *records: JobRecord, **changes: Any) -> Path:
    store = RunStore(folder / "harbours")
    for one in records:
        store.save(one)
    jobs = [{key: getattr(one, key) for key in ("label", "task", "state", "fingerprint")} for one in records]
    store.write_run({"schema_version": 1, "name": "harbours", "config": CONFIG, "jobs": jobs, **changes})
    return store.folder


def test_revisions_that_were_found_are_pinned_for_hub_models_only() -> None:
    models = pinned_config(CONFIG, [record("hub"), record("own")])["models"]
    assert models[0]["revision"] == "r" * 40
    assert "revision" not in models[1]


def test_config_is_told_without_its_defaults() -> None:
    assert pinned_config(CONFIG, []) == {
        "name": "harbours",
        "models": [
            {"label": "hub", "model": "intfloat/e5-base", "protocol": "e5"},
            {"label": "own", "model": "builtin:multilingual-e5-small", "protocol": "none"},
        ],
        "tasks": [{"mteb": "STSBenchmark"}],
    }


def test_config_of_another_version_is_told_as_it_is() -> None:
    assert pinned_config({**CONFIG, "shards": 7}, [])["shards"] == 7


def test_command_writes_the_config_and_runs_it(tmp_path: Path) -> None:
    command = reproduction_command(pinned_config(CONFIG, [record("hub")]), "abc")
    program = tmp_path / "bin" / "run-benchmark"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "ran $1"\n', encoding="utf-8")
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={"PATH": f"{program.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "ran harbours.yaml\n"
    loaded = load_config(tmp_path / "harbours.yaml")
    assert loaded.models[0].revision == "r" * 40
    assert [task.model_dump()["mteb"] for task in loaded.tasks] == ["STSBenchmark"]


def test_yaml_reads_back() -> None:
    assert yaml.safe_load(config_yaml(CONFIG)) == CONFIG


def test_failed_and_unfinished_jobs_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path, record("hub"), record("own", state="failed"))
    assert run_origin(folder).failures == (("own", "STSBenchmark", "the folder <b>harbour</b> is empty"),)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"source": {"commit": "c1", "dirty": True}}, "uncommitted changes"),
        ({"config": {**CONFIG, "limit": {"examples": 10}}}, "The run was limited"),
    ],
)
def test_what_stands_against_reproducing_is_said(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    assert sentence in " ".join(run_origin(write(tmp_path, record("hub"), **changes)).warnings)
    assert run_origin(write(tmp_path / "clean", record("hub"))).warnings == ()


def test_jobs_of_several_commits_are_said(tmp_path: Path) -> None:
    folder = write(tmp_path, record("hub"), record("own", commit="c2"))
    assert run_origin(folder).warnings == ("Its jobs were run at 2 different commits.",)
