"""Gives the texts of tasks without a corpus their stored form, in the order in which mteb asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from evaluation.adapters.embedding import TaskEmbedder
from evaluation.config.stored_forms import StoredForm
from evaluation.protocols import Side
from evaluation.stored_forms.fitting import Bytes, FittedForm, fit_form
from evaluation.tasks.types import TRAINED_TYPES

PAIRED_TYPES: Final = frozenset({"STS", "PairClassification", "BitextMining", "Summarization"})
"""Types whose texts mteb encodes column by column."""


class StoredTexts:
    """The texts of one task in a stored form.

    With a training split, the form is fitted on the texts that mteb encodes first, which are of that split. For pairs
    it is fitted on all columns together, so mteb evaluates twice: first as usual, then, after `replay`, with the same
    vectors in their stored form. Each collection of texts to cluster has a form of its own.
    """

    def __init__(self, form: StoredForm, task_type: str, embedder: TaskEmbedder) -> None:
        self._form, self._embedder = form, embedder
        self.evaluates_twice = task_type in PAIRED_TYPES
        self._fits_once = self.evaluates_twice or task_type in TRAINED_TYPES
        self.start()

    def start(self) -> None:
        """Forgets all vectors and what was fitted on them, because another split or subset begins."""
        self._kept: list[NDArray[np.float32]] = []
        self._replayed: Iterator[NDArray[np.float32]] | None = None
        self._fitted: FittedForm | None = None

    def replay(self) -> None:
        """Fits the form on all vectors since `start`, which are then given out again, in their stored form."""
        self._fit(np.concatenate(self._kept))
        self._replayed = iter(self._kept)

    def vectors_of(self, texts: Sequence[str], side: Side) -> NDArray[np.float32]:
        """Returns (N, K) float32 vectors of the texts that mteb asks for next."""
        if self._replayed is not None:
            assert self._fitted is not None, "replay fits"
            return self._fitted.documents(next(self._replayed))
        vectors = self._embedder.embed(texts, side)
        if self.evaluates_twice:
            self._kept.append(vectors)
            return vectors
        if self._fitted is None or not self._fits_once:
            return self._fit(vectors).documents(vectors)
        self._embedder.note_stored(len(vectors), Bytes(self._fitted.size.per_vector, 0))
        return self._fitted.documents(vectors)

    def _fit(self, vectors: NDArray[np.float32]) -> FittedForm:
        self._fitted = fit_form(self._form, vectors, unit_length=self._embedder.normalize)
        self._embedder.note_stored(len(vectors), self._fitted.size)
        self._embedder.warn(self._fitted.warnings)
        return self._fitted
