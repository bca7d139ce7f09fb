"""Repositories of the Hub against a hub-shaped server on loopback: real huggingface_hub, real files, real faults."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub_server import Fault, Hub

from evaluation.errors import UsageError
from evaluation.hub.client import (
    HubError,
    IncompleteSnapshotError,
    check_complete,
    files_in,
    lock_faults,
    lock_file,
    matches,
    read_lock,
    sha256_of,
    snapshot_folder,
)

COMMIT, OLDER = "a" * 40, "b" * 40
CUT_SIZE = 24_000_000  # the library keeps what came in pieces of 10 MB
NAMES = ("missing", "gated", "closed", "slowly", "busy", "broken", "cut", "plain", "down")

FETCH = """
import json, sys
from evaluation.hub import client as hub
from evaluation.system import retries
retries._PAUSES_S = (0.05, 0.05)
said = {}
for name, revision in json.loads(sys.argv[1]):
    try:
        described = hub.describe("dataset", name, revision)
        folder = hub.fetch("dataset", name, revision, ["README.md", "data/*"])
        said[f"{name} {revision}"] = [described.licence, folder.name, hub.files_in(folder)]
    except hub.HubError as error:
        said[f"{name} {revision}"] = str(error)
print(json.dumps(said))
"""


def in_new_process(code: str, *arguments: str, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **variables}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("repository")
    (folder / "data").mkdir()
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n", encoding="utf-8")
    (folder / "data" / "test.csv").write_text("text\n" + "a line\n" * 20_000, encoding="utf-8")
    (folder / "other.csv").write_text("not wanted\n", encoding="utf-8")
    with Hub() as hub:
        for name in NAMES:
            if name != "missing":
                hub.add("dataset", f"some/{name}", folder, COMMIT)
        hub.repositories["dataset", "some/gated"].refuse = "gated"
        hub.repositories["dataset", "some/closed"].refuse = 401
        hub.repositories["dataset", "some/down"].refuse = 503
        for name in ("cut", "slowly"):  # folders of their own, so that faults of their storage are no other's
            own = tmp_path_factory.mktemp("own") / name
            shutil.copytree(folder, own)
            hub.repositories["dataset", f"some/{name}"].commits[COMMIT] = own
            if name == "cut":
                (own / "data" / "test.csv").write_bytes(b"0" * CUT_SIZE)
        hub.faults += [
            Fault(429, "/api/datasets/some/busy", 2),
            Fault(500, "/api/datasets/some/broken", 2),
            Fault("cut", "/cut/data/test.csv", 1),
            Fault("slow", "/slowly/data/test.csv", 1),
        ]
        yield hub


@pytest.fixture(scope="module")
def answers(served: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What describing and fetching each repository gave, all in one process."""
    home = tmp_path_factory.mktemp("home")
    wanted = [(f"some/{name}", COMMIT) for name in NAMES] + [("some/plain", "no-such-branch")]
    text = in_new_process(FETCH, json.dumps(wanted), HF_ENDPOINT=served.address, HF_HOME=str(home))
    answer: dict[str, object] = json.loads(text)
    return answer


@pytest.mark.parametrize("name", ["plain", "busy", "broken", "cut", "slowly"])
def test_faults_that_pass_do_not_stop_a_fetch(answers: dict[str, object], name: str) -> None:
    assert answers[f"some/{name} {COMMIT}"] == ["cc-by-4.0", COMMIT, ["README.md", "data/test.csv"]]


def test_download_that_was_cut_goes_on_where_it_stopped(answers: dict[str, object], served: Hub) -> None:
    assert answers[f"some/cut {COMMIT}"]
    fetches = [path for path in served.requested if path.startswith("GET") and "/cut/data/test.csv" in path]
    assert len(fetches) == 2
    assert CUT_SIZE <= served.sent_below["cut"] < 1.1 * CUT_SIZE, "what had come before the cut was not sent again"


@pytest.mark.parametrize(
    ("name", "revision", "said"),
    [
        ("missing", COMMIT, "is not on the Hub, or is private: check the name"),
        ("gated", COMMIT, "is gated: accept its conditions on https://huggingface.co/datasets/some/gated"),
        ("closed", COMMIT, "log in with `hf auth login`"),
        ("down", COMMIT, "the Hub answered HTTP 503; start again later"),
        ("plain", "no-such-branch", "has no such revision on the Hub"),
    ],
)
def test_faults_that_stay_are_one_sentence(answers: dict[str, object], name: str, revision: str, said: str) -> None:
    answer = str(answers[f"some/{name} {revision}"])
    assert said in answer
    assert answer.startswith(f"dataset 'some/{name}' (revision {revision})")
    assert "\n" not in answer


