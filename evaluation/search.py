"""Exact top-k over a stream of embedding blocks, on any device. Knows vectors, not tasks; ids only break ties.

How it works:

1. The stream is cut into tiles of a fixed number of documents, wherever the caller's blocks end. One float32 matrix
   product gives the scores of a tile for a block of queries; on a CPU, threads share the blocks among them.
2. Each query holds its best documents so far, unordered, with room for more, and a bound: the k-th best score when they
   were last thinned out. A document below the bound can't be among the k best any more. That is soon nearly every
   document, so a tile costs its product, one comparison a score, and a copy of the few survivors.
3. When the room is full, all but the k best are dropped, which raises the bound. Only the result is sorted.

Documents of equal score are ordered as trec_eval orders them (larger id first, byte order), also at the cut after k, so
that scores computed by pytrec_eval do not depend on the order or the blocks of a corpus. Ids are read for ties only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from threading import Barrier
from typing import NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar("T")

_LOWEST = torch.finfo(torch.float32).min
_CPU_TILE, _CPU_BLOCK = 8_192, 512
"""Documents a tile and queries a block, at most: 16 MB of scores stay in a CPU's cache."""
_GPU_TILE, _GPU_BLOCK = 32_768, 2_048
"""256 MB of scores keep a GPU busy."""
_MIN_BLOCK = 64
"""Queries a block, about, below which a thread more costs more than it brings."""
_MIN_ROOM = 1_024
"""Documents a query can hold beyond its k best, at least."""

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
    """

    def __init__(self, queries: NDArray[np.float32], k: int, *, device: str = "cpu") -> None:
        assert k > 0, k
        self._device, self._k = torch.device(device), k
        self._ids = _StreamedIds()
        n_threads, self._tile_size, block_size = 1, _GPU_TILE, _GPU_BLOCK
        if self._device.type == "cpu":
            n_threads, self._tile_size, block_size = torch.get_num_threads(), _CPU_TILE, _CPU_BLOCK
        n_blocks = n_threads * -(-len(queries) // (n_threads * block_size))  # as many for each thread
        n_blocks = min(n_blocks, -(-len(queries) // _MIN_BLOCK))
        self._blocks = [
            _QueryBlock(
                _pad(_as_tensor(rows), _QUERY_MULTIPLE).to(self._device),
                _Leaders(len(rows), k, self._ids, self._device),
            )
            for rows in (np.array_split(queries, n_blocks) if n_blocks else [])
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
    leaders: _Leaders


class _Survivors(NamedTuple):
    """Some entries of a (q, n) matrix: their places in the flat matrix, ascending, and how many each row has."""

    flat: Tensor
    counts: Tensor


class _Leaders:
    """The best documents so far of q queries, and some more; unordered.

    Row i of the matrices holds `_counts[i]` documents; behind them scores are -inf.
    """

    def __init__(self, n_queries: int, k: int, ids: _StreamedIds, device: torch.device) -> None:
        self.n_queries = n_queries
        self._k, self._ids, self._device = k, ids, device
        self._most = k + max(2 * k, _MIN_ROOM)
        self._scores = torch.empty((n_queries, 0), device=device)
        self._positions = torch.empty((n_queries, 0), dtype=torch.int64, device=device)
        self._counts = torch.zeros(n_queries, dtype=torch.int64, device=device)
        self._bound = torch.full((n_queries, 1), _LOWEST, device=device)
        self._n_offered = 0

    def offer(self, scores: Tensor, first: int) -> None:
        """Take what may be among the k best from (q, n) scores of the documents `first`, `first` + 1, ..."""
        n = scores.shape[1]
        positions = torch.arange(first, first + n, device=self._device).expand(self.n_queries, n)  # takes no memory
        has_bound = self._n_offered >= self._k
        survivors = _at_least(scores, self._bound) if has_bound else self._k_best(scores, positions)
        if not self._has_room(survivors):
            self._compact()
            survivors = _at_least(scores, self._bound)
        if not self._has_room(survivors):  # scores that rise all the time, or thousands of ties
            survivors = self._k_best(scores, positions)
        shifts = first - torch.arange(self.n_queries, device=self._device) * n  # from a flat index to a position
        self._append(
            scores.view(-1).index_select(0, survivors.flat),
            survivors.flat + torch.repeat_interleave(shifts, survivors.counts),
            survivors.counts,
        )
        self._n_offered += n

    def ranked(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k best, (q, K) scores and positions, in order."""
        self._compact()
        scores, positions = self._scores.cpu().numpy(), self._positions.cpu().numpy()
        width = min(self._k, self._n_offered)
        order = np.argsort(-scores[:, :width], axis=1)
        scores, positions = np.take_along_axis(scores, order, 1), np.take_along_axis(positions, order, 1)
        equal = scores[:, 1:] == scores[:, :-1]
        tied = np.zeros(scores.shape, bool)
        tied[:, 1:] |= equal
        tied[:, :-1] |= equal
        if tied.any():  # runs of equal scores are put in order of their ids, all at once
            opens = np.ones(scores.shape, bool)
            opens[:, 1:] = ~equal
            run = np.cumsum(opens)[tied.ravel()]
            positions[tied] = positions[tied][np.lexsort((-self._ids.ranks(positions[tied]), run))]
        return scores, positions

    def _has_room(self, survivors: _Survivors) -> bool:
        return int((self._counts + survivors.counts).amax()) <= self._most

    def _compact(self) -> None:
        """Drop all but the k best of each query, and raise the bounds."""
        filled = int(self._counts.amax())
        scores, positions = self._scores[:, :filled].contiguous(), self._positions[:, :filled].contiguous()
        flat, counts = self._k_best(scores, positions)
        scores, positions = scores.view(-1).index_select(0, flat), positions.view(-1).index_select(0, flat)
        self._scores[:, :filled] = -torch.inf
        self._counts = torch.zeros_like(self._counts)
        self._append(scores, positions, counts)

    def _append(self, scores: Tensor, positions: Tensor, counts: Tensor) -> None:
        """Hold `counts` more documents for the queries; theirs follow one another, query by query."""
        totals = self._counts + counts
        self._widen(int(totals.amax()))
        row_starts = torch.arange(self.n_queries, device=self._device) * self._scores.shape[1]
        shifts = row_starts + self._counts - (counts.cumsum(0) - counts)
        slots = torch.arange(len(scores), device=self._device) + torch.repeat_interleave(shifts, counts)
        self._scores.view(-1).scatter_(0, slots, scores)
        self._positions.view(-1).scatter_(0, slots, positions)
        self._counts = totals

    def _widen(self, width: int) -> None:
        missing = width - self._scores.shape[1]
        if missing > 0:
            missing = max(missing, min(self._scores.shape[1], self._most - self._scores.shape[1]))  # doubles
            self._scores = torch.nn.functional.pad(self._scores, (0, missing), value=-torch.inf)
            self._positions = torch.nn.functional.pad(self._positions, (0, missing))

    def _k_best(self, scores: Tensor, positions: Tensor) -> _Survivors:
        """What may be among the k best, at most k a row, after raising the bounds; ties at the cut are cut by id.

        Args:
            scores: (q, n), -inf where there is no document.
            positions: (q, n).
        """
        cut = self._bound = torch.maximum(self._bound, _kth_largest(scores, self._k))  # (q, 1)
        keep = scores >= cut
        survivors = _select(keep)
        crowded = (survivors.counts > self._k).nonzero().squeeze(1)
        if not len(crowded):
            return survivors
        above = scores[crowded] > cut[crowded]
        tied = keep[crowded] & ~above
        wanted = self._k - above.sum(1, keepdim=True)
        keep[crowded] = above | self._largest_ids(tied, positions[crowded], wanted)
        return _select(keep)

    def _largest_ids(self, among: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
        """The `wanted` (r, 1) entries of each row with the largest ids, out of those marked in `among`, (r, n)."""
        marked, places = among.cpu().numpy(), positions.cpu().numpy()
        ranks = np.full(marked.shape, -1, np.int32)
        ranks[marked] = self._ids.ranks(places[marked])
        cut = np.take_along_axis(np.sort(ranks, axis=1), marked.shape[1] - wanted.cpu().numpy(), 1)
        return torch.from_numpy(marked & (ranks >= cut)).to(self._device)


class _StreamedIds:
    """The ids of all documents so far, as the blocks that came in."""

    def __init__(self) -> None:
        self._blocks: list[Sequence[str]] = []
        self._starts = [0]

    def append(self, ids: Sequence[str]) -> None:
        self._blocks.append(ids)
        self._starts.append(self._starts[-1] + len(ids))

    def at(self, positions: NDArray[np.int64]) -> list[list[str]]:
        """Ids at (q, n) positions."""
        ids = np.fromiter(chain.from_iterable(self._blocks), object, self._starts[-1])
        return cast(list[list[str]], ids[positions].tolist())

    def ranks(self, positions: NDArray[np.int64]) -> NDArray[np.int32]:
        """For each of some positions, which may repeat, a number that grows as the ids do in UTF-8's byte order."""
        lowest = int(positions.min())
        present = np.zeros(positions.max() - lowest + 1, bool)
        present[positions - lowest] = True
        different = np.flatnonzero(present) + lowest
        blocks = np.searchsorted(self._starts, different, side="right") - 1
        ids = [
            self._blocks[block][place - self._starts[block]]
            for block, place in zip(blocks.tolist(), different.tolist(), strict=True)
        ]
        # Python compares strings by code points, which is the order of their UTF-8 bytes.
        order = np.array(sorted(range(len(ids)), key=ids.__getitem__), np.int64)
        ranks: NDArray[np.int32] = np.empty(len(present), np.int32)
        ranks[different[order] - lowest] = np.arange(len(order), dtype=np.int32)
        return ranks[positions - lowest]


def _at_least(scores: Tensor, bound: Tensor) -> _Survivors:
    """Where (q, n) scores reach their row's bound, (q, 1)."""
    if scores.device.type == "cpu":  # numpy compares and searches several times faster than torch
        return _select(torch.from_numpy(scores.numpy() >= bound.numpy()))
    return _select(scores >= bound)


def _select(mask: Tensor) -> _Survivors:
    """Where a contiguous (q, n) mask is set."""
    if mask.device.type == "cpu":
        flat = torch.from_numpy(np.flatnonzero(mask.numpy()))
    else:
        flat = mask.view(-1).nonzero().squeeze(1)
    bounds = torch.arange(len(mask) + 1, device=mask.device) * mask.shape[1]
    return _Survivors(flat, torch.searchsorted(flat, bounds).diff())


def _kth_largest(scores: Tensor, k: int) -> Tensor:
    """The k-th largest of each row of (q, n) scores, (q, 1); -inf if there are fewer."""
    n = scores.shape[1]
    if n < k:
        return torch.full((len(scores), 1), -torch.inf, device=scores.device)
    if scores.device.type == "cpu":  # numpy partitions with vector instructions, torch.topk moves pairs
        return torch.from_numpy(np.partition(scores.numpy(), n - k, axis=1)[:, n - k : n - k + 1].copy())
    return scores.topk(k, sorted=False).values.amin(1, keepdim=True)


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
