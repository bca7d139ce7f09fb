"""Searches documents in a stored form: fits the form on all of them, then searches and ranks what is read back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from evaluation.config.stored_forms import StoredForm, metric_depth
from evaluation.search.exact import ExactSearch, TopK, rank_candidates
from evaluation.stored_forms.fitting import BLOCK, Bytes, FittedForm, fit_form

T = TypeVar("T")
Floats = NDArray[np.float32]
Positions = NDArray[np.int64]


class SpilledVectors:
    """The vectors of a corpus in a temporary file, so that they can be read several times."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._shape = file, (0, 0)
        self.ids: list[str] = []

    def add(self, vectors: Floats, ids: Sequence[str]) -> None:
        """Appends (N, D) float32 vectors of N documents."""
        self._file.write(np.ascontiguousarray(vectors, np.float32).data)
        self._shape = (self._shape[0] + len(vectors), vectors.shape[1])
        self.ids += ids

    def read(self) -> Floats:
        """Returns all of them, (N, D), as a memory map."""
        self._file.flush()
        if not self._shape[0]:
            return np.zeros(self._shape, np.float32)
        return np.memmap(self._file, np.float32, mode="r", shape=self._shape)


@contextmanager
def spilled_vectors() -> Iterator[SpilledVectors]:
    """Yields an empty store, whose file is gone afterwards."""
    with tempfile.TemporaryFile() as file:
        yield SpilledVectors(cast(BinaryIO, file))


class Ranking(NamedTuple):
    """Ids, Q lists of K, and their scores, (Q, K) float32, best first."""

    ids: list[list[str]]
    scores: Floats


class StoredSide:
    """The documents of a job in a form that was fitted on them.

    Args:
        vectors: (N, D) float32, as the protocol hands them to the metric.
        ids: N ids.
        unit_length: Whether the protocol normalises.
        directions: Brings vectors to unit length where the checkpoint's similarity asks for it.
    """

    def __init__(
        self,
        form: StoredForm,
        vectors: Floats,
        ids: Sequence[str],
        *,
        unit_length: bool,
        directions: Callable[[Floats], Floats],
    ) -> None:
        self._vectors, self._ids, self._directions = vectors, ids, directions
        self._small = fit_form(form, vectors, unit_length=unit_length)
        self._rescoring = form.rescore
        self._large: FittedForm | None = None
        if form.rescore is not None:
            larger = StoredForm.model_validate({"as": form.rescore.precision})
            self._large = fit_form(larger, vectors, unit_length=unit_length)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may make the form worse than it need be."""
        return self._small.warnings

    @property
    def size(self) -> Bytes:
        """What the form needs; with rescoring, of both forms."""
        small, large = self._small.size, self._large.size if self._large is not None else Bytes(0, 0)
        return Bytes(small.per_vector + large.per_vector, small.once + large.once)

    def search(self, queries: Floats, k: int, *, device: str) -> Ranking:
        """Returns the k best documents of (Q, D) queries; with rescoring, at most its number of candidates."""
        n_found = k if self._rescoring is None else self._rescoring.candidates
        exact = ExactSearch(self._ready(self._small, self._small.queries(queries)), n_found, device=device)
        for start in range(0, len(self._ids), BLOCK):
            rows = self._small.documents(np.asarray(self._vectors[start : start + BLOCK]))
            exact.add(self._ready(self._small, rows), self._ids[start : start + BLOCK])
        scores, positions = exact.result()
        if self._large is not None:
            scores, positions = self._rescored(self._large, queries, positions)
        scores, positions = scores[:, :k], positions[:, :k]
        return Ranking([[self._ids[at] for at in row] for row in positions.tolist()], scores)

    def rank(self, query: Floats, positions: Sequence[int]) -> TopK:
        """Ranks some documents for one query, (D,)."""
        return self._ranked(self._small, query, np.asarray(positions, np.int64))

    def _rescored(
        self, large: FittedForm, queries: Floats, found: NDArray[np.int64]
    ) -> tuple[Floats, NDArray[np.int64]]:
        ranked = [self._ranked(large, query, own) for query, own in zip(queries, found, strict=True)]
        if not ranked:
            return np.zeros(found.shape, np.float32), found
        return (
            np.concatenate([top.scores for top in ranked]),
            np.stack([own[top.positions[0]] for own, top in zip(found, ranked, strict=True)]),
        )

    def _ranked(self, fitted: FittedForm, query: Floats, positions: Positions) -> TopK:
        documents = self._ready(fitted, fitted.documents(np.asarray(self._vectors[positions])))
        (vector,) = self._ready(fitted, fitted.queries(query[None]))
        return rank_candidates(vector, documents, [self._ids[at] for at in positions.tolist()])

    def _ready(self, fitted: FittedForm, vectors: Floats) -> Floats:
        return vectors if fitted.scores_codes else self._directions(vectors)


def within_candidates(metrics: Mapping[str, T], form: StoredForm | None) -> dict[str, T]:
    """Returns metrics by name without those that look deeper than rescoring has candidates, such as recall_at_100."""
    deepest = form.rescore.candidates if form is not None and form.rescore is not None else None
    return {name: value for name, value in metrics.items() if deepest is None or metric_depth(name) <= deepest}
