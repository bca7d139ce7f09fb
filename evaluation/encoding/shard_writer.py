"""Stores shards in the cache behind the model's back: one thread, and a bounded number of shards that wait for it."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from evaluation.encoding.cache import EmbeddingCache, Hashes
from evaluation.encoding.cache_files import CachedShard


class ShardWriter:
    """Writes shards in the order in which they come.

    Args:
        n_waiting: Shards that may not be on the disk yet when `put` returns, which a killed process loses; 0 writes in
            the calling thread.
    """

    def __init__(self, cache: EmbeddingCache, n_waiting: int) -> None:
        self._cache, self._n_waiting = cache, n_waiting
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shard-writer")
        self._unwritten: deque[Future[None]] = deque()

    def put(self, hashes: Hashes, shard: CachedShard) -> None:
        """Stores a shard, whose arrays must stay as they are; waits while too many others are not stored yet."""
        if not self._n_waiting:
            self._cache.put(hashes, shard)
            return
        self._unwritten.append(self._thread.submit(self._cache.put, hashes, shard))
        self._wait(self._n_waiting)

    def flush(self) -> None:
        """Waits until all shards are stored."""
        self._wait(0)

    def _wait(self, n_left: int) -> None:
        while len(self._unwritten) > n_left:
            self._unwritten.popleft().result()
