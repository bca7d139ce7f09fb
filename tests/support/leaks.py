"""Finds secrets in bytes, however they are packed or escaped. Shares nothing with the code that hides them."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pyarrow as pa
import pyarrow.parquet as pq

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{12,}")
_STREAM = re.compile(rb"\x1f\x8b\x08|x[\x01\x5e\x9c\xda]")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)")
_PLAIN_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def leaks(content: bytes, secrets: Mapping[str, str]) -> set[str]:
    """The names of the secrets that some bytes hold: as they are, in parquet, gzip, zlib, base64, escaped for URLs,
    JSON or HTML, or in two of these after another."""
    found: set[str] = set()
    for once in _readings(content):
        for twice in (once, *_readings(once)):
            found |= {name for name, secret in secrets.items() if secret.encode() in twice}
    return found


def leaks_below(folder: Path, secrets: Mapping[str, str]) -> dict[str, set[str]]:
    """File below a folder -> the secrets in it or in its name; only files that hold any."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    found = {
        str(file.relative_to(folder)): leaks(str(file).encode() + b"\n" + file.read_bytes(), secrets) for file in files
    }
    return {name: names for name, names in found.items() if names}


def _readings(content: bytes) -> Iterator[bytes]:
    yield content
    yield unquote_to_bytes(content.replace(b"+", b" "))
    yield unquote_to_bytes(content)
    text = content.decode("utf-8", "replace")
    yield html.unescape(text).encode()
    yield _ESCAPE.sub(_unescaped, text).encode("utf-8", "replace")
    yield from _from_base64(content)
    for start in _STREAM.finditer(content):
        wbits = 31 if start.group().startswith(b"\x1f") else 15
        try:
            yield zlib.decompressobj(wbits).decompress(content[start.start() :], 1 << 26)
        except zlib.error:
            continue
    at = content.find(b"PAR1")
    if at >= 0:
        with contextlib.suppress(OSError, pa.ArrowException):
            table = pq.read_table(io.BytesIO(content[at:]))
            yield json.dumps(table.to_pylist(), ensure_ascii=False, default=str).encode("utf-8", "replace")


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else _PLAIN_ESCAPES.get(code, code)


def _from_base64(content: bytes) -> Iterator[bytes]:
    runs = [run.replace(b"-", b"+").replace(b"_", b"/") for run in _BASE64.findall(content)]
    for skipped in range(4):  # a run may begin within a group
        yield b"\0".join(_decoded(run[skipped:]) for run in runs)


def _decoded(run: bytes) -> bytes:
    return base64.b64decode(run[: -1 if len(run) % 4 == 1 else None] + b"==")
