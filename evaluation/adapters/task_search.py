"""Searches one task's documents with the vectors of its texts, for both adapters: mteb's and beir's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from evaluation.adapters.embedding import TaskEmbedder, check_texts
from evaluation.adapters.rankings import RankedRun
from evaluation.adapters.stored_vectors import StoredSide, spilled_vectors
from evaluation.config.stored_forms import StoredForm
from evaluation.encoding.batching import SHARD_TEXTS
from evaluation.encoding.encoder import Encoded
from evaluation.encoding.pooling import l2_normalize
from evaluation.errors import EncodingError
from evaluation.search.exact import ExactSearch, TopK, rank_candidates
from evaluation.stored_forms.fitting import plain_size

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


class TaskSearch:
    """Ranks the documents of one task, as vectors or in the form in which they are stored."""

    def __init__(self, embedder: TaskEmbedder) -> None:
        self._embedder = embedder

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
            for block in corpus:
                n_documents += len(block.ids)
                yield block

        if self._embedder.form is not None:
            ids, scores = self._search_stored(self._embedder.form, queries, counted(), k)
        else:
            ids, scores = self._search_plain(self._directions(queries), counted(), k)
            self._embedder.note_stored(n_documents, plain_size(queries))
        self._embedder.ties.add(scores)
        return RankedRun(dict(zip(query_ids, ids, strict=True)), dict(zip(query_ids, scores, strict=True)))

    def _search_plain(
        self, queries: NDArray[np.float32], corpus: Iterable[Documents], k: int
    ) -> tuple[list[list[str]], NDArray[np.float32]]:
        if isinstance(self._embedder.encoder, CorpusSearcher):
            search = CorpusSearch(
                queries,
                k,
                _checked(corpus),
                prefix=self._embedder.rules.prefix("passage"),
                unit_length=self._embedder.normalize or self._embedder.similarity == "cosine",
                on_encoded=partial(self._embedder.audit.add, "passage"),
            )
            return self._embedder.encoder.search_corpus(search)
        exact = ExactSearch(queries, k, device=self._embedder.encoder.settings.device)
        for block in corpus:
            exact.add(self._directions(self._embedder.embed(block.texts, "passage")), block.ids)
        scores, positions = exact.result()
        return exact.document_ids(positions), scores

    def _search_stored(
        self, form: StoredForm, queries: NDArray[np.float32], corpus: Iterable[Documents], k: int
    ) -> tuple[list[list[str]], NDArray[np.float32]]:
        with spilled_vectors() as spilled:
            for block in corpus:
                spilled.add(self._embedder.embed(block.texts, "passage"), block.ids)
            side = self._stored_side(form, spilled.read(), spilled.ids)
            return side.search(queries, k, device=self._embedder.encoder.settings.device)

    def _stored_side(self, form: StoredForm, vectors: NDArray[np.float32], ids: Sequence[str]) -> StoredSide:
        side = StoredSide(form, vectors, ids, unit_length=self._embedder.normalize, directions=self._directions)
        self._embedder.note_stored(len(ids), side.size)
        self._embedder.warn(side.warnings)
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
        vectors = self._embedder.embed([corpus.texts[row] for row in rows], "passage")
        rank = self._ranker(vectors, [corpus.ids[row] for row in rows])
        run = RankedRun()
        for query, vector in zip(query_ids, queries, strict=True):
            ids = list(dict.fromkeys(candidates.get(query, ())))
            if not ids:
                continue
            top = rank(vector, [position_of[document] for document in ids])
            run.document_ids[query] = [ids[position] for position in top.positions[0].tolist()]
            run.scores[query] = top.scores[0]
            self._embedder.ties.add(top.scores)
        return run

    def _ranker(
        self, vectors: NDArray[np.float32], ids: Sequence[str]
    ) -> Callable[[NDArray[np.float32], Sequence[int]], TopK]:
        """Returns what ranks some of the (N, D) documents, given by position, for one query, (D,)."""
        if self._embedder.form is not None:
            return self._stored_side(self._embedder.form, vectors, ids).rank
        self._embedder.note_stored(len(ids), plain_size(vectors))
        documents = self._directions(vectors)

        def rank(query: NDArray[np.float32], positions: Sequence[int]) -> TopK:
            (vector,) = self._directions(query[None])
            return rank_candidates(vector, documents[positions], [ids[at] for at in positions])

        return rank

    def _directions(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns vectors whose dot products are the checkpoint's similarities."""
        stay = self._embedder.normalize or self._embedder.similarity != "cosine"
        return vectors if stay else l2_normalize(vectors)


def _checked(corpus: Iterable[Documents]) -> Iterator[Documents]:
    """Checks the texts of a corpus that another process encodes, as `TaskEmbedder.embed` does otherwise."""
    for block in corpus:
        check_texts(block.texts, "passage")
        yield block


def document_blocks(ids: Sequence[str], texts: Sequence[str]) -> Iterator[Documents]:
    """Yields an in-memory corpus in blocks of `CORPUS_BLOCK` documents."""
    for start in range(0, len(ids), CORPUS_BLOCK):
        yield Documents(list(ids[start : start + CORPUS_BLOCK]), list(texts[start : start + CORPUS_BLOCK]))
