"""Models by Hub name, against a hub-shaped server on loopback: real huggingface_hub, real files, real faults."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub_server import Hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/tiny-e5"

LOCATE = """
import sys
from pathlib import Path
from evaluation.models.checkpoint import locate
from evaluation.errors import EvaluationError
try:
    found = locate(sys.argv[1], sys.argv[2] or None, Path("."))
    print(found.name, found.revision, found.pooling, found.max_length, found.normalize)
except EvaluationError as error:
    print("error:", error)
"""


@pytest.fixture
def hub(tiny_checkpoint: Path, tmp_path: Path) -> Iterator[Hub]:
    """Serves the tiny checkpoint, with an export beside it that nobody here reads."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "repository")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"not read here")
    with Hub() as served:
        served.add("model", REPOSITORY, folder, COMMIT)
        yield served


def locate_in_new_process(hub: Hub, cache: Path, model: str, revision: str = "", **more: str) -> str:
    """What `locate` finds, with the Hub's client pointed at the server."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", **more}
    command = [sys.executable, "-c", LOCATE, model, revision]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout.strip()


def test_a_model_by_hub_name_is_fetched_and_its_commit_recorded(hub: Hub, tmp_path: Path) -> None:
    assert locate_in_new_process(hub, tmp_path, REPOSITORY) == f"{REPOSITORY} {COMMIT} mean 64 True"
    assert not any("onnx" in path for path in hub.requested)


def test_a_fetched_model_is_found_offline(hub: Hub, tmp_path: Path) -> None:
    locate_in_new_process(hub, tmp_path, REPOSITORY)
    before = len(hub.requested)
    found = locate_in_new_process(hub, tmp_path, REPOSITORY, COMMIT, HF_HUB_OFFLINE="1")
    assert found == f"{REPOSITORY} {COMMIT} mean 64 True"
    assert len(hub.requested) == before


def test_a_model_that_is_not_there_is_one_sentence(hub: Hub, tmp_path: Path) -> None:
    said = locate_in_new_process(hub, tmp_path, "someone/missing")
    assert said.startswith("error: model 'someone/missing'")
    assert "Traceback" not in said
    assert "\n" not in said


def test_offline_without_a_copy_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    said = locate_in_new_process(hub, tmp_path, REPOSITORY, HF_HUB_OFFLINE="1")
    assert said.startswith(f"error: model '{REPOSITORY}' is not in the local Hub cache")
