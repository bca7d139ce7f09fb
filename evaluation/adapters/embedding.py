"""Encodes and searches one task's texts under a protocol's rules, for both adapters: mteb's and beir's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from evaluation.adapters.audit import InputAudit
from evaluation.adapters.stored_vectors import StoredSide, spilled_vectors
from evaluation.config.stored_forms import StoredForm
from evaluation.encoding.batching import SHARD_TEXTS
from evaluation.encoding.encoder import Encoded, TextEncoder
from evaluation.encoding.pooling import l2_normalize
from evaluation.errors import EncodingError
from evaluation.models.facts import Route
from evaluation.protocols import Side, TaskRules
from evaluation.records.job_audit import VectorRules
from evaluation.records.job_record import StoredVectors
from evaluation.search.exact import ExactSearch, TopK, rank_candidates
from evaluation.stored_forms.fitting import Bytes, plain_size

_ROUTES: Mapping[Side, Route] = {"query": "query", "passage": "document", "text": None}
"""The way that the texts of a side take through a model with a Router."""

CORPUS_BLOCK = SHARD_TEXTS
"""Documents that are encoded and searched before the next ones are read."""


class Documents(NamedTuple):
    """A block of a corpus: N ids and N texts, titles joined."""

    ids: list[str]
    texts: list[str]


class CorpusSearch(NamedTuple):
    """An exact search of a streamed corpus, as an encoder that searches where it encodes receives it.

    Attributes:
        queries: (Q, D) float32, of unit length where the documents are.
        k: Documents per query.
        corpus: Blocks of documents.
        prefix: Put before every document's text.
        unit_length: Whether the documents' vectors are scaled to unit length.
        on_encoded: Called for each block with its texts and what encoding them did, without the vectors.
    """

    queries: NDArray[np.float32]
    k: int
    corpus: Iterable[Documents]
    prefix: str
    unit_length: bool
    on_encoded: Callable[[Sequence[str], Encoded], None]


@runtime_checkable
class CorpusSearcher(Protocol):
    """An encoder that searches documents where it encodes them."""

    def search_corpus(self, search: CorpusSearch) -> tuple[list[list[str]], NDArray[np.float32]]:
        """Returns ids, Q lists of K, and (Q, K) scores, best first."""


@dataclass(slots=True)
class RankedRun:
    """A ranking: for each query the ids and scores of its documents, best first."""

    document_ids: dict[str, list[str]] = field(default_factory=dict)
    scores: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def of_results(cls, found: Mapping[str, Mapping[str, float]]) -> RankedRun:
        """Returns a ranking in trec_eval's order: by score, documents of equal score by larger id first."""
        run = cls()
        for query, scores in found.items():
            best = sorted(scores.items(), key=lambda item: (item[1], item[0]), reverse=True)
            run.document_ids[query] = [document for document, _ in best]
            run.scores[query] = np.array([score for _, score in best], np.float32)
        return run

    def as_results(self) -> dict[str, dict[str, float]]:
        """Returns query id -> document id -> score, as pytrec_eval takes it."""
        return {
            query: dict(zip(self.document_ids[query], self.scores[query].tolist(), strict=True))
            for query in self.document_ids
        }


