"""Keeps the finished batches of an embedding server, and says whether the server still gives the same vectors.

A server may change its weights under the same name. So batches are stored under the vectors that probe texts got when
the first batch was stored, and are used only as long as the probe texts get these vectors again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.encoding.cache import Hashes, hash_texts, shard_file, store_shard
from evaluation.encoding.cache_files import CachedShard, prune, read_shard
from evaluation.errors import UnwritableError

_LOG = logging.getLogger(__name__)
PROBES = (
    "a",
    "how much protein per day",
    "Le vent se lève, il faut tenter de vivre.",
    "A list of 12 numbers: 3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8.",
)
"""Sent before the first batch; short enough for every server."""
SAME_COSINE = 0.9999
"""Batching and half precision move a vector less than this; other weights move it more."""


def cosines(vectors: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns (N,) float64 cosines of (N, D) and (N, D) vectors; 0 where a vector is zero."""
    left, right = vectors.astype(np.float64), others.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    found: NDArray[np.float64] = np.einsum("nd,nd->n", left, right) / np.where(norms > 0, norms, np.inf)
    return found


def are_same(vectors: NDArray[np.float32], others: NDArray[np.float32]) -> bool:
    """Whether (N, D) vectors are those of the same model on the same texts."""
    return vectors.shape == others.shape and bool((cosines(vectors, others) >= SAME_COSINE).all())


class EndpointStore:
    """Stored batches of one server. Threads and processes may share them.

    Args:
        identity: Everything about the server and its requests that can move a vector.
        max_bytes: Size limit of the whole cache of vectors, of which the store is a part.
    """

    def __init__(self, identity: Mapping[str, Any], *, max_bytes: int) -> None:
        self._identity, self._max_bytes = dict(identity), max_bytes
        self._batches = ""  # the identity of the folder with the batches
        self._is_writable = True
        self._unproved: list[Path] = []

    def open(self, probe_vectors: NDArray[np.float32]) -> None:
        """Chooses the batches that the server of these probe vectors has answered.

        Args:
            probe_vectors: (P, D) float32 vectors of `PROBES`.
        """
        hashes, probes = hash_texts(PROBES), self._text({"probes": list(PROBES)})
        stored = _read(probes, hashes)
        if stored is None or not are_same(stored.vectors, probe_vectors):
            if stored is not None:
                _LOG.warning("the endpoint returns different vectors than before: its earlier batches are not used.")
            stored = CachedShard(probe_vectors, np.zeros(len(PROBES), np.int64))
            self._write(probes, hashes, stored)
        digest = hashlib.sha256(np.ascontiguousarray(stored.vectors).tobytes()).hexdigest()
        self._batches = self._text({"probe_vectors": digest})

    def get(self, hashes: Hashes) -> CachedShard | None:
        """Returns a stored batch; None where there is none."""
        assert self._batches, "opened before the first batch"
        return _read(self._batches, hashes)

    def put(self, hashes: Hashes, batch: CachedShard) -> None:
        """Stores a batch. If the cache can't be written, batches are not kept, and one warning says so."""
        assert self._batches, "opened before the first batch"
        self._write(self._batches, hashes, batch)
        self._unproved.append(shard_file(self._batches, hashes))

    def prove(self, *, is_same: bool) -> None:
        """Keeps what was stored since the last call if the server is still the same, else drops it."""
        while self._unproved:
            file = self._unproved.pop()
            if not is_same:
                file.unlink(missing_ok=True)

    def prune(self) -> None:
        """Drops what has been unused for longest until the cache fits into its limit."""
        prune(self._max_bytes)

    def _text(self, more: Mapping[str, Any]) -> str:
        return json.dumps({**self._identity, **more}, sort_keys=True)

    def _write(self, identity: str, hashes: Hashes, batch: CachedShard) -> None:
        if not self._is_writable:
            return
        try:
            store_shard(shard_file(identity, hashes), hashes, batch, identity)
        except UnwritableError as error:
            self._is_writable = False
            _LOG.warning("vectors of the endpoint can't be kept: %s A stopped run sends its texts again.", error)


def _read(identity: str, hashes: Hashes) -> CachedShard | None:
    file = shard_file(identity, hashes)
    try:
        found = read_shard(file)
    except OSError:
        return None
    if found is None or not np.array_equal(found[0], hashes):
        return None
    with contextlib.suppress(OSError):
        os.utime(file)  # used now: dropped last
    return found[1]