def test_no_network_is_one_sentence(tmp_path: Path) -> None:
    wanted = json.dumps([("some/plain", COMMIT)])
    off = in_new_process(FETCH, wanted, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path))
    assert "the Hub can't be reached; check the network" in off
    offline = in_new_process(FETCH, wanted, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert "is not in the local Hub cache" in offline
    assert "fetch-data" in offline


# -------------------------------------------------------------------------------------------------------- the cache


def make_snapshot(home: Path, commit: str, files: dict[str, str], *, listed: list[str] | None = None) -> Path:
    folder = home / "hub" / "datasets--some--data" / "snapshots" / commit
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    if listed is not None:
        noted = folder.parent.parent / "trees" / f"{commit}.json"
        noted.parent.mkdir(exist_ok=True)
        noted.write_text(json.dumps({"format_version": 1, "files": dict.fromkeys(listed, {})}), encoding="utf-8")
    return folder


def test_snapshot_is_the_one_of_the_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    older, newer = (make_snapshot(tmp_path, commit, {"a.csv": commit}) for commit in (OLDER, COMMIT))
    refs = older.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT, encoding="utf-8")
    assert snapshot_folder("dataset", "some/data", OLDER) == older
    assert snapshot_folder("dataset", "some/data", None) == newer
    assert snapshot_folder("dataset", "some/data", "c" * 40) is None
    assert snapshot_folder("model", "some/data", COMMIT) is None


def test_patterns_match_as_the_cards_of_datasets_mean_them() -> None:
    assert matches("data/test-00000-of-00001.parquet", ["data/test-*"])
    assert matches("en/test.jsonl", ["en"])
    assert matches("a/b/c.csv", ["a/**/*.csv"])
    assert not matches("data/train-00000.parquet", ["data/test-*"])
    assert not matches("english/test.jsonl", ["en"])


@pytest.mark.parametrize(
    ("files", "patterns", "lacks"),
    [
        ({"data/test-00000-of-00002.parquet": ""}, ["data/test-*"], "data/test-00001-of-00002.parquet"),
        ({"README.md": "", "corpus.jsonl": ""}, ["corpus.jsonl", "queries.jsonl"], "queries.jsonl"),
        ({"README.md": "", "a.csv": ""}, ["*.csv"], "b.csv"),
        ({"README.md": ""}, ["*.csv", "*.json"], "every data file"),
    ],
)
def test_incomplete_snapshot_is_refused(tmp_path: Path, files: dict[str, str], patterns: list[str], lacks: str) -> None:
    listed = [*files, "b.csv"] if "a.csv" in files else None
    folder = make_snapshot(tmp_path, COMMIT, files, listed=listed)
    with pytest.raises(IncompleteSnapshotError, match=lacks):
        check_complete(folder, patterns, "some/data")
    assert issubclass(IncompleteSnapshotError, HubError)


def test_complete_snapshot_is_taken(tmp_path: Path) -> None:
    names = {"README.md": "", "data/test-00000-of-00002.csv": "", "data/test-00001-of-00002.csv": ""}
    folder = make_snapshot(tmp_path, COMMIT, names, listed=[*names, "notes.pdf"])
    check_complete(folder, ["README.md", "data/test-*"], "some/data")


# --------------------------------------------------------------------------------------------------------- the lock


def test_lock_names_what_changed(tmp_path: Path) -> None:
    folder = make_snapshot(tmp_path, COMMIT, {"a.csv": "1", "b.csv": "2", "c.csv": "3"})
    locked = {name: {"sha256": sha256_of(folder / name)} for name in ("a.csv", "b.csv")}
    entry = {"kind": "dataset", "repository": "some/data", "revision": COMMIT, "files": locked}
    assert lock_faults(entry, folder, ["a.csv", "b.csv"]) == []
    assert "c.csv is not in the lock" in lock_faults(entry, folder, files_in(folder))[0]
    (folder / "a.csv").write_bytes(bytes([ord("1") ^ 1]))
    assert "a.csv is not the file that was locked" in lock_faults(entry, folder, ["a.csv"])[0]
    (folder / "b.csv").unlink()
    assert "b.csv is locked, but missing" in lock_faults(entry, folder, [])[1]
    assert "run fetch-data" in lock_faults(entry, None, [])[0]


def test_lock_that_is_not_there_or_is_damaged_is_a_sentence(tmp_path: Path) -> None:
    file = lock_file(tmp_path / "suite.yaml")
    assert file.name == "suite.lock.json"
    with pytest.raises(UsageError, match="there is no lock .*; fetch-data writes it"):
        read_lock(file)
    file.write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="can't be read"):
        read_lock(file)
