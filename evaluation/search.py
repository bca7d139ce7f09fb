"""Exact top-k over a stream of embedding blocks, on any device. Knows vectors, not tasks; ids only break ties.

Documents of equal score are ordered as trec_eval orders them (larger id first, byte order), also at the cut after k,
so that scores computed by pytrec_eval do not depend on block sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

_TILE = 8_192


class TopK(NamedTuple):
    """The best documents of Q queries, best first.

    Attributes:
        scores: (Q, K) float32; K is k or the number of documents, if smaller.
        positions: (Q, K) int64 positions in the stream of documents.
    """

    scores: NDArray[np.float32]
    positions: NDArray[np.int64]


class ExactSearch:
    """Inner-product search. Normalise both sides for cosine.

    Args:
        queries: (Q, D) float32.
        k: Documents to keep a query.
        device: Where products are computed.
    """

    def __init__(self, queries: NDArray[np.float32], k: int, *, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._queries = torch.from_numpy(np.ascontiguousarray(queries, np.float32)).to(self._device)
        self._k = k
        self._ids: list[str] = []
        self._scores = np.empty((len(queries), 0), np.float32)
        self._positions = np.empty((len(queries), 0), np.int64)

    def add(self, documents: NDArray[np.float32], ids: Sequence[str]) -> None:
        """Search the next block of documents, (N, D) float32 with N ids."""
        assert len(documents) == len(ids), (len(documents), len(ids))
        offset = len(self._ids)
        self._ids.extend(ids)
        block = torch.from_numpy(np.ascontiguousarray(documents, np.float32)).to(self._device)
        for start in range(0, len(block), _TILE):
            scores = self._queries @ block[start : start + _TILE].T  # (Q, n)
            best, rows = self._select(scores)
            positions = rows + (offset + start)
            self._merge(best, positions)

    def result(self) -> TopK:
        """The best documents so far, ordered by score, then by id."""
        order = np.argsort(-self._scores, axis=1, kind="stable")
        scores = np.take_along_axis(self._scores, order, 1)
        positions = np.take_along_axis(self._positions, order, 1)
        for query in np.flatnonzero((scores[:, 1:] == scores[:, :-1]).any(axis=1)):
            ordered = self._by_score_and_id(scores[query], positions[query])
            scores[query], positions[query] = scores[query][ordered], positions[query][ordered]
        return TopK(scores, positions)

    def _select(self, scores: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Top k of one tile; a tie at the cut is kept whole and cut by id when merging."""
        n = scores.shape[1]
        if n <= self._k:
            rows = np.broadcast_to(np.arange(n, dtype=np.int64), scores.shape)
            return scores.cpu().numpy(), rows
        best, rows_kept = torch.topk(scores, self._k, dim=1, sorted=False)  # (Q, k)
        cut = best.amin(dim=1, keepdim=True)  # (Q, 1)
        widest = int((scores >= cut).sum(dim=1).max())
        if widest > self._k:
            best, rows_kept = torch.topk(scores, widest, dim=1, sorted=False)
        return best.cpu().numpy(), rows_kept.cpu().numpy()

    def _merge(self, scores: NDArray[np.float32], positions: NDArray[np.int64]) -> None:
        merged = np.concatenate([self._scores, scores], axis=1)  # (Q, m)
        places = np.concatenate([self._positions, positions], axis=1)
        if merged.shape[1] > self._k:
            part = np.argpartition(-merged, self._k - 1, axis=1)[:, : self._k]  # (Q, k)
            cut = np.take_along_axis(merged, part, 1).min(axis=1, keepdims=True)
            for query in np.flatnonzero((merged >= cut).sum(axis=1) > self._k):
                tied = np.flatnonzero(merged[query] >= cut[query])
                part[query] = tied[self._by_score_and_id(merged[query][tied], places[query][tied])][: self._k]
            merged, places = np.take_along_axis(merged, part, 1), np.take_along_axis(places, part, 1)
        self._scores, self._positions = merged, places

    def _by_score_and_id(self, scores: NDArray[np.float32], positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Order by score, descending, then by the UTF-8 bytes of the id, descending."""
        keys = [
            (float(score), self._ids[place].encode("utf-8", "surrogatepass"))
            for score, place in zip(scores, positions, strict=True)
        ]
        return np.array(sorted(range(len(keys)), key=keys.__getitem__, reverse=True), np.int64)
