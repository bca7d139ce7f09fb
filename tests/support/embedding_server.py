"""An embedding server on loopback with the oddities of real ones, which can be stopped and started again."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.encoding.endpoint_store import PROBES

WIDTH = 16


def vector_of(text: str, model: str = "m") -> NDArray[np.float32]:
    """(D,) float32: another direction for each text and model."""
    seed = int.from_bytes(hashlib.sha256(f"{model} {text}".encode("utf-8", "replace")).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32)


class Reply:
    """An answer that the server gives instead of vectors."""

    def __init__(self, status: int, content: Any = None, *, headers: dict[str, str] | None = None) -> None:
        self.status, self.headers = status, headers or {}
        self.body = content if isinstance(content, bytes) else json.dumps(content).encode()


class EmbeddingServer:
    """Answers like a server of embeddings.

    Attributes:
        bodies: Requests that got vectors or an odd answer, in order, those of probe texts left out.
        keys: The Authorization header of each request.
        odd: body -> an odd `Reply`, or None for vectors. Asked first, for requests with probe texts too.
        change: Changes the JSON of an answer with vectors.
        raw: Writes an answer by itself, given the handler.
        model: Another one gives other vectors.
        delay_s: Before each answer.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.odd: Callable[[dict[str, Any]], Reply | None] = lambda body: None
        self.change: Callable[[dict[str, Any]], Any] = lambda answer: answer
        self.raw: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.model, self.delay_s, self.tokens_per_text = "m", 0.0, 3
        self.as_sent: Callable[[str, dict[str, Any]], str] = lambda text, body: text
        self._server: ThreadingHTTPServer | None = None
        self._open: set[socket.socket] = set()
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def texts(self) -> list[str]:
        """All texts that got a vector, in order, probe texts left out."""
        return [text for body in self.bodies for text in body["input"]]

    def start(self) -> None:
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                served._open.add(self.connection)

            def finish(self) -> None:
                served._open.discard(self.connection)
                with contextlib.suppress(OSError):
                    super().finish()

            def do_POST(self) -> None:
                with contextlib.suppress(OSError):
                    served._answer(self)

            def log_message(self, *arguments: object) -> None:
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Refuses connections from now on, and cuts those that are open, as a killed process does."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            for connection in list(self._open):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.keys.append(handler.headers["Authorization"])
        time.sleep(self.delay_s)
        if self._server is None:
            return
        if self.raw is not None:
            self.raw(handler)
            return
        reply = self.odd(body)
        is_probe = {text.removeprefix("query: ").removeprefix("q: ") for text in body["input"]} <= set(PROBES)
        if not is_probe:
            self.bodies.append(body)
        self._write(handler, reply or Reply(200, self.change(self._vectors(body))))

    def _vectors(self, body: dict[str, Any]) -> dict[str, Any]:
        rows = []
        for index, text in enumerate(body["input"]):
            vector = vector_of(self.as_sent(text, body), self.model)
            as_base64 = body.get("encoding_format") == "base64"
            rows.append(
                {
                    "index": index,
                    "embedding": base64.b64encode(vector.tobytes()).decode() if as_base64 else vector.tolist(),
                }
            )
        return {"data": rows[::-1], "usage": {"prompt_tokens": self.tokens_per_text * len(rows)}}

    def _write(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        handler.wfile.write(reply.body)
