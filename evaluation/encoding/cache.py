"""EmbeddingCache: raw pooled vectors on disk, found by the content of weights and text, never by names.

One folder for each combination of weights, tokenizer, pooling, maximum length, dtype and backend; in it, immutable
segments that appear whole or not at all, so that several processes may read and write at once. A segment holds the
128-bit hashes of its texts and their token counts, under a checksum that is verified when it is opened, and their
vectors, under another that is verified when they are first asked for.

A shard is taken whole or not at all: whoever asks encodes all of it otherwise, so that batches, and with them the last
bits of a vector, do not depend on what the cache happened to hold. Its segment is named by its texts, and who is told
that it is missing holds a claim to it until it is put: another process that asks for it meanwhile waits. So segments
are also the checkpoints of a job, of which a killed process loses one at most.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from evaluation.system.atomic_files import DAMAGED_SUFFIX, TEMPORARY_SUFFIX, reason, sync_folder
from evaluation.system.cache_folder import user_cache_dir

_LOG = logging.getLogger(__name__)
_MAGIC = b"E5EMB1\0\0"
_HEADER = struct.Struct("<8sQQ32s32s")  # magic, texts, dimensions, sha256 of hashes and lengths, sha256 of vectors
_SUFFIX, _DAMAGED, _CLAIM, _IDENTITY = ".seg", DAMAGED_SUFFIX, ".claim", "identity.json"
_PATIENCE_S = 900.0
"""How long another process that encodes the same shard is waited for; it may hang, and doing it twice is no harm."""
_STALE_S = 24 * 3600.0
"""A file this old that is not finished belongs to a process that was killed."""

Hashes = NDArray[np.uint64]
"""(N, 2) uint64: 128 bits a text."""


class CachedShard(NamedTuple):
    """vectors (N, D) float32 and token_lengths (N,) int64 of N texts, in the order asked for."""

    vectors: NDArray[np.float32]
    token_lengths: NDArray[np.int64]


class CacheUsage(NamedTuple):
    """What lies in one folder of the cache: what it belongs to, texts (or None if unknown) and bytes."""

    identity: dict[str, Any]
    n_segments: int
    n_bytes: int


@dataclass(slots=True)
class _Segment:
    path: Path
    hashes: Hashes
    lengths: NDArray[np.int64]
    vectors: NDArray[np.float32]  # on disk
    vectors_digest: bytes
    verified: bool = False

    def is_sound(self) -> bool:
        """Whether the vectors are those that were written; read once, then remembered."""
        if not self.verified:
            self.verified = hashlib.sha256(self.vectors.data).digest() == self.vectors_digest
        return self.verified


def embeddings_dir() -> Path:
    """Where the cache lies: below the user's cache folder, which E5_EVALUATION_CACHE moves."""
    return user_cache_dir() / "embeddings"


def hash_texts(texts: Sequence[str]) -> Hashes:
    """128-bit BLAKE2b of each text, lone surrogates included."""
    digests = b"".join(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts
    )
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


