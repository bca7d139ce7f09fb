"""Encodes and searches with one model on all workers of a cluster, shard by shard, and merges the results exactly.

Shards are cut as in one process, so that vectors do not depend on where they are made. The driver reads a corpus block
by block; Arrow blocks travel to the workers, and back come only candidates that the bounds of the search still admit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, NamedTuple, TypeVar

import numpy as np
import ray
from numpy.typing import NDArray

from evaluation.adapters.task_search import CorpusSearch, Documents
from evaluation.encoding.batching import unique_texts
from evaluation.encoding.encoder import Encoded, cut_into_shards
from evaluation.execution.ray.pool import Work, WorkerPool
from evaluation.execution.ray.worker import CorpusPart, CorpusQuery, EncodedShard, pack_texts
from evaluation.execution.resolving import ResolvedModel
from evaluation.models.facts import Route, TextRole
from evaluation.search.exact import MergedSearch

Subject = TypeVar("Subject")

_SHARDS_AHEAD = 3
"""Shards per worker that may be unfinished before more of a corpus is read."""


class _Block(NamedTuple):
    """A block of a corpus, and the shards of it that were encoded so far, by number."""

    texts: list[str]
    n_characters: int
    n_shards: int
    shards: dict[int, EncodedShard]


class SpreadEncoder:
    """Encodes and searches on the workers of a pool.

    Args:
        resolved: The model as all workers run it.
        name: What the work belongs to, for display.

    Attributes:
        checkpoint, settings, tokens_encoded, encoding_time_s: As in `Encoder`.
    """

    def __init__(
        self, pool: WorkerPool, label: str, resolved: ResolvedModel, *, name: str, urgency: tuple[float, ...]
    ) -> None:
        self.checkpoint, self.settings = resolved.checkpoint, resolved.settings
        self._pool, self._label, self._name, self._urgency = pool, label, name, urgency
        self.tokens_encoded = 0
        self.encoding_time_s = 0.0

    def encode(self, texts: Sequence[str], *, prefix: str = "", route: Route = None) -> Encoded:
        """Encodes texts with a prefix, as `Encoder.encode` does.

        Raises:
            EvaluationError: A worker failed, or none is left.
        """
        started = time.perf_counter()
        unique, inverse = unique_texts([prefix + text for text in texts])
        if not unique:
            return Encoded(np.zeros((0, self.checkpoint.embedding_dim), np.float32), np.zeros(0, np.int64), 0, (), 0)
        pieces = cut_into_shards(unique, self.settings)
        role = TextRole(prefix, route)
        works = (
            (number, self._work("encode", ray.put(pack_texts(piece)), role)) for number, piece in enumerate(pieces)
        )
        found = {number: (shard, vectors) for number, shard, vectors in self._spread(works)}
        in_order = [found[number] for number in range(len(pieces))]
        vectors = np.concatenate([vectors for _, vectors in in_order])
        self.encoding_time_s += time.perf_counter() - started
        return self._encoded([shard for shard, _ in in_order], sum(map(len, unique)))._replace(vectors=vectors[inverse])

    def search_corpus(self, search: CorpusSearch) -> tuple[list[list[str]], NDArray[np.float32]]:
        """Searches a streamed corpus exactly; see `adapters.task_search.CorpusSearcher`.

        Raises:
            EvaluationError: A worker failed, or none is left.
        """
        started = time.perf_counter()
        merged = MergedSearch(len(search.queries), search.k)
        query = ray.put(CorpusQuery(search.queries, search.k, search.unit_length))
        blocks: deque[_Block] = deque()
        works = self._searches(search.corpus, TextRole(search.prefix, "document"), query, merged, blocks)
        for (block, number, n_documents), shard, candidates in self._spread(works):
            merged.add(candidates, n_documents)
            block.shards[number] = shard
            while blocks and len(blocks[0].shards) == blocks[0].n_shards:  # reported in the corpus's order
                first = blocks.popleft()
                in_order = [first.shards[place] for place in range(first.n_shards)]
                search.on_encoded(first.texts, self._encoded(in_order, first.n_characters))
        scores, positions = merged.result()
        self.encoding_time_s += time.perf_counter() - started
        return merged.document_ids(positions), scores

    def _searches(
        self, corpus: Iterable[Documents], role: TextRole, query: Any, merged: MergedSearch, blocks: deque[_Block]
    ) -> Iterator[tuple[tuple[_Block, int, int], Work]]:
        """Yields block, shard number, number of documents and work of each shard, and appends the blocks."""
        for ids, texts in corpus:
            start = merged.announce(ids)
            unique, inverse = unique_texts([role.prefix + text for text in texts])
            by_text = np.argsort(inverse, kind="stable")  # documents, in the order of the distinct texts
            pieces = cut_into_shards(unique, self.settings)
            ends = np.cumsum([len(piece) for piece in pieces])
            bounds = np.searchsorted(inverse[by_text], ends)
            block = _Block(texts, sum(map(len, unique)), len(pieces), {})
            blocks.append(block)
            for number, (piece, documents) in enumerate(zip(pieces, np.split(by_text, bounds[:-1]), strict=True)):
                documents = np.sort(documents)
                part = CorpusPart(
                    pack_texts(piece),
                    (inverse[documents] - (ends[number] - len(piece))).astype(np.int32),
                    pack_texts([ids[document] for document in documents]),
                    documents + start,
                    role,
                )
                work = self._work("search", ray.put(part), query, bounds=lambda: merged.bounds)
                yield (block, number, len(documents)), work

    def _work(self, method: str, *arguments: Any, bounds: Callable[[], NDArray[np.float32]] | None = None) -> Work:
        """Returns the call of a worker's method; bounds are asked for when the call starts."""

        def call(actor: Any) -> Any:
            last = () if bounds is None else (bounds(),)
            return getattr(actor, method).options(concurrency_group="work").remote(self._label, *arguments, *last)

        return Work(call, self._name, self._label, self._urgency, is_shard=True)

    def _spread(self, works: Iterator[tuple[Subject, Work]]) -> Iterator[tuple[Subject, EncodedShard, Any]]:
        """Submits as much work as keeps all workers busy; yields results as they come, with their subjects."""
        unfinished: dict[Future[tuple[EncodedShard, Any]], Subject] = {}
        try:
            for subject, work in works:
                unfinished[self._pool.submit(work)] = subject
                while len(unfinished) >= _SHARDS_AHEAD * self._pool.n_workers:
                    yield from self._finished(unfinished)
            while unfinished:
                yield from self._finished(unfinished)
        finally:
            for future in unfinished:
                future.cancel()

    def _finished(
        self, unfinished: dict[Future[tuple[EncodedShard, Any]], Subject]
    ) -> Iterator[tuple[Subject, EncodedShard, Any]]:
        for future in wait(unfinished, timeout=0.5, return_when=FIRST_COMPLETED).done:
            shard, found = future.result()
            self.tokens_encoded += shard.n_tokens
            yield unfinished.pop(future), shard, found

    def _encoded(self, shards: Sequence[EncodedShard], n_characters: int) -> Encoded:
        """Returns what a call did, without its vectors."""
        lengths = np.concatenate([shard.token_lengths for shard in shards])
        n_truncated = int((lengths > self.settings.max_length).sum())
        examples = tuple(example for shard in shards[:2] for example in shard.examples)[:2]
        return Encoded(np.zeros((0, 0), np.float32), lengths, n_truncated, examples, n_characters)
