"""A server on loopback that answers as the Hugging Face Hub does, with faults on demand.

Repositories are folders. It knows the calls that huggingface_hub and datasets make for a snapshot: repository info, the
tree of files, and files, by way of a redirect to a storage address that honours ranges. Small files carry their git
blob id as ETag, large ones their sha256, as on the Hub.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

LARGE = 4_096
"""Files from this size on are stored as the Hub stores large files."""
_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/?]+))?(?:/.*)?$")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")
_ERROR_CODES = {"gated": (403, "GatedRepo"), "missing": (404, "RepoNotFound"), "no revision": (404, "RevisionNotFound")}


@dataclass
class Repository:
    """commits: commit -> folder of files; names: branch or tag -> commit; refuse: gated, missing or a HTTP status."""

    commits: dict[str, Path]
    names: dict[str, str]
    refuse: str | int | None = None


@dataclass
class Fault:
    """A fault of the server: for the next `times` calls to a path that holds `where`.

    Attributes:
        kind: A HTTP status, `cut` (half a body, then silence) or `slow` (a body in small pieces).
    """

    kind: int | str
    where: str = "/"
    times: int = 1


@dataclass
class Hub:
    """The server. Repositories by (kind, name); use as a context manager."""

    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)
    sent_below: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Hub:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self  # type: ignore[attr-defined]
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self.storage = f"http://localhost:{self._server.server_port}"  # another host, as the Hub's storage is
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, kind: str, name: str, folder: Path, commit: str, **more: Any) -> None:
        """Serve a folder as a commit of a repository, the newest so far."""
        known = self.repositories.setdefault((kind, name), Repository({}, {}, **more))
        known.commits[commit] = folder
        known.names["main"] = commit

    def due(self, path: str) -> Fault | None:
        """The fault to show now."""
        for fault in self.faults:
            if fault.times > 0 and fault.where in path:
                fault.times -= 1
                return fault
        return None


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(body=True)

    def log_message(self, *arguments: object) -> None:
        """Keep the test's output clean."""

    def answer(self, *, body: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        self.hub.requested.append(f"{self.command} {path}")
        fault = self.hub.due(path)
        if fault is not None and isinstance(fault.kind, int):
            self.send(
                b"a fault", body=body, status=fault.kind, headers={"Retry-After": "0"} if fault.kind == 429 else {}
            )
        elif path.startswith("/storage/"):
            self.storage(Path("/" + path.removeprefix("/storage/")), body=body, fault=fault)
        elif (found := _FILE.match(self.path.partition("?")[0])) is not None:
            kind = "dataset" if found[1] else "model"
            self.resolve(kind, found[2], unquote(found[3]), unquote(found[4]), body=body)
        elif (found := _API.match(self.path.partition("?")[0])) is not None:
            revision = unquote(found[4] or "main")
            self.api(found[1].rstrip("s"), found[2], found[3] or "revision", revision, body=body)
        else:
            self.refuse("missing", body=body)

    def find(self, kind: str, name: str, revision: str, *, body: bool) -> tuple[str, Path] | None:
        repository = self.hub.repositories.get((kind, name))
        if repository is None or repository.refuse is not None:
            self.refuse("missing" if repository is None else repository.refuse, body=body)
            return None
        commit = repository.names.get(revision, revision)
        if commit not in repository.commits:
            self.refuse("no revision", body=body)
            return None
        return commit, repository.commits[commit]

    def api(self, kind: str, name: str, call: str, revision: str, *, body: bool) -> None:
        found = self.find(kind, name, revision, body=body)
        if found is None:
            return
        commit, folder = found
        files = [_described(folder, file) for file in sorted(folder.rglob("*")) if file.is_file()]
        if call == "revision":
            siblings = [
                {"rfilename": file["path"], "size": file["size"], "blobId": file["oid"]}
                | (
                    {"lfs": {"sha256": file["lfs"]["oid"], "size": file["size"], "pointerSize": 1}}
                    if "lfs" in file
                    else {}
                )
                for file in files
            ]
            info = {"id": name, "sha": commit, "siblings": siblings, "cardData": _card(folder), "tags": []}
            self.send_json({**info, "private": False, "gated": False, "disabled": False, "downloads": 0}, body=body)
        else:
            self.send_json(files, body=body)

    def resolve(self, kind: str, name: str, revision: str, file: str, *, body: bool) -> None:
        found = self.find(kind, name, revision, body=body)
        if found is None:
            return
        commit, folder = found
        path = folder / file
        if not path.is_file():
            self.send(b"", body=body, status=404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        described = _described(folder, path)
        headers = {"X-Repo-Commit": commit}
        if "lfs" in described:
            headers["X-Linked-Etag"] = f'"{described["lfs"]["oid"]}"'
            headers["X-Linked-Size"] = str(described["size"])
            headers["Location"] = f"{self.hub.storage}/storage{quote(str(path))}"
            self.send(b"Found", body=body, status=302, headers=headers)
        else:
            headers["ETag"] = f'"{described["oid"]}"'
            self.send(path.read_bytes(), body=body, headers=headers)

    def storage(self, path: Path, *, body: bool, fault: Fault | None) -> None:
        content = path.read_bytes()
        start = int((found := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) and found[1] or 0)
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send(
            content[start:],
            body=body,
            status=206 if start else 200,
            headers=headers,
            fault=fault,
            name=path.parent.parent.name,
        )

    def refuse(self, why: str | int, *, body: bool) -> None:
        status, code = (why, "") if isinstance(why, int) else _ERROR_CODES[why]
        self.send(b"refused", body=body, status=status, headers={"X-Error-Code": code} if code else {})

    def send_json(self, content: Any, *, body: bool) -> None:
        self.send(json.dumps(content).encode(), body=body, headers={"Content-Type": "application/json"})

    def send(
        self,
        content: bytes,
        *,
        body: bool,
        status: int = 200,
        headers: dict[str, str] | None = None,
        fault: Fault | None = None,
        name: str = "",
    ) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if not body:
            return
        if fault is not None and fault.kind == "cut":
            self.wfile.write(content[: len(content) // 2])
            self.hub.sent_below[name] += len(content) // 2
            self.close_connection = True
            return
        pieces = 8 if fault is not None and fault.kind == "slow" else 1
        step = max(1, -(-len(content) // pieces))
        for at in range(0, len(content), step):
            self.wfile.write(content[at : at + step])
            self.wfile.flush()
            if pieces > 1:
                time.sleep(0.1)
        self.hub.sent_below[name] += len(content)


def _described(folder: Path, path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    described = {
        "type": "file",
        "path": path.relative_to(folder).as_posix(),
        "size": len(content),
        "oid": blob_id(content),
    }
    if len(content) >= LARGE:
        described["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return described


def _card(folder: Path) -> dict[str, Any]:
    import yaml

    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    return yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}
