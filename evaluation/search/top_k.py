"""Keeps the best documents of many queries while their scores arrive block by block. Ids only break ties.

Each query holds its best documents so far, unordered, with room for more, and a bound: the k-th best score when the
held documents were last reduced. A document below the bound can't be among the k best any more, which soon holds for
nearly every document. When the room is full, all but the k best are dropped, which raises the bound. Only the result is
sorted.

Documents of equal score are ordered as trec_eval orders them (larger id first, in byte order), also at the cut after k,
so that scores computed by pytrec_eval do not depend on the order or the blocks of a corpus.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LOWEST = torch.finfo(torch.float32).min
"""Bound of a query that has not seen k documents yet."""

_MIN_ROOM = 1_024
"""Documents that a query can hold beyond its k best, at least."""


class _Survivors(NamedTuple):
    """Some entries of a (q, n) matrix: their flat indices, ascending, and their number per row."""

    flat: Tensor
    counts: Tensor


class Candidates(NamedTuple):
    """Documents that may be among the k best of q queries: at most k per query, query by query, unordered.

    Attributes:
        counts: (q,) int64 number of documents of each query.
        scores: (n,) float32 scores of all of them.
        positions: (n,) int64 positions in the stream of documents.
    """

    counts: NDArray[np.int64]
    scores: NDArray[np.float32]
    positions: NDArray[np.int64]


class Leaders:
    """The best documents so far of q queries, and some more; unordered.

    Row i of the matrices holds `_counts[i]` documents; the scores after them are -inf.

    Args:
        k: Documents to keep per query.
        ids: The ids of all documents, to order those of equal score.
        device: Where the scores are computed.
        bounds: (q,) scores below which a document can't count; `LOWEST` for queries without a known bound.
    """

    def __init__(self, k: int, ids: DocumentIds, device: torch.device, bounds: NDArray[np.float32]) -> None:
        self.n_queries = n_queries = len(bounds)
        self._k, self._ids, self._device = k, ids, device
        self._most = k + max(2 * k, _MIN_ROOM)
        self._scores = torch.empty((n_queries, 0), device=device)
        self._positions = torch.empty((n_queries, 0), dtype=torch.int64, device=device)
        self._counts = torch.zeros(n_queries, dtype=torch.int64, device=device)
        self._bound = torch.tensor(bounds, device=device).unsqueeze(1)
        self._is_bounded = len(bounds) > 0 and bool((bounds > LOWEST).all())
        self._n_offered = 0

    def offer(self, scores: Tensor, first: int) -> None:
        """Keeps what may be among the k best of (q, n) scores of the documents `first`, `first` + 1, ..."""
        n = scores.shape[1]
        positions = torch.arange(first, first + n, device=self._device).expand(self.n_queries, n)  # takes no memory
        survivors = _at_least(scores, self._bound) if self._is_bounded else self._k_best(scores, positions)
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
        self._is_bounded |= self._n_offered >= self._k

    def merge(self, found: Candidates, n_documents: int) -> None:
        """Adds the candidates of another search, which searched `n_documents` documents."""
        scores, positions, counts = (torch.tensor(part) for part in (found.scores, found.positions, found.counts))
        if int((self._counts + counts).amax()) > self._most or not self._is_bounded:
            self._compact()
        self._append(scores, positions, counts)
        self._n_offered += n_documents
        if not self._is_bounded and self._n_offered >= self._k:
            self._compact()
            self._is_bounded = True

    @property
    def bounds(self) -> NDArray[np.float32]:
        """(q,) scores below which a document can't count."""
        return self._bound.squeeze(1).cpu().numpy()

    def candidates(self) -> Candidates:
        """Returns what may be among the k best, unordered."""
        self._compact()
        held = torch.arange(self._scores.shape[1], device=self._device) < self._counts.unsqueeze(1)
        parts = (self._counts, self._scores[held], self._positions[held])
        return Candidates(*(part.cpu().numpy() for part in parts))

    def ranked(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Returns (q, K) scores and positions of the k best, in order."""
        self._compact()
        scores, positions = self._scores.cpu().numpy(), self._positions.cpu().numpy()
        width = min(self._k, self._n_offered)
        order = np.argsort(-scores[:, :width], axis=1)
        scores, positions = np.take_along_axis(scores, order, 1), np.take_along_axis(positions, order, 1)
        equal = scores[:, 1:] == scores[:, :-1]
        tied = np.zeros(scores.shape, bool)
        tied[:, 1:] |= equal
        tied[:, :-1] |= equal
        if tied.any():  # orders all runs of equal scores by their ids at once
            opens = np.ones(scores.shape, bool)
            opens[:, 1:] = ~equal
            run = np.cumsum(opens)[tied.ravel()]
            positions[tied] = positions[tied][np.lexsort((-self._ids.ranks(positions[tied]), run))]
        return scores, positions

    def _has_room(self, survivors: _Survivors) -> bool:
        return int((self._counts + survivors.counts).amax()) <= self._most

    def _compact(self) -> None:
        """Drops all but the k best of each query, and raises the bounds."""
        filled = int(self._counts.amax())
        scores, positions = self._scores[:, :filled].contiguous(), self._positions[:, :filled].contiguous()
        flat, counts = self._k_best(scores, positions)
        scores, positions = scores.view(-1).index_select(0, flat), positions.view(-1).index_select(0, flat)
        self._scores[:, :filled] = -torch.inf
        self._counts = torch.zeros_like(self._counts)
        self._append(scores, positions, counts)

    def _append(self, scores: Tensor, positions: Tensor, counts: Tensor) -> None:
        """Adds `counts` documents to the queries; they are given query by query."""
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
        """Raises the bounds, and returns what may be among the k best, at most k per row; ids decide ties at the cut.

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
        """Returns a mask of the `wanted` (r, 1) entries per row with the largest ids among those marked in (r, n)."""
        marked, places = among.cpu().numpy(), positions.cpu().numpy()
        ranks = np.full(marked.shape, -1, np.int32)
        ranks[marked] = self._ids.ranks(places[marked])
        cut = np.take_along_axis(np.sort(ranks, axis=1), marked.shape[1] - wanted.cpu().numpy(), 1)
        return torch.from_numpy(marked & (ranks >= cut)).to(self._device)


class DocumentIds:
    """The ids of all documents so far, in the blocks in which they arrived."""

    def __init__(self) -> None:
        self._blocks: list[Sequence[str]] = []
        self._starts = [0]

    def append(self, ids: Sequence[str]) -> None:
        """Appends the ids of the next documents, which are kept by reference."""
        self._blocks.append(ids)
        self._starts.append(self._starts[-1] + len(ids))

    def at(self, positions: NDArray[np.int64]) -> list[list[str]]:
        """Returns the ids at (q, n) positions."""
        ids = np.fromiter(chain.from_iterable(self._blocks), object, self._starts[-1])
        return cast(list[list[str]], ids[positions].tolist())

    def ranks(self, positions: NDArray[np.int64]) -> NDArray[np.int32]:
        """Returns a number for each position, in the order of the ids' UTF-8 bytes; positions may repeat."""
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
    """Returns where (q, n) scores reach their row's bound, (q, 1)."""
    if scores.device.type == "cpu":  # numpy compares and searches several times faster than torch
        return _select(torch.from_numpy(scores.numpy() >= bound.numpy()))
    return _select(scores >= bound)


def _select(mask: Tensor) -> _Survivors:
    """Returns where a contiguous (q, n) mask is set."""
    if mask.device.type == "cpu":
        flat = torch.from_numpy(np.flatnonzero(mask.numpy()))
    else:
        flat = mask.view(-1).nonzero().squeeze(1)
    bounds = torch.arange(len(mask) + 1, device=mask.device) * mask.shape[1]
    return _Survivors(flat, torch.searchsorted(flat, bounds).diff())


def _kth_largest(scores: Tensor, k: int) -> Tensor:
    """Returns the k-th largest of each row of (q, n) scores, (q, 1); -inf if there are fewer."""
    n = scores.shape[1]
    if n < k:
        return torch.full((len(scores), 1), -torch.inf, device=scores.device)
    if scores.device.type == "cpu":  # numpy partitions with vector instructions, torch.topk moves pairs
        return torch.from_numpy(np.partition(scores.numpy(), n - k, axis=1)[:, n - k : n - k + 1].copy())
    return scores.topk(k, sorted=False).values.amin(1, keepdim=True)
