"""The files of the embedding cache: one safetensors file per shard, checked when it is read.

Counts sizes, evicts the least recently used shards, and clears the cache.

Files are deleted only under names that the cache itself gives, and never through a link: a folder that somebody linked
into the cache stays as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from evaluation.system.atomic_files import write_atomically
from evaluation.system.cache_folder import user_cache_dir
from evaluation.system.limited_reading import parse_json

SUFFIX, CLAIM_SUFFIX, IDENTITY_FILE = ".safetensors", ".claim", "identity.json"
CHECKSUM = "xxh3_128"
"""Shows damage only; against changes on purpose no checksum helps that lies in the changed file itself."""
_CHECKSUMS: dict[str, Callable[[], Any]] = {CHECKSUM: xxhash.xxh3_128, "sha256": hashlib.sha256}  # of earlier releases
_DTYPES = {"uint64": "U64", "int64": "I64", "float32": "F32"}
_STALE_S = 24 * 3600.0
"""An unfinished file this old belongs to a process that was killed."""
_FOLDER = re.compile(r"[0-9a-f]{24}")
_SHARD = re.compile(r"[0-9a-f]{24}\.(safetensors|seg)")  # .seg: of earlier releases
_SET_ASIDE = re.compile(r"[0-9a-f]{24}\.(safetensors\.|seg\.)?damaged")
_UNFINISHED = re.compile(r"\.([0-9a-f]{24}\.(safetensors|seg)|identity\.json)\.\w+\.tmp|\.[0-9a-f]{24}\.claim")


class CachedShard(NamedTuple):
    """vectors (N, D) float32 and token_lengths (N,) int64 of N texts, in the order of the shard."""

    vectors: NDArray[np.float32]
    token_lengths: NDArray[np.int64]


class CacheUsage(NamedTuple):
    """What one folder of the cache belongs to (empty where unknown), its shards and their bytes."""

    identity: dict[str, Any]
    n_shards: int
    n_bytes: int


class _OwnFile(NamedTuple):
    used: float
    size: int
    name: str
    folder: Path


def embeddings_dir() -> Path:
    """Where the cache lies: below the user's cache folder, which E5_EVALUATION_CACHE moves."""
    return user_cache_dir() / "embeddings"


def folder_name(identity: str) -> str:
    """The name of the folder for an identity, given as JSON."""
    return hashlib.sha256(identity.encode()).hexdigest()[:24]


def write_shard(file: Path, hashes: NDArray[np.uint64], shard: CachedShard) -> None:
    """Write a shard so that it appears whole or not at all.

    Raises:
        UnwritableError: It can't be written.
    """
    tensors: dict[str, NDArray[Any]] = {
        "hashes": np.ascontiguousarray(hashes, np.uint64),
        "token_lengths": np.ascontiguousarray(shard.token_lengths, np.int64),
        "vectors": np.ascontiguousarray(shard.vectors, np.float32),
    }
    header = _header(tensors, {CHECKSUM: _digest(tensors, CHECKSUM)})

    def write(path: Path) -> None:
        with path.open("wb") as stream:
            stream.write(header)
            for values in tensors.values():
                stream.write(_bytes(values))

    write_atomically(file, write)


def read_shard(file: Path) -> tuple[NDArray[np.uint64], CachedShard] | None:
    """The hashes and the content of a stored shard; None if any byte of it is not what was written.

    Raises:
        OSError: It can't be read.
    """
    with file.open("rb"):
        pass  # an OSError rather than the library's own
    try:
        with safe_open(file, "numpy") as stored:
            tensors = {name: stored.get_tensor(name) for name in ("hashes", "token_lengths", "vectors")}
            metadata = stored.metadata() or {}
    except (SafetensorError, ValueError, TypeError, KeyError):
        return None
    kind = next((kind for kind in _CHECKSUMS if kind in metadata), None)
    if kind is None or metadata[kind] != _digest(tensors, kind):
        return None
    return tensors["hashes"], CachedShard(tensors["vectors"], tensors["token_lengths"])


