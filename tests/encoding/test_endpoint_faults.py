"""A server of embeddings that is busy, away, hostile or replaced: retries, deadlines, caps, stored batches."""

from __future__ import annotations

import base64
import datetime
import email.utils
import gzip
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.embedding_server import EmbeddingServer, Reply, vector_of

from evaluation.config.model_config import ModelConfig
from evaluation.encoding import endpoint, endpoint_requests
from evaluation.encoding.endpoint import EndpointEncoder
from evaluation.encoding.endpoint_store import EndpointStore
from evaluation.encoding.settings import EncoderSettings
from evaluation.errors import EncodingError, ModelError
from evaluation.models.facts import UNLIMITED
from evaluation.models.finding import endpoint_checkpoint

TEXTS = [f"text {n}" for n in range(40)]
BATCH, CONCURRENCY = 4, 2


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[EmbeddingServer]:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(endpoint_requests, "_FIRST_PAUSE_S", 0.02)
    served = EmbeddingServer()
    yield served
    served.stop()


def encoder(server: EmbeddingServer, *, keep: bool = False, **options: Any) -> EndpointEncoder:
    declared = {"url": server.url, "batch": BATCH, "concurrency": CONCURRENCY, **options}
    model = ModelConfig.model_validate(
        {"label": "a", "model": "some-model", "backend": "openai", "endpoint": declared}, strict=False
    )
    settings = EncoderSettings("openai", "server", UNLIMITED, "float32", "cpu", 512)
    checkpoint = endpoint_checkpoint(model)
    store = EndpointStore({"weights": checkpoint.weights_hash}, max_bytes=1 << 30) if keep else None
    return EndpointEncoder(checkpoint, settings, model, store)


def vectors_of(*texts: str, model: str = "m") -> list[list[float]]:
    return [vector_of(text, model).tolist() for text in texts]


def once(*replies: Reply) -> Callable[[dict[str, Any]], Reply | None]:
    waiting = list(replies)
    return lambda body: waiting.pop(0) if waiting else None


# ------------------------------------------------------------------------------------------------------------ retries


def test_a_busy_server_is_asked_again(server: EmbeddingServer) -> None:
    server.odd = once(*(Reply(status, {"error": "busy"}) for status in (429, 503, 500)))
    assert encoder(server).encode(["a text"]).vectors.tolist() == vectors_of("a text")


def test_retry_after_is_honoured_as_seconds_and_as_a_date(server: EmbeddingServer) -> None:
    for kind in ("seconds", "date"):
        soon = datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(seconds=2)
        value = "1" if kind == "seconds" else email.utils.format_datetime(soon, usegmt=True)
        server.odd = once(Reply(429, None, headers={"Retry-After": value}))
        started = time.monotonic()
        encoder(server).encode(["a text"])
        assert 0.9 < time.monotonic() - started < 3


def test_patience_ends_with_the_option_s_name(server: EmbeddingServer) -> None:
    server.odd = lambda body: Reply(503, {"error": {"message": "model is loading"}})
    started = time.monotonic()
    with pytest.raises(
        ModelError, match=r"HTTP 503 \(model is loading\); endpoint.patience_s \(0.3 s\) does not allow"
    ):
        encoder(server, patience_s=0.3).encode(["a"])
    assert time.monotonic() - started < 2
    server.odd = lambda body: Reply(429, None, headers={"Retry-After": "700"})
    with pytest.raises(ModelError, match=r"asks for a pause of 700 s; endpoint.patience_s \(600 s\) does not allow"):
        encoder(server).encode(["a"])


def test_a_server_that_was_never_there_is_said_at_once(server: EmbeddingServer) -> None:
    server.stop()
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"can't be reached; start the server, or correct endpoint\.url"):
        encoder(server).encode(["a"])
    assert time.monotonic() - started < 2


