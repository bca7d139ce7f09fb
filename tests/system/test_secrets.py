"""Every command with made-up secrets in every place where one may stand, and servers that repeat them in every form:
no byte that is written or printed holds one of them."""

from __future__ import annotations

import base64
import gzip
import html
import json
import os
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.data import text, write_files
from support.leaks import leaks, leaks_below

SECRETS = {
    "endpoint.key_variable": "quiet/River+stone=42",
    "HF_TOKEN": "no-usual-Shape-of-token",
    "login of HF_ENDPOINT": "mirror-Password",
    "query of a variable": "sig%nature&of it",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
    "URL of a config": "login-In-a-config",
}
COMMAND = "import sys; from evaluation.commands.entry import {0}; sys.argv[0] = '{0}'; {0}()"

pytestmark = pytest.mark.full


def test_search_finds_what_is_packed_and_escaped() -> None:
    for name, secret in SECRETS.items():
        table = io_parquet({"text": [f"it is {secret}"]})
        for packed in (
            secret.encode(),
            b"<" + base64.b64encode(b"xy" + secret.encode() + b"z") + b">",
            json.dumps(f'"{secret}"').encode(),
            urllib.parse.quote(secret).encode(),
            urllib.parse.quote_plus(secret).encode(),
            html.escape(secret).encode(),
            b"some bytes" + gzip.compress(b"a" + secret.encode()),
            base64.b64encode(gzip.compress(secret.encode())),
            table,
        ):
            assert leaks(packed, SECRETS) == {name}, packed


def io_parquet(columns: Mapping[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(dict(columns)), sink, compression="zstd")
    return bytes(sink.getvalue())


class Echo:
    """An embedding server and Hub in one, which repeats what it received, in a way that the model's name says."""

    def __init__(self) -> None:
        self.repeated: list[str] = []
        echo = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                echo.answer(self, body)

            def do_GET(self) -> None:
                echo.refuse_as_the_hub(self)

            do_HEAD = do_GET

            def log_message(self, *arguments: object) -> None:
                """Keep the test's output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def answer(self, handler: BaseHTTPRequestHandler, body: Mapping[str, Any]) -> None:
        key, way = (handler.headers["Authorization"] or "").removeprefix("Bearer "), body["model"]
        forms = [key, *(escape(key) for escape in (urllib.parse.quote, urllib.parse.quote_plus, html.escape))]
        forms.append(base64.b64encode(f"user:{key}".encode()).decode())
        first = way not in self.repeated
        self.repeated.append(way)
        vectors = [np.array([len(text), ord(text[0]), 1], np.float32).tolist() for text in body["input"]]
        rows: list[dict[str, Any]] = [{"index": n, "embedding": vector} for n, vector in enumerate(vectors)]
        headers: dict[str, str] = {"Content-Type": "application/json"}
        status, content = 200, json.dumps({"data": rows}).encode()
        match way:
            case "refuses":
                status, content = 401, f"{' '.join(forms)} is not a key".encode()
            case "refuses at length":
                status, content = 400, f"{'x' * 190}{key}".encode()
            case "refuses in JSON":
                status, content = 403, json.dumps({"error": {"message": f'the key "{forms}"'}}).encode()
            case "is busy at first" if first:
                status, content = 503, f"no room for {key}".encode()
                headers["Retry-After"] = "0"
            case "redirects":
                status, headers["Location"] = 307, f"http://other.invalid/{urllib.parse.quote(key)}?key={key}"
            case "numbers strangely":
                content = json.dumps({"data": [{**row, "index": key} for row in rows]}).encode()
            case "sends strange vectors":
                content = json.dumps({"data": [{**row, "embedding": key} for row in rows]}).encode()
            case "sends no JSON":
                content = f"<html>{key}</html>".encode()
        handler.send_response(status, key if status >= 400 else None)
        for name, value in {**headers, "Content-Length": str(len(content)), "X-Key": key}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    def refuse_as_the_hub(self, handler: BaseHTTPRequestHandler) -> None:
        token = handler.headers["Authorization"] or ""
        self.repeated.append(f"hub {token}")
        content = json.dumps({"error": f"{token} may not read {handler.path}"}).encode()
        handler.send_response(400)
        for name, value in {
            "X-Error-Message": f"{token} at {handler.headers['Host']}",
            "X-Request-Id": token[7:],
        }.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.server.shutdown()


WAYS = (
    "is good", "refuses", "refuses at length", "refuses in JSON", "is busy at first", "redirects", "numbers strangely",
    "sends strange vectors", "sends no JSON",
)  # fmt: skip


class Machine:
    """A user's machine, all of whose folders lie below one."""

    def __init__(self, folder: Path, echo: Echo) -> None:
        self.folder, self.said = folder, b""
        for name in ("home", "temporary"):
            (folder / name).mkdir()
        (folder / "home" / ".netrc").write_text(
            f"machine 127.0.0.1 login someone password {SECRETS['AWS_SECRET_ACCESS_KEY']}\n", encoding="utf-8"
        )
        (folder / "home" / ".netrc").chmod(0o600)
        password = urllib.parse.quote(SECRETS["login of HF_ENDPOINT"])
        signature = urllib.parse.quote(SECRETS["query of a variable"], safe="")
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS") if name in os.environ}
        self.environment = {
            **kept,
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "temporary"),
            "HF_HOME": str(folder / "home" / "hf"),
            "E5_EVALUATION_CACHE": str(folder / "home" / "e5"),
            "HF_ENDPOINT": f"http://reader:{password}@127.0.0.1:{echo.port}",
            "HF_TOKEN": SECRETS["HF_TOKEN"],
            "MY_OWN_VARIABLE": SECRETS["endpoint.key_variable"],
            "AWS_SECRET_ACCESS_KEY": SECRETS["AWS_SECRET_ACCESS_KEY"],
            "DOWNLOADS": f"https://mirror.invalid/list?sv=1&x={signature}",
            "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": str(folder / "page.md"),
        }

    def run(self, command: str, *arguments: str | Path) -> int:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND.format(command), *map(str, arguments)],
            env=self.environment, cwd=self.folder, capture_output=True, timeout=300, check=False,
        )  # fmt: skip
        self.said += done.stdout + done.stderr
        return done.returncode