def _header(tensors: dict[str, NDArray[Any]], metadata: dict[str, str]) -> bytes:
    """What precedes the arrays in a safetensors file: https://github.com/huggingface/safetensors#format.

    The library would copy the vectors twice on their way to the file.
    """
    content: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, values in tensors.items():
        start, end = end, end + values.nbytes
        content[name] = {"dtype": _DTYPES[values.dtype.name], "shape": values.shape, "data_offsets": [start, end]}
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 8)  # arrays begin at multiples of 8 bytes
    return len(text).to_bytes(8, "little") + text


def _digest(tensors: dict[str, NDArray[Any]], kind: str) -> str:
    digest = _CHECKSUMS[kind]()
    for name, values in sorted(tensors.items()):
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(_bytes(values))
    found: str = digest.hexdigest()
    return found


def _bytes(values: NDArray[Any]) -> memoryview | bytes:
    return values.data if values.size else b""


def usage(root: Path | None = None) -> list[CacheUsage]:
    """What the cache holds, a row for each model and settings."""
    rows = []
    for folder in _folders(root or embeddings_dir()):
        found = [file for file in _own_files(folder) if _SHARD.fullmatch(file.name) or _SET_ASIDE.fullmatch(file.name)]
        try:
            text = (folder / IDENTITY_FILE).read_text(encoding="utf-8")
            identity = parse_json(text) if folder_name(text) == folder.name else {}
        except (OSError, ValueError):
            identity = {}
        rows.append(CacheUsage(identity, len(found), sum(file.size for file in found)))
    return rows


def prune(max_bytes: int, root: Path | None = None) -> int:
    """Drop the shards that were not used for longest until the cache fits; returns the bytes freed.

    Unfinished files of killed processes are dropped after a day.
    """
    everything = [file for folder in _folders(root or embeddings_dir()) for file in _own_files(folder)]
    for file in everything:
        if _UNFINISHED.fullmatch(file.name) and time.time() - file.used > _STALE_S:
            _delete(file)
    shards = sorted(file for file in everything if _SHARD.fullmatch(file.name))
    excess = sum(file.size for file in shards) - max_bytes
    freed = 0
    for file in shards:
        if freed >= excess:
            break
        freed += _delete(file)
    return freed


def clear(root: Path | None = None) -> int:
    """Drop all files of the cache, damaged and unfinished ones too; returns the bytes freed."""
    freed = 0
    for folder in _folders(root or embeddings_dir()):
        freed += sum(_delete(file) for file in _own_files(folder))
        with contextlib.suppress(OSError):
            folder.rmdir()
    return freed


def drop_unfinished(folder: Path, shard: str) -> None:
    """Drop what a killed process left of a shard; the caller holds the shard's lock."""
    for file in _own_files(folder):
        if file.name.startswith(f".{shard}{SUFFIX}."):
            _delete(file)


def _folders(root: Path) -> list[Path]:
    """Folders of the cache by their own names; links are left alone."""
    try:
        with os.scandir(root) as entries:
            own = [entry for entry in entries if _FOLDER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return sorted(Path(entry.path) for entry in own)


def _own_files(folder: Path) -> Iterator[_OwnFile]:
    """The files of a folder that have names of the cache; files that vanish meanwhile are left out."""
    try:
        with os.scandir(folder) as entries:
            names = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError:
        return
    for entry in names:
        is_own = entry.name == IDENTITY_FILE or any(
            pattern.fullmatch(entry.name) for pattern in (_SHARD, _SET_ASIDE, _UNFINISHED)
        )
        if is_own:
            with contextlib.suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                yield _OwnFile(found.st_mtime, found.st_size, entry.name, folder)


def _delete(file: _OwnFile) -> int:
    """Delete a file by its name in its folder, which may have become a link meanwhile; returns the bytes freed."""
    try:
        handle = os.open(file.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return 0
    try:
        os.unlink(file.name, dir_fd=handle)  # noqa: PTH108 (pathlib knows no folder handles)
    except OSError:
        return 0
    finally:
        os.close(handle)
    return file.size
