"""A hostile Hub: bodies without end, compressed bombs and drips are cut off, and Ctrl-C ends a fetch at once."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest

from evaluation.hub import transport

COMMIT = "a" * 40
SCRIPT = """
import sys, time
from evaluation.hub import client, transport
from evaluation.hub.cache import HubError
transport._GRACE_S = 4.0
transport._UNKNOWN_BYTES = 1 << 24
# getrusage counts the memory of the process that started this one, if it had more
peak = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
import huggingface_hub.utils._http
before = peak()
try:
    if sys.argv[1] == "describe":
        client.describe("dataset", sys.argv[2], None)
    else:
        client.fetch("dataset", sys.argv[2], None, ["*"])
    print(0, "nothing was refused")
except HubError as error:
    print(round(peak() - before), error)
"""


class Hostile(BaseHTTPRequestHandler):
    """Repository some/<way>: `<way>` is what goes wrong, in its description or in its one file."""

    drips = threading.Event()

    def do_HEAD(self) -> None:
        self.start(200, {"Content-Length": "20", "ETag": '"e"', "X-Repo-Commit": COMMIT})

    def do_GET(self) -> None:
        with suppress(OSError):
            where = "file" if "/resolve/" in self.path else "description"
            way = re.split("[/?]", self.path.partition("/some/")[2])[0]
            where_wrong, _, kind = way.partition("-")
            if where != where_wrong and "/tree/" in self.path:
                self.send(json.dumps([{"type": "file", "path": "data.csv", "size": 20, "oid": "e"}]).encode())
            elif where != where_wrong:
                files = [{"rfilename": "data.csv", "size": 20}]
                info = {"id": f"some/{way}", "sha": COMMIT, "siblings": files, "tags": [], "downloads": 0}
                self.send(json.dumps({**info, "private": False, "disabled": False}).encode())
            elif kind == "strange":
                self.send(b'{"sha": [], "siblings": 7, "lastModified": {}}')
            elif kind == "endless":
                self.start(200, {"X-Repo-Commit": COMMIT, "ETag": '"e"'})
                while True:
                    self.wfile.write(b"[" * (1 << 16))
            elif kind == "bomb":
                self.send(gzip.compress(bytes(1 << 28), 1), {"Content-Encoding": "gzip"})
            else:
                self.start(200, {"Content-Length": "100000"})
                self.drips.set()
                while True:
                    self.wfile.write(b"[")
                    self.wfile.flush()
                    time.sleep(0.05)

    def start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.start(200, {"Content-Length": str(len(content)), "Content-Type": "application/json", **(headers or {})})
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def environment(address: str, home: object) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return {**kept, "HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}


@pytest.mark.parametrize(
    ("call", "way", "says"),
    [
        ("describe", "description-endless", "sends more than"),
        ("describe", "description-bomb", "was sent compressed"),
        ("describe", "description-strange", "can't be understood"),
        ("fetch", "description-strange", "can't be"),
        ("describe", "description-drip", "less than a kilobyte per second"),
        ("fetch", "file-endless", "sends more than"),
        ("fetch", "file-bomb", "was sent compressed"),
        ("fetch", "file-drip", "less than a kilobyte per second"),
    ],
)
def test_hostile_bodies_are_cut_off(address: str, tmp_path: object, call: str, way: str, says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, call, f"some/{way}"],
        capture_output=True, text=True, env=environment(address, tmp_path), timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1_000:]
    megabytes, _, said = done.stdout.partition(" ")
    assert says in said
    assert float(megabytes) < 500


def test_threads_that_fetch_side_by_side_keep_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def slowly(factory: object) -> None:
        time.sleep(0.02)
        made.append(factory)

    monkeypatch.setattr(huggingface_hub, "set_client_factory", slowly)
    transport._limit.cache_clear()
    threads = [threading.Thread(target=transport.limit_transport) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    transport._limit.cache_clear()
    assert made == [transport._limited_client]


def test_ctrl_c_ends_a_fetch_within_two_seconds(address: str, tmp_path: object) -> None:
    code = SCRIPT.replace("_GRACE_S = 4.0", "_GRACE_S = 600.0").replace("import sys", "import os, sys", 1)
    code = code.replace("except HubError", "except KeyboardInterrupt:\n    os._exit(130)\nexcept HubError")
    # A shell's background jobs ignore the signal, and so would their children.
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-c", heard + code, "fetch", "some/file-drip"]
    Hostile.drips.clear()
    process = subprocess.Popen(command, env=environment(address, tmp_path))
    assert Hostile.drips.wait(60)
    time.sleep(0.5)
    assert process.poll() is None, "the fetch was over before it could be stopped"
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert time.monotonic() - started < 2
