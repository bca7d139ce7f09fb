"""Whole runs by name against a hub-shaped server, with faults and without a network: the scores of local folders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.data import (
    ASK_UBUNTU,
    BANKING,
    SCIFACT,
    STS_BENCHMARK,
    retrieval,
    rows_of,
    tables,
    write_card,
    write_rows,
)
from support.hub_server import Fault, Hub

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart"
CLUSTERING = ("mteb/CLSClusteringP2P.v2", "4b012f4818da8625de8e2e90526db1570e7ed2c7")
MODEL, MODEL_COMMIT, OTHER_COMMIT = "someone/tiny-e5", "c" * 40, "d" * 40
TASKS: Mapping[str, str] = {
    "STSBenchmark": "EverydaySTS",
    "Banking77Classification": "LetterIntentClassification",
    "AskUbuntuDupQuestions": "RepairForumReranking",
    "CLSClusteringP2P.v2": "ColumnTopicsClustering",
}
FOLDERS = {STS_BENCHMARK: "sts", BANKING: "banking", ASK_UBUNTU: "ubuntu", CLUSTERING: "clustering"}
COMMAND = "import sys; from evaluation.commands.entry import {0}; sys.argv[0] = '{0}'; {0}()"

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """The quickstart's data as the repositories of four real tasks."""
    root = tmp_path_factory.mktemp("repositories")
    clustering = root / "clustering"
    topics = rows_of(QUICKSTART / "ColumnTopicsClustering" / "test.jsonl")
    rows = [{"sentences": row["text"], "labels": row["label"]} for row in topics]
    write_rows(clustering / "data" / "test-00000-of-00001.parquet", rows)
    write_card(clustering, {"default": {"test": "data/test-*"}})
    return {
        STS_BENCHMARK: tables(root / "sts", QUICKSTART / "EverydaySTS", ["test"], form="parquet"),
        BANKING: tables(root / "banking", QUICKSTART / "LetterIntentClassification", ["train", "test"], form="jsonl"),
        ASK_UBUNTU: retrieval(root / "ubuntu", QUICKSTART / "RepairForumReranking", ["test"], form="parquet"),
        CLUSTERING: clustering,
    }


@pytest.fixture
def hub(repositories: dict[tuple[str, str], Path], tiny_checkpoint: Path) -> Iterator[Hub]:
    with Hub() as server:
        for (name, commit), folder in repositories.items():
            server.add("dataset", name, folder, commit)
        server.add("model", MODEL, tiny_checkpoint, MODEL_COMMIT)
        yield server


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path / "suite.yaml", tmp_path, [{"mteb": name} for name in TASKS])


