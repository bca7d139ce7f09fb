"""fetch-data's heart against a hub-shaped server: branches, tags and commits, found again without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.data import write_card
from support.hub_server import Hub

from evaluation import load_config
from evaluation.errors import DataError, UsageError
from evaluation.execution.downloads import check_offline, locked_config
from evaluation.hub.cache import snapshot_folder
from evaluation.hub.lock import lock_file
from evaluation.jobs import build_jobs

pytestmark = pytest.mark.full

OLD, NEW = "c" * 40, "d" * 40
MODEL, QUESTIONS = "someone/tiny-e5", ("xhluca/publichealth-qa", "e" * 40)
REVISIONS = {"newest": None, "branch": "main", "tag": "v1.0", "deep": "refs/pr/1", "commit": OLD}
FETCH = """
import sys
from evaluation.commands.fetch_data.command import main
sys.argv = ["fetch-data", sys.argv[1]]
main()
"""


@pytest.fixture(scope="module")
def hub(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    questions = tmp_path_factory.mktemp("questions")
    (questions / "QAs").mkdir()
    (questions / "QAs" / "english.csv").write_text("question,answer\nWho?,Me\n", encoding="utf-8")
    write_card(questions, {"english": {"test": "QAs/english.csv"}})
    with Hub() as server:
        for commit in (OLD, NEW):
            server.add("model", MODEL, tiny_checkpoint, commit)
        server.repositories["model", MODEL].names |= {"v1.0": OLD, "refs/pr/1": OLD}
        server.add("dataset", QUESTIONS[0], questions, QUESTIONS[1])
        yield server


@pytest.fixture(scope="module")
def fetched(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config of one model at all kinds of revision and a dataset that mteb pins to `main`, fetched and locked."""
    root = tmp_path_factory.mktemp("fetched")
    file = root / "suite.yaml"
    document = {
        "name": "suite",
        "models": [{"label": label, "model": MODEL, "revision": revision} for label, revision in REVISIONS.items()],
        "tasks": [{"mteb": "PublicHealthQA", "subsets": ["english"]}],
        "output": str(root / "results"),
    }
    file.write_text(json.dumps(document), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_HOME": str(root), "HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FETCH, str(file)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return file


@pytest.fixture
def offline(fetched: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(fetched.parent))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return fetched


def test_branches_tags_and_commits_are_found_without_a_network(offline: Path) -> None:
    found = {label: snapshot_folder("model", MODEL, revision) for label, revision in REVISIONS.items()}
    commits = {label: folder.name for label, folder in found.items() if folder is not None}
    assert commits == {"newest": NEW, "branch": NEW, "tag": OLD, "deep": OLD, "commit": OLD}
    folder = snapshot_folder("dataset", QUESTIONS[0], "main")
    assert folder is not None
    assert folder.name == QUESTIONS[1]


def test_absent_datasets_are_named_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    document = {
        "name": "suite",
        "models": [{"label": "m", "model": MODEL, "protocol": "none"}],
        "tasks": [{"mteb": name} for name in ("STS12", "SciFact")],
    }
    (tmp_path / "suite.yaml").write_text(json.dumps(document), encoding="utf-8")
    config = load_config(tmp_path / "suite.yaml")
    with pytest.raises(DataError) as caught:
        check_offline(config, build_jobs(config))
    (said,) = caught.value.problems
    assert said.startswith(f"datasets not in the local Hub cache ({tmp_path / 'hub'}): mteb/sts12-sts (revision ")
    assert said.count("mteb/") == 2
    assert said.endswith("; fetch them with fetch-data where there is a network.")


def locked(config: Path) -> dict[str, Any]:
    loaded = load_config(config)
    held = locked_config(loaded, build_jobs(loaded), lock_file(config))
    return {model.label: model.revision for model in held.models}


def test_lock_holds_each_revision_to_its_commit(offline: Path) -> None:
    assert locked(offline) == {"newest": NEW, "branch": NEW, "tag": OLD, "deep": OLD, "commit": OLD}


def test_lock_takes_the_commit_of_a_branch_but_no_other_revision(offline: Path, tmp_path: Path) -> None:
    document, file = json.loads(offline.read_text(encoding="utf-8")), tmp_path / "other.yaml"
    lock_file(file).write_bytes(lock_file(offline).read_bytes())
    document["models"] = [{"label": "pinned", "model": MODEL, "revision": NEW}]
    file.write_text(json.dumps(document), encoding="utf-8")
    assert locked(file) == {"pinned": NEW}
    document["models"][0]["revision"] = "v2.0"
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(UsageError, match=rf"model {MODEL} \(revision v2.0\) is not in the lock .*; run fetch-data"):
        locked(file)


def test_branch_that_moved_on_since_the_lock_is_refused(offline: Path) -> None:
    refs = offline.parent / "hub" / "datasets--xhluca--publichealth-qa" / "refs" / "main"
    refs.write_text("f" * 40, encoding="utf-8")
    try:
        with pytest.raises(UsageError, match=r"publichealth-qa \(revision main\) is at a different commit "):
            locked(offline)
    finally:
        refs.write_text(QUESTIONS[1], encoding="utf-8")


def test_served_model_can_not_be_locked(offline: Path) -> None:
    document, file = json.loads(offline.read_text(encoding="utf-8")), offline.with_name("served.yaml")
    endpoint = {"url": "http://127.0.0.1:9/v1"}
    document["models"] = [{"label": "far away", "model": "m", "backend": "openai", "endpoint": endpoint}]
    file.write_text(json.dumps(document), encoding="utf-8")
    lock_file(file).write_bytes(lock_file(offline).read_bytes())
    with pytest.raises(UsageError, match="far away is served by http://127.0.0.1:9/v1, so its weights can't be locked"):
        locked(file)
