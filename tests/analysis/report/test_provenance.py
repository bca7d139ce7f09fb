"""Provenance of a run: what is pinned, what stands against reproducing it, and the command that runs it again."""

from __future__ import annotations

import html
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from support.fake_runs import FakeJob, job_record, write_run

from evaluation import results_frame, run
from evaluation.analysis.report.provenance import (
    config_yaml,
    pinned_config,
    reproduction_command,
    rooted_config,
    run_origin,
)
from evaluation.analysis.report.report import write_report
from evaluation.analysis.run_view import read_run_view
from evaluation.config.loading import load_config
from evaluation.records.job_record import JobRecord
from evaluation.records.origin import Checkout

REPOSITORY = Path(__file__).parents[3]
CONFIG: dict[str, Any] = {
    "name": "harbours",
    "models": [
        {"label": "hub", "model": "intfloat/e5-base", "revision": None, "protocol": "e5", "dtype": "auto"},
        {"label": "own", "model": "builtin:multilingual-e5-small", "revision": None, "protocol": "none"},
    ],
    "tasks": [{"mteb": "STSBenchmark", "splits": None}],
    "limit": None,
}


def record(label: str, *, error: str | None = None, commit: str = "c1") -> JobRecord:
    model = {"declared": "x", "name": "x", "revision": "r" * 40}
    return job_record(label, "STSBenchmark", type="STS", error=error, model=model, source=Checkout(commit=commit))


def write(folder: Path, *records: JobRecord, **changes: Any) -> Path:
    jobs = [FakeJob(one, None) for one in records]
    return write_run(folder / "harbours", jobs, **{"config": CONFIG, **changes})


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
    program.write_text('#!/bin/sh\necho "ran $*"\n', encoding="utf-8")
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={"PATH": f"{program.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "ran reproduce-harbours.yaml --output reproduced\n"
    loaded = load_config(tmp_path / "reproduce-harbours.yaml")
    assert loaded.models[0].revision == "r" * 40
    assert [task.model_dump()["mteb"] for task in loaded.tasks] == ["STSBenchmark"]


@pytest.mark.parametrize(
    "hostile",
    [
        "x\nEND_OF_CONFIG\ntouch planted\n",
        "'; touch planted; '",
        "$(touch planted) `touch planted`",
        "x.yaml; touch planted #",
        "../../x",
        "-x --help",
        "\x1b[2K\u202etouch planted",
        "",
    ],
)
def test_command_of_a_forged_run_writes_its_config_and_nothing_else(tmp_path: Path, hostile: str) -> None:
    config = {"name": hostile, "models": [{"label": hostile, "model": hostile}], hostile: [hostile], "limit": hostile}
    command = reproduction_command(pinned_config(config, []), f"{hostile}\ntouch planted")
    assert "\x1b" not in command and "\u202e" not in command
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    program = tmp_path / "run-benchmark"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["bash", "-c", command], cwd=folder, env=environment, check=True, capture_output=True)
    (written,) = folder.iterdir()
    assert yaml.safe_load(written.read_text(encoding="utf-8")) == config
    assert {file.name for file in tmp_path.rglob("*")} == {"a", "b", "run-benchmark", written.name}


@pytest.mark.parametrize("config", [{"models": 3, "tasks": "x"}, {"models": [3, {}], "tasks": [None, {"data": 3}]}])
def test_config_of_any_shape_is_shown(tmp_path: Path, config: dict[str, Any]) -> None:
    assert run_origin(read_run_view(write(tmp_path, record("hub"), config=config))).command.endswith(
        "--output reproduced"
    )


def test_models_that_bring_their_own_code_are_named(tmp_path: Path) -> None:
    own = {**CONFIG, "models": [{**CONFIG["models"][0], "trust_remote_code": True}]}
    assert run_origin(read_run_view(write(tmp_path, record("hub"), config=own))).trusted_code == ("hub",)
    page = write_report([tmp_path / "harbours"], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "This command runs code from the repositories of hub (trust_remote_code)" in page


def test_own_paths_of_a_config_become_absolute_where_its_file_is_known(tmp_path: Path) -> None:
    file = tmp_path / "configs" / "own.yaml"
    file.parent.mkdir()
    file.touch()
    models = [{"label": "a", "model": "./weights"}, {"label": "b", "model": "intfloat/e5-base"}]
    config = {"models": models, "tasks": [{"local": "T", "data": "t"}], "data_root": "../data"}
    found, is_rooted = rooted_config(config, str(file))
    assert is_rooted
    assert found["data_root"] == str(tmp_path / "data")
    assert [model["model"] for model in found["models"]] == [str(file.parent / "weights"), "intfloat/e5-base"]
    assert rooted_config(config, str(tmp_path / "gone.yaml")) == (config, False)
    assert rooted_config(CONFIG, None) == (CONFIG, True)
    assert rooted_config({**config, "models": [], "data_root": "/data"}, None)[1]


@pytest.mark.full
def test_command_of_a_report_scores_the_same_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a real run to its report, to the command on its page, given in another folder with an empty cache."""
    for folder in ("first", "elsewhere", "bin"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "first")
    data = Path(os.path.relpath(REPOSITORY / "configs" / "quickstart"))
    config = {
        "name": "small again",
        "models": [{"label": "E5-small", "model": "builtin:multilingual-e5-small", "protocol": "e5"}],
        "tasks": [
            {"local": name, "type": type_, "data": str(data / name)}
            for name, type_ in (("EverydaySTS", "STS"), ("TownDeskRetrieval", "Retrieval"))
        ],
    }
    Path("own.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    outcome = run(load_config(Path("own.yaml")))
    assert outcome.failed == []
    page = write_report([outcome.folder], "report.html").read_text(encoding="utf-8")
    (command,) = re.findall(r'aria-label="Command for run [^"]*">(.*?)</pre>', page, re.DOTALL)

    program = tmp_path / "bin" / "run-benchmark"
    code = "from evaluation.commands.entry import run_benchmark as main; main()"
    program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-c", code])} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "E5_EVALUATION_CACHE": str(tmp_path / "cache"),
    }
    subprocess.run(["bash", "-c", html.unescape(command)], cwd=tmp_path / "elsewhere", env=environment, check=True)
    again = results_frame(tmp_path / "elsewhere" / "reproduced" / "small again")
    pd.testing.assert_frame_equal(again, results_frame(outcome.folder), check_exact=True)


def test_yaml_reads_back() -> None:
    assert yaml.safe_load(config_yaml(CONFIG)) == CONFIG


def test_failed_and_unfinished_jobs_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path, record("hub"), record("own", error="the folder <b>harbour</b> is empty"))
    assert run_origin(read_run_view(folder)).failures == (
        ("own", "STSBenchmark", "the folder <b>harbour</b> is empty"),
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"source": {"commit": "c1", "dirty": True}}, "uncommitted changes"),
        ({"config": {**CONFIG, "limit": {"examples": 10}}}, "The run was limited"),
    ],
)
def test_what_stands_against_reproducing_is_said(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    assert sentence in " ".join(run_origin(read_run_view(write(tmp_path, record("hub"), **changes))).warnings)
    assert run_origin(read_run_view(write(tmp_path / "clean", record("hub")))).warnings == ()


def test_jobs_of_several_commits_are_said(tmp_path: Path) -> None:
    folder = write(tmp_path, record("hub"), record("own", commit="c2"))
    assert run_origin(read_run_view(folder)).warnings == ("Its jobs ran at 2 different commits.",)