def write_config(folder: Path, echo: Echo) -> Path:
    pairs = [{"sentence1": text(n), "sentence2": text(n + 3), "score": n % 6 / 1.0} for n in range(12)]
    write_files(folder / "data" / "Pairs", {"test.jsonl": pairs})
    known = [secret for place, secret in SECRETS.items() if place != "URL of a config"]
    queries = [{"_id": f"q{n}", "text": f"{text(n)} {secret}"} for n, secret in enumerate(known)]
    corpus = [{"_id": f"d{n}", "title": secret, "text": text(n + 9)} for n, secret in enumerate(known)]
    judged = [(f"q{n}", f"d{n}", 1) for n in range(len(queries))]
    write_files(folder / "data" / "Wiki", {"corpus.jsonl": corpus, "queries.jsonl": queries, "qrels/test.tsv": judged})
    models = [
        {
            "label": way,
            "model": way,
            "backend": "openai",
            "protocol": "e5",
            "endpoint": {"url": echo.url, "key_variable": "MY_OWN_VARIABLE"},
        }
        for way in WAYS
    ]
    tasks = [
        {"local": "Pairs", "type": "STS", "data": "data/Pairs"},
        {"local": "Wiki", "type": "Retrieval", "data": "data/Wiki"},
    ]
    file = folder / "echo.yaml"
    file.write_text(
        json.dumps({"name": "echo", "models": models, "tasks": tasks, "runtime": {"device": "cpu"}}), encoding="utf-8"
    )
    return file


def test_no_command_writes_or_prints_a_secret(echo: Echo, tmp_path: Path) -> None:
    machine = Machine(tmp_path, echo)
    config = write_config(tmp_path, echo)
    given = leaks_below(tmp_path, SECRETS).keys()  # the user's own files: data and ~/.netrc
    assert machine.run("run_benchmark", config) == 3
    assert set(WAYS) <= set(echo.repeated)
    run, good = tmp_path / "results" / "echo", ["--model", "is good"]
    assert machine.run("run_benchmark", config, *good, "--only", "Pairs", "--output", "good") == 0
    good_run = tmp_path / "good" / "echo"
    assert machine.run("run_benchmark", config, "--plan") == 0
    assert machine.run("compare_results", run, "--format", "json", "--output", "table.json") == 0
    assert machine.run("compare_results", run) == 0
    assert machine.run("check_regression", good_run, "--baseline", "base.json", "--update-baseline") == 0
    verdicts = ["--junit", "junit.xml", "--summary", tmp_path / "page.md"]
    assert machine.run("check_regression", run, "--baseline", "base.json", *verdicts) in {0, 1}
    assert machine.run("write_report", run, "--output", "report.html") == 0
    assert machine.run("export_results", run, "--to", "trec", "--output", "trec") == 0
    assert machine.run("export_results", good_run, "--to", "model-card", "--output", "cards") == 0
    assert machine.run("embedding_cache", "show") == 0

    hub_model = {"label": "hub", "model": "someone/private", "protocol": "e5"}
    hub = tmp_path / "hub.yaml"
    hub.write_text(
        json.dumps({"name": "hub", "models": [hub_model], "tasks": [{"mteb": "Banking77Classification"}]}),
        encoding="utf-8",
    )
    assert machine.run("fetch_data", hub) == 3
    assert machine.run("run_benchmark", hub) == 3
    assert any(said.startswith("hub Basic") for said in echo.repeated), "the login of HF_ENDPOINT"
    machine.environment["HF_ENDPOINT"] = f"http://127.0.0.1:{echo.port}"
    assert machine.run("fetch_data", hub) == 3
    assert f"hub Bearer {SECRETS['HF_TOKEN']}" in echo.repeated

    refused = f"models.0.endpoint.url=http://user:{SECRETS['URL of a config']}@127.0.0.1/v1"
    assert machine.run("run_benchmark", config, "--set", refused) == 2
    assert machine.run("run_benchmark", config, "--set", refused.replace(".0.", ".99.")) == 2
    elsewhere = "models.0.endpoint.key_variable=HF_TOKEN"
    assert machine.run("run_benchmark", config, "--set", elsewhere) == 2

    assert leaks(machine.said, SECRETS) == set(), machine.said.decode(errors="replace")
    found = leaks_below(tmp_path, SECRETS)
    assert {name: found[name] for name in found.keys() - given} == {}
    assert b"[secret]" in machine.said, "the servers' words are shown, without the secrets"