class EmbeddingCache:
    """The vectors of one model under one set of settings. Threads may share it.

    Args:
        identity: All that decides a vector beside the text: content hashes, pooling, maximum length, dtype, backend.
        folder: Of the whole cache; `embeddings_dir()` by default.
        max_bytes: When all folders together hold more, the segments that were not used for longest are dropped.

    Attributes:
        damaged: Segments that were found damaged and set aside; their texts are encoded again.
    """

    def __init__(self, identity: Mapping[str, Any], folder: Path | None = None, *, max_bytes: int) -> None:
        self._root = folder or embeddings_dir()
        text = json.dumps(dict(identity), sort_keys=True)
        self._folder = self._root / _folder_name(text)
        self._identity, self._max_bytes = text, max_bytes
        self._segments: dict[str, _Segment] = {}
        self._index: tuple[Hashes, NDArray[np.int64], NDArray[np.int64]] | None = None
        self.damaged: list[Path] = []
        self._claims: dict[str, FileLock] = {}
        self._lock = threading.Lock()
        self._written: list[Path] = []
        self._warned: set[str] = set()

    def get(self, hashes: Hashes, *, wait: bool = True) -> CachedShard | None:
        """The vectors of a whole shard, or None if any of its texts is missing; then `put` or `give_up` is expected.

        Args:
            hashes: Of the shard's texts.
            wait: Where another process has been told the same, wait until that one has put the shard or ended.
        """
        with self._lock:
            found = self._take(hashes)
        if found is None and len(hashes):
            self._claim_shard(hashes, wait=wait)
            with self._lock:
                found = self._take(hashes)
            if found is not None:
                self.give_up(hashes)
        return found

    def _take(self, hashes: Hashes) -> CachedShard | None:
        """Out of the segment of just this shard, or of as many as its texts lie in."""
        return self._take_own(hashes) or self._take_scattered(hashes)

    def _take_own(self, hashes: Hashes) -> CachedShard | None:
        path = self._folder / f"{shard_name(hashes)}{_SUFFIX}"
        segment = self._segments.get(path.name) if path.exists() else None
        if segment is None and path.exists():
            segment = self._open(path)
        if segment is None or not np.array_equal(segment.hashes, hashes):
            return None
        if not segment.is_sound():
            self._set_aside(path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now: dropped last
        return CachedShard(np.array(segment.vectors), segment.lengths)

    def _take_scattered(self, hashes: Hashes) -> CachedShard | None:
        self._refresh()
        found = self._find(hashes)
        if found is None:
            return None
        names, segment_of, row_of = list(self._segments), *found
        first = self._segments[names[int(segment_of[0])]]
        vectors = np.empty((len(hashes), first.vectors.shape[1]), np.float32)
        lengths = np.empty(len(hashes), np.int64)
        for number in np.unique(segment_of):
            rows = np.flatnonzero(segment_of == number)
            segment = self._segments[names[int(number)]]
            if not segment.is_sound():
                self._set_aside(segment.path)
                return None
            vectors[rows] = segment.vectors[row_of[rows]]
            lengths[rows] = segment.lengths[row_of[rows]]
            with contextlib.suppress(OSError):
                os.utime(segment.path)  # used now: dropped last
        return CachedShard(vectors, lengths)

    def put(self, hashes: Hashes, shard: CachedShard) -> None:
        """Store a shard as a segment of its own. A cache that can't be written is left as it is, with a warning."""
        vectors = np.ascontiguousarray(shard.vectors, np.float32)
        keys = np.ascontiguousarray(hashes).tobytes() + shard.token_lengths.astype(np.int64).tobytes()
        digests = hashlib.sha256(keys).digest(), hashlib.sha256(vectors.data).digest()
        parts = (_HEADER.pack(_MAGIC, *vectors.shape, *digests), keys, vectors.data)
        try:
            self._written.append(self._write(f"{shard_name(hashes)}{_SUFFIX}", parts))
            if not _holds(self._folder / _IDENTITY, self._identity):
                self._write(_IDENTITY, (self._identity.encode(),))
            if prune(self._max_bytes, self._root) and not all(path.exists() for path in self._written):
                self._warn("this run's vectors exceed the cache's limit (runtime.cache_gib); the first are dropped")
        except OSError as error:
            self._warn(f"vectors can't be kept in {self._folder} ({reason(error)})")
        finally:
            self.give_up(hashes)

    def shard_names(self) -> set[str]:
        """`shard_name` of each shard that was stored here and is still there."""
        return {path.stem for path in self._folder.glob(f"*{_SUFFIX}")} if self._folder.is_dir() else set()

    def _warn(self, what: str) -> None:
        """Say once what makes the cache no checkpoint."""
        if what not in self._warned:
            self._warned.add(what)
            _LOG.warning("%s: a job that is stopped encodes again what is not there.", what)

    def _write(self, name: str, parts: Iterable[bytes | memoryview]) -> Path:
        temporary = self._folder / f".{name}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                for part in parts:
                    stream.write(part)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self._folder / name)
            sync_folder(self._folder)
            return self._folder / name
        finally:
            temporary.unlink(missing_ok=True)

    def _claim_shard(self, hashes: Hashes, *, wait: bool) -> None:
        """Become the one that encodes a shard. Without locks on this file system, or patience, nobody is."""
        name = shard_name(hashes)
        claim = FileLock(self._folder / f".{name}{_CLAIM}", thread_local=False)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                claim.acquire(timeout=0)
            except Timeout:
                if not wait:
                    return
                _LOG.info("another process is encoding the same texts; waiting for its vectors")
                claim.acquire(timeout=_PATIENCE_S)
        except (OSError, NotImplementedError):  # a Timeout is an OSError
            return
        self._claims[name] = claim
        for leftover in self._folder.glob(f".{name}{_SUFFIX}.*{TEMPORARY_SUFFIX}"):  # of who held the claim before
            with contextlib.suppress(OSError):
                leftover.unlink()

    def give_up(self, hashes: Hashes) -> None:
        """Leave a shard that was missing to whoever waits for it."""
        claim = self._claims.pop(shard_name(hashes), None)
        if claim is not None:
            with contextlib.suppress(OSError):
                Path(claim.lock_file).unlink()
            claim.release()

    def _refresh(self) -> None:
        """Open segments that appeared and forget those that were dropped."""
        there = {path.name: path for path in self._folder.glob(f"*{_SUFFIX}")} if self._folder.is_dir() else {}
        if there.keys() == self._segments.keys() and self._index is not None:
            return
        opened = {}
        for name, path in sorted(there.items()):
            segment = self._segments.get(name) or self._open(path)
            if segment is not None:
                opened[name] = segment
        self._segments = opened
        self._index = _build_index([segment.hashes for segment in opened.values()])

    def _open(self, path: Path) -> _Segment | None:
        """A verified segment, its vectors left on disk; a damaged one is set aside."""
        try:
            segment = _read_segment(path)
        except OSError:
            return None
        if segment is None:
            self._set_aside(path)
        return segment

    def _set_aside(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(_DAMAGED))
        self.damaged.append(path)
        self._segments.pop(path.name, None)
        self._index = None
        _LOG.warning("%s is damaged: set aside as *%s, its texts are encoded again.", path, _DAMAGED)

    def _find(self, hashes: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """Segment number and row of each text, or None if one is missing."""
        assert self._index is not None, "refreshed before"
        known, segment_of, row_of = self._index
        if not len(known) or not len(hashes):
            return None
        place = np.minimum(np.searchsorted(known[:, 0], hashes[:, 0]), len(known) - 1)
        if not (known[place] == hashes).all():
            return None
        return segment_of[place], row_of[place]


def _folder_name(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:24]


def shard_name(hashes: Hashes) -> str:
    """What a shard's files are called: the same in every process."""
    return hashlib.blake2b(np.ascontiguousarray(hashes).data, digest_size=12).hexdigest()


def _holds(file: Path, text: str) -> bool:
    try:
        return file.read_text(encoding="utf-8") == text
    except (OSError, ValueError):
        return False


def _build_index(hashes: Sequence[Hashes]) -> tuple[Hashes, NDArray[np.int64], NDArray[np.int64]]:
    """All hashes sorted by their first half, with segment number and row; the first of equal ones wins."""
    if not hashes:
        return np.zeros((0, 2), np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    together = np.concatenate(hashes)
    segment_of = np.repeat(np.arange(len(hashes), dtype=np.int64), [len(part) for part in hashes])
    row_of = np.concatenate([np.arange(len(part), dtype=np.int64) for part in hashes])
    _, first = np.unique(together[:, 0], return_index=True)
    return together[first], segment_of[first], row_of[first]


def _read_segment(path: Path) -> _Segment | None:
    """Read hashes and lengths and verify them; None if they or the size are damaged."""
    data = np.memmap(path, np.uint8, mode="r") if path.stat().st_size else np.zeros(0, np.uint8)
    if len(data) < _HEADER.size:
        return None
    magic, n, dimensions, keys_digest, vectors_digest = _HEADER.unpack(data[: _HEADER.size].tobytes())
    body = data[_HEADER.size :]
    if magic != _MAGIC or len(body) != n * (16 + 8 + 4 * dimensions):
        return None
    if hashlib.sha256(body[: 24 * n].data).digest() != keys_digest:
        return None
    hashes = body[: 16 * n].view(np.uint64).reshape(n, 2)
    lengths = body[16 * n : 24 * n].view(np.int64)
    vectors = body[24 * n :].view(np.float32).reshape(n, dimensions)
    return _Segment(path, np.array(hashes), np.array(lengths), vectors, vectors_digest)


def usage(root: Path | None = None) -> list[CacheUsage]:
    """What the cache holds, a row a model and settings."""
    rows = []
    root = root or embeddings_dir()
    for folder in sorted(path for path in root.glob("*") if path.is_dir()) if root.is_dir() else []:
        segments = [path for path in folder.iterdir() if path.suffix in {_SUFFIX, _DAMAGED}]
        try:
            text = (folder / _IDENTITY).read_text(encoding="utf-8")
            identity = json.loads(text) if _folder_name(text) == folder.name else {}
        except (OSError, ValueError):
            identity = {}
        rows.append(CacheUsage(identity, len(segments), sum(size for _, size, _ in _files(segments))))
    return rows


def prune(max_bytes: int, root: Path | None = None) -> int:
    """Drop the segments that were not used for longest until the cache fits; returns the bytes freed.

    What killed processes left half-written goes after a day.
    """
    for time_of_use, _, path in _files((root or embeddings_dir()).glob("*/.*")):
        if time.time() - time_of_use > _STALE_S:
            with contextlib.suppress(OSError):
                path.unlink()
    files = sorted(_files((root or embeddings_dir()).glob(f"*/*{_SUFFIX}")))
    excess = sum(size for _, size, _ in files) - max_bytes
    freed = 0
    for _, size, path in files:
        if freed >= excess:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            freed += size
    return freed


def clear(root: Path | None = None) -> int:
    """Drop everything, damaged and unfinished files too; returns the bytes freed."""
    freed = 0
    for _, size, path in list(_files((root or embeddings_dir()).glob("*/*"))):
        with contextlib.suppress(OSError):
            path.unlink()
            freed += size
    for folder in (root or embeddings_dir()).glob("*"):
        with contextlib.suppress(OSError):
            folder.rmdir()
    return freed


def _files(paths: Iterable[Path]) -> Iterator[tuple[float, int, Path]]:
    """Time of last use, size and path; files that vanish meanwhile are left out."""
    for path in paths:
        with contextlib.suppress(OSError):
            stat = path.stat()
            yield stat.st_mtime, stat.st_size, path
