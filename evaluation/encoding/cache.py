"""Stores raw pooled vectors on disk, found by the content of weights and texts, never by names.

There is one folder for each combination of what decides a vector (weights, tokenizer, pooling, maximum length, dtype,
backend ...) and in it one file per shard, named by the shard's texts. Files appear whole or not at all, so several
processes may read and write at once.

A shard is taken whole or encoded whole, so batches, and with them the last bits of a vector, do not depend on what the
cache happens to hold. On a miss the caller locks the shard until it stores it; another process that asks for it
meanwhile waits. So the files are also the checkpoints of a job: a killed process loses at most one shard.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from evaluation.encoding.cache_files import (
    CLAIM_SUFFIX,
    IDENTITY_FILE,
    SUFFIX,
    CachedShard,
    drop_unfinished,
    embeddings_dir,
    folder_name,
    prune,
    read_shard,
    write_shard,
)
from evaluation.errors import UnwritableError
from evaluation.system.atomic_files import DAMAGED_SUFFIX, write_text

_LOG = logging.getLogger(__name__)
_PATIENCE_S = 900.0
"""How long another process that encodes the same shard is waited for; encoding it twice does no harm."""

Hashes = NDArray[np.uint64]
"""(N, 2) uint64: 128 bits per text."""


def hash_texts(texts: Sequence[str]) -> Hashes:
    """128-bit BLAKE2b of each text, lone surrogates included."""
    blake2b = hashlib.blake2b
    digests = b"".join([blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts])
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


def shard_name(hashes: Hashes) -> str:
    """The name of a shard's files, the same in every process."""
    return hashlib.blake2b(np.ascontiguousarray(hashes).data, digest_size=12).hexdigest()


def shard_file(identity: str, hashes: Hashes, root: Path | None = None) -> Path:
    """Where a shard lies, for an identity given as JSON."""
    return (root or embeddings_dir()) / folder_name(identity) / f"{shard_name(hashes)}{SUFFIX}"


def store_shard(file: Path, hashes: Hashes, shard: CachedShard, identity: str) -> None:
    """Writes a shard, and beside it what its folder belongs to.

    Raises:
        UnwritableError: One of the two can't be written.
    """
    write_shard(file, hashes, shard)
    if not _holds(file.with_name(IDENTITY_FILE), identity):
        write_text(file.with_name(IDENTITY_FILE), identity)


class EmbeddingCache:
    """The vectors of one model under one set of settings. Threads may share it.

    Args:
        identity: Everything that decides a vector besides the text: content hashes, pooling, maximum length, dtype ...
        folder: The folder of the whole cache; `embeddings_dir()` by default.
        max_bytes: When all folders together hold more, the least recently used shards are dropped.
    """

    def __init__(self, identity: Mapping[str, Any], folder: Path | None = None, *, max_bytes: int) -> None:
        self._root = folder or embeddings_dir()
        self._identity, self._max_bytes = json.dumps(dict(identity), sort_keys=True), max_bytes
        self._folder = self._root / folder_name(self._identity)
        self._claims: dict[str, FileLock] = {}
        self._written: list[Path] = []
        self._warned: set[str] = set()

    def get(self, hashes: Hashes) -> CachedShard | None:
        """Returns the vectors of a stored shard in its order; after None, `put` or `give_up` must follow.

        If another process is encoding the shard, waits until that has stored it or ended.
        """
        found = self._read(hashes)
        if found is None and len(hashes):
            self._claim_shard(hashes)
            found = self._read(hashes)
            if found is not None:
                self.give_up(hashes)
        return found

    def put(self, hashes: Hashes, shard: CachedShard) -> None:
        """Store a shard. If the cache can't be written, it stays as it is, with a warning."""
        file = shard_file(self._identity, hashes, self._root)
        try:
            store_shard(file, hashes, shard, self._identity)
            self._written.append(file)
            if prune(self._max_bytes, self._root) and not all(path.exists() for path in self._written):
                self._warn("this run's vectors exceed the cache's limit (runtime.cache_gib); the first are dropped")
        except UnwritableError as error:
            self._warn(f"vectors can't be kept: {str(error).rstrip('.')}")
        finally:
            self.give_up(hashes)

    def give_up(self, hashes: Hashes) -> None:
        """Unlock a shard that was missing, for whoever waits for it."""
        claim = self._claims.pop(shard_name(hashes), None)
        if claim is not None:
            with contextlib.suppress(OSError):
                Path(claim.lock_file).unlink()
            claim.release()

    def _read(self, hashes: Hashes) -> CachedShard | None:
        file = shard_file(self._identity, hashes, self._root)
        try:
            found = read_shard(file)
        except OSError:
            return None
        if found is None:
            with contextlib.suppress(OSError):
                file.replace(file.with_suffix(DAMAGED_SUFFIX))
            _LOG.warning("%s is damaged: set aside as *%s, its texts are encoded again.", file, DAMAGED_SUFFIX)
            return None
        stored, shard = found
        if not np.array_equal(stored, hashes):
            return None
        with contextlib.suppress(OSError):
            os.utime(file)  # used now: dropped last
        return shard

    def _claim_shard(self, hashes: Hashes) -> None:
        """Become the process that encodes a shard; no lock is held where the file system or patience fails."""
        name = shard_name(hashes)
        claim = FileLock(self._folder / f".{name}{CLAIM_SUFFIX}", thread_local=False)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                claim.acquire(timeout=0)
            except Timeout:
                _LOG.info("another process is encoding the same texts; waiting for its vectors")
                claim.acquire(timeout=_PATIENCE_S)
        except (OSError, NotImplementedError):  # a Timeout is an OSError
            return
        self._claims[name] = claim
        drop_unfinished(self._folder, name)

    def _warn(self, what: str) -> None:
        """Warn once that the cache can't serve as a checkpoint."""
        if what not in self._warned:
            self._warned.add(what)
            _LOG.warning("%s: a job that is stopped has to encode the missing vectors again.", what)


def _holds(file: Path, text: str) -> bool:
    try:
        return file.read_text(encoding="utf-8") == text
    except (OSError, ValueError):
        return False
