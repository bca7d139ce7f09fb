"""Exact top-k over a stream of embedding blocks, on any device. Knows vectors, not tasks; ids only break ties.

How it works:

1. The stream is cut into tiles of a fixed number of documents, wherever the caller's blocks end. One float32 matrix
   product gives the scores of a tile for a block of queries; on a CPU, threads share the blocks among them.
2. Each query has a bound below which a document can't be among its k best any more (`leaders.py`). That is soon nearly
   every document, so a tile costs its product, one comparison a score, and a copy of the few survivors.

A corpus that is searched in several places is merged exactly: each place hands over its candidates, `MergedSearch` the
bounds that all of them have raised together.
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
"""Documents a tile and queries a block, at most: 16 MB of scores stay in a CPU's cache."""
_GPU_TILE, _GPU_BLOCK = 32_768, 2_048
"""256 MB of scores keep a GPU busy."""
_MIN_BLOCK = 64
"""Queries a block, about, below which a thread more costs more than it brings."""
_QUERY_MULTIPLE, _DOCUMENT_MULTIPLE = 16, 64
"""Both sides of a product are filled up to a multiple of these. The kernels for odd edges (seen in MKL's and oneDNN's)
add in another order: two copies of a document would differ in the last bit, by where they stand, and not tie."""


class TopK(NamedTuple):
    """The best documents of Q queries, best first.

    Attributes:
        scores: (Q, K) float32; K is k or the number of documents, if smaller.
        positions: (Q, K) int64 positions in the stream of documents.
    """

    scores: NDArray[np.float32]
    positions: NDArray[np.int64]


class ExactSearch:
    """Inner-product search in float32. Normalise both sides for cosine.

    Args:
        queries: (Q, D) float32, finite.
        k: Documents to keep a query, at least 1.
        device: Where products are computed.
        bounds: (Q,) float32 scores below which a document is of no interest, where they are known.
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
        n_blocks = n_threads * -(-len(queries) // (n_threads * block_size))  # as many for each thread
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
        self._n_waiting = 0  # rows of the tile that are filled
        self._n_searched = 0

    def add(self, documents: NDArray[np.float32], ids: Sequence[str]) -> None:
        """Search the next block of documents, (N, D) float32 with N ids, which are kept by reference."""
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
        """The best of all documents so far, ordered by score, then by id."""
        self._search_waiting()
        width = min(self._k, self._n_searched)
        best = self._of_each_block(lambda block: block.leaders.ranked())
        return TopK(
            np.concatenate([np.empty((0, width), np.float32), *(scores for scores, _ in best)]),
            np.concatenate([np.empty((0, width), np.int64), *(positions for _, positions in best)]),
        )

    def candidates(self) -> Candidates:
        """What of all documents so far may be among the k best, for `MergedSearch`."""
        self._search_waiting()
        found = self._of_each_block(lambda block: block.leaders.candidates())
        return Candidates(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def document_ids(self, positions: NDArray[np.int64]) -> list[list[str]]:
        """The ids at (Q, K) positions."""
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
    """The k best of a corpus whose parts are searched elsewhere, in any order.

    Args:
        n_queries: Q, at least 1.
        k: Documents to keep a query, at least 1.
    """

    def __init__(self, n_queries: int, k: int) -> None:
        assert n_queries > 0, n_queries
        self._ids, self._k, self._n_documents = DocumentIds(), k, 0
        self._leaders = Leaders(k, self._ids, torch.device("cpu"), np.full(n_queries, LOWEST, np.float32))

    def announce(self, ids: Sequence[str]) -> int:
        """Take the ids of the next documents of the stream, which are kept by reference; the first one's position."""
        self._ids.append(ids)
        self._n_documents += len(ids)
        return self._n_documents - len(ids)

    @property
    def bounds(self) -> NDArray[np.float32]:
        """(Q,) float32 scores below which a document that is still to be searched can't count."""
        return self._leaders.bounds

    def add(self, found: Candidates, n_documents: int) -> None:
        """Merge what a search of `n_documents` documents gave, at their positions in the whole stream."""
        self._leaders.take(found, n_documents)

    def result(self) -> TopK:
        """The best of all documents, ordered by score, then by id; all that were announced must have been added."""
        return TopK(*self._leaders.ranked())

    def document_ids(self, positions: NDArray[np.int64]) -> list[list[str]]:
        """The ids at (Q, K) positions."""
        return self._ids.at(positions)


def rank_candidates(query: NDArray[np.float32], documents: NDArray[np.float32], ids: Sequence[str]) -> TopK:
    """Order the few candidates of one query, without the set-up of a search.

    Args:
        query: (D,) float32.
        documents: (N, D) float32.
        ids: N ids.

    Returns:
        All N, as for one query: (1, N).
    """
    scores = (documents * query).sum(axis=1)  # row by row: copies of a document tie
    ranked = sorted(zip(scores.tolist(), ids, range(len(ids)), strict=True), reverse=True)
    order = np.array([position for _, _, position in ranked], np.int64)
    return TopK(scores[None, order], order[None])


class _QueryBlock(NamedTuple):
    """(q', D) queries, q of them filled up with zeros, and the best documents of the q."""

    queries: Tensor
    leaders: Leaders


def _split(rows: NDArray[np.float32], n: int) -> list[NDArray[np.float32]]:
    return np.array_split(rows, n) if n else []


def _as_tensor(rows: NDArray[np.float32]) -> Tensor:
    """Share the memory of rows, or copy where torch can't share it (a memory map, another dtype)."""
    return torch.from_numpy(np.require(rows, np.float32, ["C", "W"]))


def _pad(rows: Tensor, multiple: int) -> Tensor:
    return torch.nn.functional.pad(rows, (0, 0, 0, -len(rows) % multiple)) if len(rows) % multiple else rows


def _multiply(tile: Tensor) -> Callable[[Tensor], Tensor]:
    """(q, D) queries -> (q, n) scores of a tile of documents, (n, D)."""
    return lambda queries: queries @ tile.T


def _multiply_packed(tile: Tensor) -> Callable[[Tensor], Tensor]:
    """The same with the tile in a layout of oneDNN's choice."""
    ops = torch.ops.mkldnn
    packed = ops._reorder_linear_weight(tile)
    return lambda queries: ops._linear_pointwise(queries, packed, None, "none", [], "")


def _packing_pays(device: torch.device, n_queries: int) -> bool:
    """Whether oneDNN's product with a packed tile beats torch's usual one; as in `encoding.packed_bert`.

    Measured, GFLOP/s: 450 against MKL's 195 with AVX-512; with AVX2 (Zen 3, a core, 512 queries) 73 against 80.
    """
    return (
        device.type == "cpu"
        and n_queries >= 128
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _start_workers(n_workers: int) -> ThreadPoolExecutor:
    """Threads in which torch uses a single one, while the caller keeps all of its own.

    So threads meet once a tile, not in every operation: with each operation spread over all threads, as torch does by
    itself, the same search took 1.7 times as long on two busy cores (500 queries, 200,000 documents).
    """
    usual = torch.get_num_threads()
    workers, all_run = ThreadPoolExecutor(n_workers), Barrier(n_workers)

    def start() -> None:
        torch.set_num_threads(1)  # of this thread, but also the start value of threads to come
        all_run.wait()

    for started in [workers.submit(start) for _ in range(n_workers)]:
        started.result()
    torch.set_num_threads(usual)
    return workers


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products in float32 proper, even if the process allows TF32 or bfloat16 for them."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