class TaskEmbedder:
    """Encodes the texts of one task as its protocol says, and searches with the vectors.

    Args:
        encoder: The loaded model.
        rules: The protocol's rules for the task.
        form: The form that documents are stored in; None: as the model gives them.
    """

    def __init__(self, encoder: TextEncoder, rules: TaskRules, form: StoredForm | None = None) -> None:
        self._encoder, self.rules, self.form = encoder, rules, form
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
        self._n_ranked = self._n_tied = 0
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
        warnings = [*self.audit.warnings, *self._notices]
        if not self._n_tied:
            return warnings
        tied = f"documents tie for {self._n_tied} of {self._n_ranked} queries"
        return [*warnings, f"{tied}: all ranked documents have one score, and their ids decide the order."]

    def embed(self, texts: Sequence[str], side: Side) -> NDArray[np.float32]:
        """Returns (N, D) float32 vectors of N texts, in input order, normalised if the protocol says so.

        Raises:
            EncodingError: A text is not a string, or a vector can't be used.
        """
        _check_texts(texts, side)
        encoded = self._encoder.encode(texts, prefix=self.rules.prefix(side), route=_ROUTES[side])
        self.audit.add(side, texts, encoded)
        self._notices |= dict.fromkeys(encoded.notices)
        if encoded.n_substituted:
            self.counts["empty texts sent as endpoint.empty_text"] += encoded.n_substituted
        self.counts["texts whose vector is zero"] += len(texts) - int(encoded.vectors.any(axis=1).sum())
        return l2_normalize(encoded.vectors) if self.normalize else encoded.vectors

    def search(
        self, query_ids: Sequence[str], queries: NDArray[np.float32], corpus: Iterable[Documents], k: int
    ) -> RankedRun:
        """Searches a streamed corpus exactly; by cosine unless the checkpoint declares dot product.

        Args:
            query_ids: Q ids.
            queries: (Q, D) vectors from `embed`.
            corpus: Blocks of documents, encoded here.
            k: Documents per query.
        """
        n_documents = 0

        def counted() -> Iterator[Documents]:
            nonlocal n_documents
            for block in _checked(corpus):
                n_documents += len(block.ids)
                yield block

        if self.form is not None:
            ids, scores = self._search_stored(self.form, queries, counted(), k)
        else:
            ids, scores = self._search_plain(self._directions(queries), counted(), k)
            self.note_stored(n_documents, plain_size(queries))
        self._count_ties(scores)
        return RankedRun(dict(zip(query_ids, ids, strict=True)), dict(zip(query_ids, scores, strict=True)))

    def _search_plain(
        self, queries: NDArray[np.float32], corpus: Iterable[Documents], k: int
    ) -> tuple[list[list[str]], NDArray[np.float32]]:
        if isinstance(self._encoder, CorpusSearcher):
            search = CorpusSearch(
                queries,
                k,
                corpus,
                prefix=self.rules.prefix("passage"),
                unit_length=self.normalize or self.similarity == "cosine",
                on_encoded=partial(self.audit.add, "passage"),
            )
            return self._encoder.search_corpus(search)
        exact = ExactSearch(queries, k, device=self._encoder.settings.device)
        for block in corpus:
            exact.add(self._directions(self.embed(block.texts, "passage")), block.ids)
        scores, positions = exact.result()
        return exact.document_ids(positions), scores

    def _search_stored(
        self, form: StoredForm, queries: NDArray[np.float32], corpus: Iterable[Documents], k: int
    ) -> tuple[list[list[str]], NDArray[np.float32]]:
        with spilled_vectors() as spilled:
            for block in corpus:
                spilled.add(self.embed(block.texts, "passage"), block.ids)
            side = self._stored_side(form, spilled.read(), spilled.ids)
            return side.search(queries, k, device=self._encoder.settings.device)

    def _stored_side(self, form: StoredForm, vectors: NDArray[np.float32], ids: Sequence[str]) -> StoredSide:
        side = StoredSide(form, vectors, ids, unit_length=self.normalize, directions=self._directions)
        self.note_stored(len(ids), side.size)
        self.warn(side.warnings)
        return side

    def rerank(
        self,
        query_ids: Sequence[str],
        queries: NDArray[np.float32],
        corpus: Documents,
        candidates: Mapping[str, Sequence[str]],
    ) -> RankedRun:
        """Ranks each query's candidates; encodes only documents that are a candidate of some query.

        Args:
            query_ids: Q ids.
            queries: (Q, D) vectors from `embed`.
            corpus: All documents, or at least the candidates.
            candidates: query id -> document ids; queries without an entry are left out.
        """
        wanted = {document for query in query_ids for document in candidates.get(query, ())}
        rows = [row for row, document in enumerate(corpus.ids) if document in wanted]
        position_of = {corpus.ids[row]: position for position, row in enumerate(rows)}
        missing = next((document for document in wanted if document not in position_of), None)
        if missing is not None:
            raise EncodingError(f"candidate document {missing!r} is not in the corpus.")
        vectors = self.embed([corpus.texts[row] for row in rows], "passage")
        rank = self._ranker(vectors, [corpus.ids[row] for row in rows])
        run = RankedRun()
        for query, vector in zip(query_ids, queries, strict=True):
            ids = list(dict.fromkeys(candidates.get(query, ())))
            if not ids:
                continue
            top = rank(vector, [position_of[document] for document in ids])
            run.document_ids[query] = [ids[position] for position in top.positions[0].tolist()]
            run.scores[query] = top.scores[0]
            self._count_ties(top.scores)
        return run

    def _ranker(
        self, vectors: NDArray[np.float32], ids: Sequence[str]
    ) -> Callable[[NDArray[np.float32], Sequence[int]], TopK]:
        """Returns what ranks some of the (N, D) documents, given by position, for one query, (D,)."""
        if self.form is not None:
            return self._stored_side(self.form, vectors, ids).rank
        self.note_stored(len(ids), plain_size(vectors))
        documents = self._directions(vectors)

        def rank(query: NDArray[np.float32], positions: Sequence[int]) -> TopK:
            (vector,) = self._directions(query[None])
            return rank_candidates(vector, documents[positions], [ids[at] for at in positions])

        return rank

    def _count_ties(self, scores: NDArray[np.float32]) -> None:
        """Counts queries whose documents all have one score; (Q, K) float32, best first."""
        if scores.shape[1] > 1:
            self._n_ranked += len(scores)
            self._n_tied += int((scores[:, 0] == scores[:, -1]).sum())

    def _directions(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return l2_normalize(vectors) if self.similarity == "cosine" and not self.normalize else vectors


def _check_texts(texts: Sequence[object], side: Side) -> None:
    for text in texts:
        if not isinstance(text, str):
            raise EncodingError(f"the dataset has {text!r} in place of a text on the {side} side.")


def _checked(corpus: Iterable[Documents]) -> Iterator[Documents]:
    for block in corpus:
        _check_texts(block.texts, "passage")
        yield block


def document_blocks(ids: Sequence[str], texts: Sequence[str]) -> Iterator[Documents]:
    """Yields an in-memory corpus in blocks of `CORPUS_BLOCK` documents."""
    for start in range(0, len(ids), CORPUS_BLOCK):
        yield Documents(list(ids[start : start + CORPUS_BLOCK]), list(texts[start : start + CORPUS_BLOCK]))
