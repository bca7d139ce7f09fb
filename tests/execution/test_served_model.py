"""A run with a served model: what its record says of the server, and what a second run asks of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.data import text, write_files
from support.embedding_server import EmbeddingServer

from evaluation import load_config, run
from evaluation.execution.runner import RunOptions
from evaluation.execution.stored_run import find_stored_run
from evaluation.jobs import build_jobs
from evaluation.models.facts import SERVER_POOLING


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    served = EmbeddingServer()
    yield served
    served.stop()


def test_record_says_what_the_server_did_and_stored_vectors_serve_again(
    server: EmbeddingServer, tmp_path: Path
) -> None:
    server.as_sent = lambda text, body: f"{body.get('input_type', 'query')}: {text}"
    pairs = [{"sentence1": text(n), "sentence2": text(n + 3), "score": n % 6 / 1.0} for n in range(30)]
    write_files(tmp_path / "Pairs", {"test.jsonl": pairs})
    endpoint = {"url": server.url, "batch": 8, "max_characters": 30}
    document = {
        "name": "served",
        "models": [{"label": "a", "model": "m", "backend": "openai", "protocol": "e5", "endpoint": endpoint}],
        "tasks": [{"local": "Pairs", "type": "STS", "data": "Pairs"}],
        "runtime": {"device": "cpu"},
        "output": str(tmp_path / "results"),
    }
    file = tmp_path / "served.yaml"
    file.write_text(json.dumps(document), encoding="utf-8")
    (record,) = run(load_config(file)).records
    assert record.state == "done", record.error
    assert [line for line in record.warnings if "puts its query prefix before every text itself" in line]
    assert record.audit is not None
    (side,) = record.audit.sides.values()
    columns = [{str(pair[name]) for pair in pairs} for name in ("sentence1", "sentence2")]  # a call of the encoder each
    n_long = sum(len(string) > 30 for column in columns for string in column)
    assert record.audit.vectors.pooling == SERVER_POOLING
    assert 0 < side.truncated == n_long
    assert max(map(len, server.texts())) == len("query: ") + 30
    server.bodies.clear()
    assert find_stored_run(load_config(file), build_jobs(load_config(file))) is not None
    (again,) = run(load_config(file), RunOptions(fresh=True)).records
    assert again.main_score == record.main_score
    assert not server.bodies
