"""Encodes one task's texts under a protocol's rules, for both adapters: mteb's and beir's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.adapters.audit import InputAudit
from evaluation.adapters.rankings import Ties
from evaluation.config.stored_forms import StoredForm
from evaluation.encoding.encoder import TextEncoder
from evaluation.encoding.pooling import l2_normalize
from evaluation.errors import EncodingError
from evaluation.models.facts import Route
from evaluation.protocols import Side, TaskRules
from evaluation.records.job_audit import VectorRules
from evaluation.records.job_record import StoredVectors
from evaluation.stored_forms.fitting import Bytes

_ROUTES: Mapping[Side, Route] = {"query": "query", "passage": "document", "text": None}
"""The way that the texts of a side take through a model with a Router."""


class TaskEmbedder:
    """Encodes the texts of one task as its protocol says, and notes what belongs beside the score.

    Args:
        form: The form that documents are stored in; None: as the model gives them.
    """

    def __init__(self, encoder: TextEncoder, rules: TaskRules, form: StoredForm | None = None) -> None:
        self.encoder, self.rules, self.form = encoder, rules, form
        checkpoint, settings = encoder.checkpoint, encoder.settings
        self.normalize = {"always": True, "never": False, "checkpoint": checkpoint.normalize}[rules.normalize]
        self.similarity = checkpoint.similarity
        vectors = VectorRules(
            pooling=settings.pooling,
            normalize=self.normalize,
            max_length=settings.max_length,
            dtype=settings.dtype,
            truncate_dim=settings.truncate_dim,
        )
        self.audit = InputAudit(rules, vectors)
        self.counts: Counter[str] = Counter()
        self._notices: dict[str, None] = {}
        self.ties = Ties()
        self._stored = StoredVectors(bytes_per_vector=0, vectors=0, bytes=0)

    @property
    def stored(self) -> StoredVectors | None:
        """How many vectors the job stores, and their bytes; None where it stored none."""
        return self._stored if self._stored.vectors else None

    def note_stored(self, vectors: int, size: Bytes) -> None:
        """Adds vectors that are stored, and what their form needs."""
        self._stored = StoredVectors(
            bytes_per_vector=size.per_vector,
            vectors=self._stored.vectors + vectors,
            bytes=self._stored.bytes + vectors * size.per_vector + size.once,
        )

    def warn(self, sentences: Iterable[str]) -> None:
        """Adds warnings to those of the job."""
        self._notices |= dict.fromkeys(sentences)

    @property
    def warnings(self) -> list[str]:
        """The audit's and the encoder's warnings, and one where the order of documents says nothing about the model."""
        return [*self.audit.warnings, *self._notices, *self.ties.warnings]

    def embed(self, texts: Sequence[str], side: Side) -> NDArray[np.float32]:
        """Returns (N, D) float32 vectors of N texts, in input order, normalised if the protocol says so.

        Raises:
            EncodingError: A text is not a string, or a vector can't be used.
        """
        check_texts(texts, side)
        encoded = self.encoder.encode(texts, prefix=self.rules.prefix(side), route=_ROUTES[side])
        self.audit.add(side, texts, encoded)
        self._notices |= dict.fromkeys(encoded.notices)
        if encoded.n_substituted:
            self.counts["empty texts sent as endpoint.empty_text"] += encoded.n_substituted
        self.counts["texts whose vector is zero"] += len(texts) - int(encoded.vectors.any(axis=1).sum())
        return l2_normalize(encoded.vectors) if self.normalize else encoded.vectors


def check_texts(texts: Sequence[object], side: Side) -> None:
    """Refuses what is not a text; datasets hold None and numbers too."""
    for text in texts:
        if not isinstance(text, str):
            raise EncodingError(f"the dataset has {text!r} in place of a text on the {side} side.")
