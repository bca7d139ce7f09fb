"""A server of embeddings as a model, against a small one on loopback: order, prefixes, retries, the key, refusals."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from evaluation.config.models import ModelConfig
from evaluation.encoding.endpoint import EndpointEncoder, endpoint_checkpoint
from evaluation.encoding.settings import EncoderSettings
from evaluation.errors import EncodingError, ModelError
from evaluation.system import retries


class Server:
    """Gives each text the vector (its length, its first letter); notes what it was asked."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.statuses: list[int] = []  # of the next answers; 200 when empty
        self.as_base64, self.drop, self.value = True, 0, 1.0
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                served.bodies.append(body)
                served.keys.append(self.headers["Authorization"])
                status = served.statuses.pop(0) if served.statuses else 200
                answer = json.dumps(served.answer(body) if status == 200 else {"error": "no"}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments: object) -> None:
                """Keep the test's output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        rows = []
        for index, text in enumerate(body["input"]):
            vector = np.array([len(text), ord(text[0])], np.float32) * self.value
            plain = base64.b64encode(vector.tobytes()).decode() if self.as_base64 else vector.tolist()
            rows.append({"index": index, "embedding": plain})
        return {"data": rows[::-1][self.drop :], "usage": {"prompt_tokens": 10 * len(rows)}}


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    yield served
    served.server.shutdown()


def encoder(server: Server, **endpoint: Any) -> EndpointEncoder:
    declared = {"url": server.url, "batch": 2, "concurrency": 2, **endpoint}
    model = ModelConfig.model_validate(
        {"label": "a", "model": "some-model", "backend": "openai", "endpoint": declared}, strict=False
    )
    settings = EncoderSettings("openai", "mean", 512, "float32", "cpu", 512)
    return EndpointEncoder(endpoint_checkpoint(model), settings, model)


@pytest.mark.parametrize("as_base64", [True, False])
def test_vectors_come_back_in_input_order_with_repeated_texts_sent_once(server: Server, as_base64: bool) -> None:
    server.as_base64 = as_base64
    encoded = encoder(server).encode(["bb", "a", "bb", "cccc", "a"], prefix="q: ")
    assert encoded.vectors[:, 0].tolist() == [5, 4, 5, 7, 4]
    assert encoded.vectors.dtype == np.float32
    assert sorted(text for body in server.bodies for text in body["input"]) == ["q: a", "q: bb", "q: cccc"]
    assert all(len(body["input"]) <= 2 for body in server.bodies)
    assert encoded.token_lengths.sum() == 30
    assert encoded.examples == ("q: bb", "q: a")


def test_server_that_adds_prefixes_is_told_the_side(server: Server) -> None:
    encoded = encoder(server, prefix="input_type").encode(["text"], prefix="passage: ")
    assert (server.bodies[0]["input"], server.bodies[0]["input_type"]) == (["text"], "passage")
    assert encoded.examples == ("passage: text",), "the audit sees what the model sees"
    with pytest.raises(ModelError, match="is not an input_type"):
        encoder(server, prefix="input_type").encode(["text"], prefix="Represent: ")


def test_busy_server_is_asked_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_PAUSES_S", (0.0, 0.0))
    server.statuses = [429, 503]
    assert len(encoder(server).encode(["a"]).vectors) == 1
    assert len(server.bodies) == 3


def test_refusal_and_strange_answers_are_sentences(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.statuses = [401]
    with pytest.raises(ModelError, match=r"refused the request \(HTTP 401\)"):
        encoder(server).encode(["a"])
    server.drop = 1
    with pytest.raises(EncodingError, match="gave 1 vectors for 2 texts"):
        encoder(server).encode(["a", "b"])
    server.drop, server.value = 0, float("nan")
    with pytest.raises(EncodingError, match="not finite"):
        encoder(server).encode(["a"])
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(ModelError, match="can't be reached"):
        encoder(server).encode(["a"])


def test_key_comes_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(ModelError, match="needs a key, and the environment variable SOME_KEY is not set"):
        encoder(server, key_variable="SOME_KEY")
    monkeypatch.setenv("SOME_KEY", "abc")
    encoder(server, key_variable="SOME_KEY").encode(["a"])
    assert server.keys == ["Bearer abc"]


def test_backend_and_endpoint_belong_together() -> None:
    with pytest.raises(ValueError, match="belong together"):
        ModelConfig.model_validate({"label": "a", "model": "m", "backend": "openai"})


def test_a_server_that_is_asked_in_another_way_is_another_model(server: Server) -> None:
    first, second = encoder(server), encoder(server, prefix="input_type")
    assert first.checkpoint.weights_hash == encoder(server).checkpoint.weights_hash
    assert first.checkpoint.weights_hash != second.checkpoint.weights_hash
