"""Searches a stream of embedding blocks for the exact top k, on any device. Knows vectors, not tasks; ids break ties.

How it works:

1. The stream is cut into tiles of a fixed number of documents, independent of the caller's blocks. One float32 matrix
   product gives the scores of a tile for a block of queries; on a CPU, threads share the blocks.
2. Each query has a bound below which a document can't be among its k best any more (`top_k.py`). Soon that holds for
   nearly every document, so a tile costs its product, one comparison per score, and a copy of the few survivors.

A corpus that is searched in several places is merged exactly: each place sends its candidates, and `MergedSearch` gives
it the bounds that all places have raised together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.search.top_k import LOWEST, Candidates, DocumentIds, Leaders

T = TypeVar("T")

_CPU_TILE, _CPU_BLOCK = 8_192, 512
"""Documents per tile and queries per block, at most: 16 MB of scores stay in a CPU's cache."""
_GPU_TILE, _GPU_BLOCK = 32_768, 2_048
"""256 MB of scores keep a GPU busy."""
_MIN_BLOCK = 64
"""Approximate number of queries per block below which another thread does not pay."""
_QUERY_MULTIPLE, _DOCUMENT_MULTIPLE = 16, 64
"""Both sides of a product are padded to a multiple of these. The kernels for odd edges (seen in MKL and oneDNN) add in
another order, so that two copies of a document would differ in the last bit, by their position, and not tie."""


class TopK(NamedTuple):
    """The best documents of Q queries, best first.

    Attributes:
        scores: (Q, K) float32; K is k, or the number of documents if that is smaller.
        positions: (Q, K) int64 positions in the stream of documents.
    """

    scores: NDArray[np.float32]
    positions: NDArray[np.int64]


