"""Models by Hub name, against a hub-shaped server on loopback: real huggingface_hub, real files, real faults."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

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


class Handler(BaseHTTPRequestHandler):
    """Answers as the Hub does: repository info, then files with commit and ETag."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        hub: Hub = self.server.hub
        hub.requested.append(path)
        if path.startswith(f"/api/models/{REPOSITORY}/revision/"):
            self.send(json.dumps(hub.info()).encode(), body=body)
        elif path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            self.send(json.dumps(hub.tree()).encode(), body=body)
        elif path.startswith(f"/{REPOSITORY}/resolve/") and hub.file(path) is not None:
            self.send(hub.file(path).read_bytes(), body=body)
        else:
            self.send(b"not found", body=body, status=404)

    def send(self, content: bytes, *, body: bool, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Keep the test's output clean."""


class Hub:
    """A server of one repository, whose files are a folder's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requested: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.hub = self
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def names(self) -> list[str]:
        return sorted(file.relative_to(self.folder).as_posix() for file in self.folder.rglob("*") if file.is_file())

    def info(self) -> dict[str, object]:
        return {"id": REPOSITORY, "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.names()]}

    def tree(self) -> list[dict[str, object]]:
        sizes = [(name, (self.folder / name).stat().st_size) for name in self.names()]
        return [{"type": "file", "path": name, "size": size, "oid": "0"} for name, size in sizes]

    def file(self, path: str) -> Path | None:
        name = path.removeprefix(f"/{REPOSITORY}/resolve/").partition("/")[2]
        return self.folder / name if name in self.names() else None


@pytest.fixture
def hub(tiny_checkpoint: Path) -> Iterator[Hub]:
    served = Hub(Path(tiny_checkpoint))
    yield served
    served.server.shutdown()


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