def test_a_server_that_is_restarted_in_mid_run_gets_no_batch_twice_but_those_on_their_way(
    server: EmbeddingServer,
) -> None:
    server.delay_s = 0.02
    under_test = encoder(server)

    def restart() -> None:
        while len(server.bodies) < 4:
            time.sleep(0.002)
        server.stop()
        time.sleep(0.3)
        server.start()

    threading.Thread(target=restart, daemon=True).start()
    assert under_test.encode(TEXTS).vectors.tolist() == vectors_of(*TEXTS)
    doubled = [text for text, count in Counter(server.texts()).items() if count > 1]
    assert len(doubled) <= BATCH * CONCURRENCY


def test_a_server_that_comes_back_with_other_weights_is_refused(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "_PROVE_EVERY_S", 0.0)
    under_test = encoder(server, keep=True)
    under_test.encode(["a text"])
    server.stop()
    server.model = "another"
    server.start()
    with pytest.raises(EncodingError, match="now serves a different model"):
        under_test.encode(TEXTS)
    server.model = "m"
    assert encoder(server, keep=True).encode(TEXTS).vectors.tolist() == vectors_of(*TEXTS), "nothing of it was stored"


def test_what_another_model_answered_unnoticed_is_dropped(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose connections survive, such as one behind a balancer, is found out by the next look at it."""
    under_test = encoder(server, keep=True)
    under_test.encode(["a text"])
    server.model = "another"
    under_test.encode(TEXTS[:8])
    monkeypatch.setattr(endpoint, "_PROVE_EVERY_S", 0.0)
    with pytest.raises(EncodingError, match="now serves a different model"):
        under_test.encode(TEXTS)
    server.model = "m"
    assert encoder(server, keep=True).encode(TEXTS).vectors.tolist() == vectors_of(*TEXTS)


def test_a_server_that_stays_away_does_not_hold_up_the_next_job(server: EmbeddingServer) -> None:
    under_test = encoder(server, patience_s=0.3)
    under_test.encode(["a text"])
    server.stop()
    with pytest.raises(ModelError, match=r"refused or cut the connection; endpoint.patience_s \(0.3 s\)"):
        under_test.encode(["b"])
    with pytest.raises(ModelError, match="can't be reached"):
        under_test.encode(["b"])


def test_a_page_of_a_proxy_in_mid_run_is_not_the_end(server: EmbeddingServer) -> None:
    under_test = encoder(server)
    under_test.encode(["a text"])
    server.odd = once(Reply(200, b"<html>bad gateway</html>"))
    assert under_test.encode(["other"]).vectors.tolist() == vectors_of("other")
    server.odd = lambda body: Reply(200, b"<html>welcome</html>")
    with pytest.raises(ModelError, match="did not return JSON; check endpoint.url"):
        encoder(server).encode(["a"])


# ----------------------------------------------------------------------------------------------------- stored batches


def test_finished_batches_are_not_sent_again(server: EmbeddingServer) -> None:
    server.odd = lambda body: Reply(401, {"error": "out of credit"}) if "text 22" in body["input"] else None
    with pytest.raises(ModelError, match="out of credit"):
        encoder(server, keep=True).encode(TEXTS)
    server.odd, first = lambda body: None, server.texts()
    encoded = encoder(server, keep=True).encode(TEXTS)
    assert encoded.vectors.tolist() == vectors_of(*TEXTS)
    doubled = [text for text, count in Counter(server.texts()).items() if count > 1]
    assert len(first) >= 16
    assert len(doubled) <= BATCH * CONCURRENCY
    server.bodies.clear()
    assert encoder(server, keep=True).encode(TEXTS).vectors.tolist() == vectors_of(*TEXTS)
    assert not server.bodies


def test_a_run_that_is_killed_sends_at_most_the_batches_on_their_way_again(server: EmbeddingServer) -> None:
    server.delay_s = 0.02
    run = multiprocessing.get_context("fork").Process(target=lambda: encoder(server, keep=True).encode(TEXTS))
    run.start()
    while len(server.bodies) < 5:
        time.sleep(0.002)
    run.kill()
    run.join()
    assert encoder(server, keep=True).encode(TEXTS).vectors.tolist() == vectors_of(*TEXTS)
    doubled = [text for text, count in Counter(server.texts()).items() if count > 1]
    assert len(doubled) <= BATCH * CONCURRENCY


def test_batches_of_other_weights_are_not_used(server: EmbeddingServer, caplog: pytest.LogCaptureFixture) -> None:
    encoder(server, keep=True).encode(TEXTS)
    server.model = "another"
    with caplog.at_level(logging.WARNING, "evaluation"):
        encoded = encoder(server, keep=True).encode(TEXTS)
    assert encoded.vectors.tolist() == vectors_of(*TEXTS, model="another")
    assert "returns different vectors than before" in caplog.text


@pytest.mark.parametrize(("noise", "is_same"), [(0.002, True), (0.05, False)])
def test_small_differences_are_the_same_model(server: EmbeddingServer, noise: float, is_same: bool) -> None:
    """A relative noise of 0.002 is a cosine of about 1 - 0.002**2 / 2 = 0.999998; of 0.05, one of 0.99875."""
    encoder(server, keep=True).encode(TEXTS)
    server.bodies.clear()
    generator = np.random.default_rng(1)

    def tremble(answer: dict[str, Any]) -> dict[str, Any]:
        for row in answer["data"]:
            vector = np.frombuffer(base64.b64decode(row["embedding"]), np.float32)
            row["embedding"] = (vector * (1 + noise * generator.choice([-1, 1], len(vector)))).tolist()
        return answer

    server.change = tremble
    encoder(server, keep=True).encode(TEXTS)
    assert (not server.bodies) is is_same


# ------------------------------------------------------------------------------------------------------------ starving


def head(handler: BaseHTTPRequestHandler, *fields: str) -> None:
    handler.wfile.write("\r\n".join(["HTTP/1.1 200 OK", *fields, "", ""]).encode())


def endless(handler: BaseHTTPRequestHandler) -> None:
    head(handler, "Connection: close")
    while True:
        handler.wfile.write(b'{"data": [' + b" " * (1 << 16))


def bomb(handler: BaseHTTPRequestHandler) -> None:
    packed = gzip.compress(b" " * (128 << 20), 1)
    head(handler, "Content-Encoding: gzip", f"Content-Length: {len(packed)}")
    handler.wfile.write(packed)


def dripping_body(handler: BaseHTTPRequestHandler) -> None:
    head(handler, "Connection: close")
    while True:
        handler.wfile.write(b" ")
        time.sleep(0.05)


def dripping_head(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.05)


def silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(60)


@pytest.mark.parametrize("attack", [endless, bomb])
def test_an_answer_is_read_up_to_what_was_asked_for(
    server: EmbeddingServer, attack: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    server.raw = attack
    with pytest.raises(EncodingError, match=r"sends more than [\d,]+ bytes, more than the vectors that were asked for"):
        encoder(server).encode(["a"])


@pytest.mark.parametrize("attack", [dripping_body, dripping_head, silent])
def test_a_request_has_one_deadline(server: EmbeddingServer, attack: Callable[[BaseHTTPRequestHandler], None]) -> None:
    server.raw = attack
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"did not answer completely within 0.5 s \(endpoint.timeout_s\)"):
        encoder(server, timeout_s=0.5, patience_s=0).encode(["a"])
    assert time.monotonic() - started < 2


def ask_until_interrupted(server: EmbeddingServer, said: Connection) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        encoder(server).encode(["a"])
    except KeyboardInterrupt:
        said.send("interrupted")


def test_ctrl_c_ends_within_two_seconds_whatever_the_server_does(server: EmbeddingServer) -> None:
    asked = threading.Event()

    def attack(handler: BaseHTTPRequestHandler) -> None:
        asked.set()
        dripping_head(handler)

    server.raw = attack
    here, there = multiprocessing.Pipe()
    client = multiprocessing.get_context("fork").Process(target=ask_until_interrupted, args=(server, there))
    client.start()
    try:
        assert asked.wait(60)
        time.sleep(0.2)
        assert client.pid is not None
        os.kill(client.pid, signal.SIGINT)
        assert here.poll(2)
        client.join(2)
        assert client.exitcode == 0, "no thread holds the process up"
    finally:
        client.kill()
