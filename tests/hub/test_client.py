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

COMMIT = "a" * 40
CUT_SIZE = 24_000_000  # the library keeps what came in pieces of 10 MB
NAMES = ("missing", "gated", "closed", "slowly", "busy", "broken", "cut", "plain", "down")

FETCH = """
import json, sys
from evaluation.hub import cache, client
from evaluation.system import retries
retries._PAUSES_S = (0.05, 0.05)
said = {}
for name, revision in json.loads(sys.argv[1]):
    try:
        described = client.describe("dataset", name, revision)
        folder = client.fetch("dataset", name, revision, ["README.md", "data/*"])
        said[f"{name} {revision}"] = [described.licence, folder.name, cache.files_in(folder)]
    except cache.HubError as error:
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
        ("down", COMMIT, "the Hub answered HTTP 503. Start again later"),
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