def write_config(
    file: Path, root: Path, tasks: list[dict[str, str]], protocol: str = "mteb", model: str = MODEL
) -> Path:
    document = {
        "name": file.stem,
        "models": [{"label": "tiny", "model": model, "protocol": protocol, "dtype": "float32"}],
        "tasks": tasks,
        "runtime": {"device": "cpu", "cache": False},
        "output": str(root / "results"),
    }
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def command(name: str, *arguments: str | Path, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    gone = {"HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE"}
    environment = {key: value for key, value in os.environ.items() if key not in gone}
    own = {"HF_HOME": str(home), "E5_EVALUATION_CACHE": str(home / "own")}  # small data stand in for real revisions
    environment |= {**own, "HF_HUB_DISABLE_XET": "1", **variables}
    return subprocess.run(
        [sys.executable, "-c", COMMAND.format(name), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def scores(folder: Path) -> dict[str, Any]:
    from evaluation.records.store import RunStore

    return {record.task: record.scores for record in RunStore(folder).current_records()}


def without_times(found: Mapping[str, Any]) -> str:
    return json.dumps(found, sort_keys=True, default=str)


@pytest.fixture(scope="module")
def local_scores(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The four tasks on the local folders, weights from a folder too."""
    root = tmp_path_factory.mktemp("local")
    tasks = [{"mteb": name, "data": str(QUICKSTART / folder)} for name, folder in TASKS.items()]
    file = write_config(root / "local.yaml", root, tasks, model=str(tiny_checkpoint))
    done = command("run_benchmark", file, home=root / "home", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    return scores(root / "results" / "local")


def test_tasks_by_name_survive_faults_and_score_as_local_folders(
    hub: Hub, config: Path, tmp_path: Path, local_scores: dict[str, Any]
) -> None:
    refusals: dict[str, str | int] = {STS_BENCHMARK[0]: "missing", BANKING[0]: 401, CLUSTERING[0]: "gated"}
    for name, why in refusals.items():
        hub.repositories["dataset", name].refuse = why
    first = command("run_benchmark", config, home=tmp_path / "home", HF_ENDPOINT=hub.address)
    assert first.returncode == 3, first.stderr
    for said in (
        f"{STS_BENCHMARK[0]}' (revision {STS_BENCHMARK[1]}) is not on the Hub, or is private",
        f"{BANKING[0]}' (revision {BANKING[1]}) is not open to this machine (HTTP 401): log in",
        f"{CLUSTERING[0]}' (revision {CLUSTERING[1]}) is gated: accept its conditions",
        "4 jobs run now, 1 of 4 has a score, 3 failed",
    ):
        assert said in first.stderr
    assert "Traceback" not in first.stderr
    assert set(scores(tmp_path / "results" / "suite")) >= {"AskUbuntuDupQuestions"}, "one bad job stops no other"

    shutil.rmtree(tmp_path / "home" / "hub" / "datasets--mteb--AskUbuntuDupQuestions")
    for name in refusals:
        hub.repositories["dataset", name].refuse = None
    for repository, folder in FOLDERS.items():
        hub.faults += [
            Fault(429, f"/api/datasets/{repository[0]}"),
            Fault(500, f"/datasets/{repository[0]}/resolve/"),
            Fault("cut", f"/{folder}/"),
            Fault("slow", f"/{folder}/"),
        ]
    second = command("run_benchmark", config, "--fresh", home=tmp_path / "home", HF_ENDPOINT=hub.address)
    assert second.returncode == 0, second.stderr
    assert "4 jobs run now, 4 of 4 have a score" in second.stderr
    assert [fault for fault in hub.faults if fault.times] == [], "every fault was met"
    assert without_times(scores(tmp_path / "results" / "suite")) == without_times(local_scores)


def test_fetched_data_run_without_network_and_the_lock_notices_a_flipped_bit(
    hub: Hub, config: Path, tmp_path: Path, local_scores: dict[str, Any], save_bert: Callable[..., Path]
) -> None:
    home, address = tmp_path / "home", hub.address
    fetched = command("fetch_data", config, home=home, HF_ENDPOINT=address)
    assert fetched.returncode == 0, fetched.stderr
    assert "5 repositories" in fetched.stdout
    assert not any("notes.pdf" in path for path in hub.requested), "files that nobody reads stay where they are"
    other = tmp_path / "other"
    shutil.copytree(hub.repositories["dataset", ASK_UBUNTU[0]].commits[ASK_UBUNTU[1]], other)
    shutil.rmtree(other / "top_ranked")
    hub.add("dataset", ASK_UBUNTU[0], other, OTHER_COMMIT)
    add_revision = f"from huggingface_hub import snapshot_download as f; f({ASK_UBUNTU[0]!r}, repo_type='dataset')"
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1"}
    subprocess.run([sys.executable, "-c", add_revision], env=environment, check=True, capture_output=True)
    cached = home / "hub" / "datasets--mteb--AskUbuntuDupQuestions" / "snapshots"
    assert sorted(folder.name for folder in cached.iterdir()) == sorted([ASK_UBUNTU[1], OTHER_COMMIT])
    hub.stop()

    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(home / "hub", elsewhere / "hub", symlinks=True)
    run = command("run_benchmark", config, "--locked", home=elsewhere, HF_HUB_OFFLINE="1")
    assert run.returncode == 0, run.stderr
    assert without_times(scores(tmp_path / "results" / "suite")) == without_times(local_scores)

    victim = next((cached.parent.parent / "datasets--mteb--banking77" / "snapshots" / BANKING[1]).glob("test.jsonl"))
    content = bytearray((elsewhere / victim.relative_to(home)).read_bytes())
    content[100] ^= 1
    (elsewhere / victim.relative_to(home)).resolve().write_bytes(content)
    refused = command("run_benchmark", config, "--locked", "--fresh", home=elsewhere, HF_HUB_OFFLINE="1")
    assert refused.returncode == 2, refused.stderr
    assert "mteb/banking77" in refused.stderr
    assert "test.jsonl is not the file that was locked" in refused.stderr


def test_a_cached_dataset_cut_in_half_is_refused_before_it_is_scored(hub: Hub, config: Path, tmp_path: Path) -> None:
    """In the cache, whose blobs are named by their content, and as a plain copy without such names."""
    home = tmp_path / "home"
    assert command("fetch_data", config, home=home, HF_ENDPOINT=hub.address).returncode == 0
    assert command("run_benchmark", config, home=home, HF_HUB_OFFLINE="1").returncode == 0
    file = home / "hub" / "datasets--mteb--banking77" / "snapshots" / BANKING[1] / "test.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    half = "".join(lines[: len(lines) // 2])
    blob = file.resolve()
    blob.write_text(half, encoding="utf-8")
    run = command("run_benchmark", config, "--fresh", home=home, HF_HUB_OFFLINE="1")
    assert run.returncode == 2, run.stderr
    assert "test.jsonl of mteb/banking77 in the Hub cache is damaged" in run.stderr
    file.unlink()
    file.write_text(half, encoding="utf-8")
    run = command("run_benchmark", config, "--fresh", home=home, HF_HUB_OFFLINE="1")
    assert run.returncode == 3, run.stderr
    assert "can't be checked against a hash" in run.stderr
    assert f"the rows of mteb/banking77 (revision {BANKING[1]}) are not those that were loaded before" in run.stderr


def test_missing_candidates_are_an_error_before_the_run(hub: Hub, config: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert command("fetch_data", config, home=home, HF_ENDPOINT=hub.address).returncode == 0
    shutil.rmtree(home / "hub" / "datasets--mteb--AskUbuntuDupQuestions" / "snapshots" / ASK_UBUNTU[1] / "top_ranked")
    run = command("run_benchmark", config, home=home, HF_HUB_OFFLINE="1")
    assert run.returncode == 2
    assert "lacks top_ranked/test-00000-of-00001.parquet; run fetch-data again" in run.stderr
    assert not (tmp_path / "results" / "suite" / "jobs").exists()


def test_results_by_name_pass_mtebs_own_validation(hub: Hub, config: Path, tmp_path: Path) -> None:
    import mteb
    from mteb.models.model_meta import ModelMeta
    from mteb.results import TaskResult

    home, results = tmp_path / "home", tmp_path / "results" / "suite"
    run = command("run_benchmark", config, home=home, HF_ENDPOINT=hub.address)
    assert run.returncode == 0, run.stderr
    exported = command("export_results", results, "--to", "mteb", "--output", tmp_path / "repository", home=home)
    assert exported.returncode == 0, exported.stderr
    folder, found = tmp_path / "repository" / "results" / "someone__tiny-e5" / MODEL_COMMIT, scores(results)
    assert {file.stem for file in folder.glob("*.json")} == {*TASKS, "model_meta"}
    for name in TASKS:
        result = TaskResult.from_disk(folder / f"{name}.json").validate_and_filter_scores(mteb.get_task(name))
        assert result.dataset_revision == mteb.get_task(name).metadata.dataset["revision"]
        assert result.get_score() == pytest.approx(found[name]["test"][0]["main_score"])
    meta = ModelMeta.model_validate_json((folder / "model_meta.json").read_bytes())
    assert (meta.name, meta.revision, meta.experiment_kwargs) == (MODEL, MODEL_COMMIT, None)


SCORED = {"Banking77Classification": 80.04, "STSBenchmark": 82.03, "SciFact": 64.51}
"""all-MiniLM-L6-v2 in MTEB's results repository."""


def test_published_scores_by_name(shared_data: Path, tmp_path: Path) -> None:
    with Hub() as server:
        banking = tables(tmp_path / "b", shared_data / "Banking77Classification", ["train", "test"], form="parquet")
        sts = tables(tmp_path / "s", shared_data / "STSBenchmark", ["train", "validation", "test"], form="parquet")
        scifact = retrieval(tmp_path / "f", shared_data / "SciFact", ["train", "test"], form="jsonl")
        for (name, commit), folder in ((BANKING, banking), (STS_BENCHMARK, sts), (SCIFACT, scifact)):
            server.add("dataset", name, folder, commit)
        tasks = [{"mteb": name} for name in SCORED]
        file = write_config(tmp_path / "known.yaml", tmp_path, tasks, "none", "builtin:all-MiniLM-L6-v2")
        cached = command(
            "run_benchmark", file, "--set", "runtime.cache=true", home=tmp_path / "home", HF_ENDPOINT=server.address
        )
    assert cached.returncode == 0, cached.stderr
    found = scores(tmp_path / "results" / "known")
    for name, expected in SCORED.items():
        assert round(100 * found[name]["test"][0]["main_score"], 2) == pytest.approx(expected, abs=0.011)