class ExactSearch:
    """Inner-product search in float32. Normalise both sides for cosine similarity.

    Args:
        queries: (Q, D) float32, finite.
        k: Documents to keep per query, at least 1.
        device: Where products are computed.
        bounds: (Q,) float32 scores below which a document does not count, if they are known.

    >>> search = ExactSearch(np.eye(2, dtype=np.float32), k=1)
    >>> search.add(np.array([[0.6, 0.8], [1.0, 0.0]], np.float32), ["a", "b"])
    >>> search.document_ids(search.result().positions)
    [['b'], ['a']]
    """

    def __init__(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        device: str = "cpu",
        bounds: NDArray[np.float32] | None = None,
    ) -> None:
        assert k > 0, k
        self._device, self._k = torch.device(device), k
        self._ids = DocumentIds()
        n_threads, self._tile_size, block_size = 1, _GPU_TILE, _GPU_BLOCK
        if self._device.type == "cpu":
            n_threads, self._tile_size, block_size = torch.get_num_threads(), _CPU_TILE, _CPU_BLOCK
        n_blocks = n_threads * -(-len(queries) // (n_threads * block_size))  # the same number for each thread
        n_blocks = min(n_blocks, -(-len(queries) // _MIN_BLOCK))
        if bounds is None:
            bounds = np.full(len(queries), LOWEST, np.float32)
        self._blocks = [
            _QueryBlock(
                _pad(_as_tensor(rows), _QUERY_MULTIPLE).to(self._device),
                Leaders(k, self._ids, self._device, bounds_of_rows),
            )
            for rows, bounds_of_rows in zip(_split(queries, n_blocks), _split(bounds, n_blocks), strict=True)
        ]
        self._multiply = _multiply_packed if _packing_pays(self._device, len(queries)) else _multiply
        n_workers = min(n_threads, n_blocks)
        self._workers = _start_workers(n_workers) if n_workers > 1 else None
        self._tile = np.empty((self._tile_size, queries.shape[1]), np.float32)
        self._n_waiting = 0  # filled rows of the tile
        self._n_searched = 0

    def add(self, documents: NDArray[np.float32], ids: Sequence[str]) -> None:
        """Searches the next block of documents, (N, D) float32 with N ids, which are kept by reference."""
        assert len(documents) == len(ids), (len(documents), len(ids))
        self._ids.append(ids)
        start = 0
        while start < len(documents):
            rows = documents[start : start + self._tile_size - self._n_waiting]
            start += len(rows)
            if len(rows) == self._tile_size:
                self._search(rows)
                continue
            self._tile[self._n_waiting : self._n_waiting + len(rows)] = rows
            self._n_waiting += len(rows)
            if self._n_waiting == self._tile_size:
                self._search_waiting()

    def result(self) -> TopK:
        """Returns the best of all documents so far, ordered by score, then by id."""
        self._search_waiting()
        width = min(self._k, self._n_searched)
        best = self._of_each_block(lambda block: block.leaders.ranked())
        return TopK(
            np.concatenate([np.empty((0, width), np.float32), *(scores for scores, _ in best)]),
            np.concatenate([np.empty((0, width), np.int64), *(positions for _, positions in best)]),
        )

    def candidates(self) -> Candidates:
        """Returns those of all documents so far that may be among the k best, for `MergedSearch`."""
        self._search_waiting()
        found = self._of_each_block(lambda block: block.leaders.candidates())
        return Candidates(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def document_ids(self, positions: NDArray[np.int64]) -> list[list[str]]:
        """Returns the ids at (Q, K) positions."""
        return self._ids.at(positions)

    def _search_waiting(self) -> None:
        if self._n_waiting:
            self._search(self._tile[: self._n_waiting])
            self._n_waiting = 0

    def _search(self, rows: NDArray[np.float32]) -> None:
        tile = _pad(_as_tensor(rows), _DOCUMENT_MULTIPLE).to(self._device)  # (n', D)

        def search_block(block: _QueryBlock) -> None:
            scores = multiply(block.queries)[: block.leaders.n_queries, : len(rows)]  # (q, n)
            block.leaders.offer(scores.contiguous(), self._n_searched)

        with _full_precision():
            multiply = self._multiply(tile)
            self._of_each_block(search_block)
        self._n_searched += len(rows)

    def _of_each_block(self, function: Callable[[_QueryBlock], T]) -> list[T]:
        return list((self._workers.map if self._workers else map)(function, self._blocks))


class MergedSearch:
    """Merges the k best documents of a corpus whose parts are searched elsewhere, in any order.

    Args:
        n_queries: Q, at least 1.
        k: Documents to keep per query, at least 1.
    """

    def __init__(self, n_queries: int, k: int) -> None:
        assert n_queries > 0, n_queries
        self._ids, self._k, self._n_documents = DocumentIds(), k, 0
        self._leaders = Leaders(k, self._ids, torch.device("cpu"), np.full(n_queries, LOWEST, np.float32))

    def announce(self, ids: Sequence[str]) -> int:
        """Appends the ids of the next documents, which are kept by reference; returns the position of the first."""
        self._ids.append(ids)
        self._n_documents += len(ids)
        return self._n_documents - len(ids)

    @property
    def bounds(self) -> NDArray[np.float32]:
        """(Q,) float32 scores below which documents that are still to be searched can't count."""
        return self._leaders.bounds

    def add(self, found: Candidates, n_documents: int) -> None:
        """Merges the candidates of a search of `n_documents` documents, at their positions in the whole stream."""
        self._leaders.merge(found, n_documents)

    def result(self) -> TopK:
        """Returns the best of all documents, ordered by score, then by id. All announced documents must be added."""
        return TopK(*self._leaders.ranked())

    def document_ids(self, positions: NDArray[np.int64]) -> list[list[str]]:
        """Returns the ids at (Q, K) positions."""
        return self._ids.at(positions)


def rank_candidates(query: NDArray[np.float32], documents: NDArray[np.float32], ids: Sequence[str]) -> TopK:
    """Ranks the few candidates of one query, without the set-up of a search.

    Args:
        query: (D,) float32.
        documents: (N, D) float32.
        ids: N ids.

    Returns:
        All N documents, as for one query: (1, N).
    """
    scores = (documents * query).sum(axis=1)  # row by row: copies of a document tie
    ranked = sorted(zip(scores.tolist(), ids, range(len(ids)), strict=True), reverse=True)
    order = np.array([position for _, _, position in ranked], np.int64)
    return TopK(scores[None, order], order[None])


class _QueryBlock(NamedTuple):
    """(q', D) queries, which are q queries padded with zeros, and the best documents of the q."""

    queries: Tensor
    leaders: Leaders


def _split(rows: NDArray[np.float32], n: int) -> list[NDArray[np.float32]]:
    return np.array_split(rows, n) if n else []


def _as_tensor(rows: NDArray[np.float32]) -> Tensor:
    """Shares the memory of rows, or copies them where torch can't share it (a memory map, another dtype)."""
    return torch.from_numpy(np.require(rows, np.float32, ["C", "W"]))


def _pad(rows: Tensor, multiple: int) -> Tensor:
    return torch.nn.functional.pad(rows, (0, 0, 0, -len(rows) % multiple)) if len(rows) % multiple else rows


def _multiply(tile: Tensor) -> Callable[[Tensor], Tensor]:
    """Returns a function from (q, D) queries to their (q, n) scores for a tile of documents, (n, D)."""
    return lambda queries: queries @ tile.T


def _multiply_packed(tile: Tensor) -> Callable[[Tensor], Tensor]:
    """Like `_multiply`, with the tile in a layout that oneDNN chooses."""
    ops = torch.ops.mkldnn
    packed = ops._reorder_linear_weight(tile)
    return lambda queries: ops._linear_pointwise(queries, packed, None, "none", [], "")


def _packing_pays(device: torch.device, n_queries: int) -> bool:
    """Returns whether oneDNN's product with a packed tile beats torch's usual product, as in `encoding.packed_bert`.

    Measured GFLOP/s: 450 against MKL's 195 with AVX-512; with AVX2 (Zen 3, one core, 512 queries) 73 against 80.
    """
    return (
        device.type == "cpu"
        and n_queries >= 128
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _start_workers(n_workers: int) -> ThreadPoolExecutor:
    """Starts threads in which torch uses one thread each, while the caller keeps all of its threads.

    Threads then meet once per tile instead of in every operation. With each operation spread over all threads, which is
    torch's default, the same search took 1.7 times as long on two busy cores (500 queries, 200,000 documents).
    """
    usual = torch.get_num_threads()
    workers, all_run = ThreadPoolExecutor(n_workers), Barrier(n_workers)

    def start() -> None:
        torch.set_num_threads(1)  # applies to this thread, but also to threads that start later
        all_run.wait()

    for started in [workers.submit(start) for _ in range(n_workers)]:
        started.result()
    torch.set_num_threads(usual)
    return workers


@contextmanager
def _full_precision() -> Iterator[None]:
    """Computes products in full float32, even if the process allows TF32 or bfloat16 for them."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
