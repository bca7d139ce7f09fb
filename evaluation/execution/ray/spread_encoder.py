"""One model on all workers of a cluster: shards are encoded, and searched, where there is room, and merged exactly.

Shards are cut as in one process, from each call's distinct texts, so that their vectors are the same wherever they are
made. A corpus is read here, block by block; what travels are Arrow blocks one way and candidates the other, and of
those only what the bounds of the search so far leave.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, NamedTuple, TypeVar

import numpy as np
import ray
from numpy.typing import NDArray

from evaluation.adapters.embedding import CorpusSearch, Documents
from evaluation.encoding.batching import unique_texts
from evaluation.encoding.cache import shard_name
from evaluation.encoding.encoder import Encoded, cut_into_shards, hash_shard
from evaluation.execution.ray.pool import Call, Work, WorkerPool
from evaluation.execution.ray.worker import CorpusPart, CorpusQuery, EncodedShard, pack_texts
from evaluation.execution.resolving import ResolvedModel
from evaluation.models.facts import Route, TextRole
from evaluation.search.exact import MergedSearch

About = TypeVar("About")

_AHEAD = 3
"""Shards a worker that may be under way, beyond which no more of a corpus is read."""


class _Block(NamedTuple):
    """A block of a corpus under way, and what came back of its shards so far."""

    texts: list[str]
    n_characters: int
    n_shards: int
    shards: dict[int, EncodedShard]


class SpreadEncoder:
    """Encodes and searches on the workers of a pool.

    Args:
        pool: The workers.
        label: The model's.
        resolved: As all workers run it.
        name: What the work is for, for displays.
        urgency: Of the work.

    Attributes:
        checkpoint, settings, tokens_encoded, encoding_time_s: As `Encoder` has them.
    """

    def __init__(
        self,
        pool: WorkerPool,
        label: str,
        resolved: ResolvedModel,
        *,
        name: str,
        urgency: tuple[float, ...],
    ) -> None:
        self.checkpoint, self.settings = resolved.checkpoint, resolved.settings
        self._pool, self._label, self._name, self._urgency = pool, label, name, urgency
        self.tokens_encoded = 0
        self.encoding_time_s = 0.0

    def encode(self, texts: Sequence[str], *, prefix: str = "", route: Route = None) -> Encoded:
        """Encode texts, each with the prefix in front, as `Encoder.encode` does.

        Raises:
            EvaluationError: A worker's, or that none is left.
        """
        started = time.perf_counter()
        unique, inverse = unique_texts([prefix + text for text in texts])
        if not unique:
            return Encoded(np.zeros((0, self.checkpoint.embedding_dim), np.float32), np.zeros(0, np.int64), 0, (), 0)
        pieces = cut_into_shards(unique, self.settings)
        role = TextRole(prefix, route)
        works = ((number, self._encoding(piece, role)) for number, piece in enumerate(pieces))
        found = {number: (shard, vectors) for number, shard, vectors in self._spread(works)}
        in_order = [found[number] for number in range(len(pieces))]
        vectors = np.concatenate([vectors for _, vectors in in_order])
        self.encoding_time_s += time.perf_counter() - started
        return self._encoded([shard for shard, _ in in_order], sum(map(len, unique)))._replace(vectors=vectors[inverse])

    def search_corpus(self, search: CorpusSearch) -> tuple[list[list[str]], NDArray[np.float32]]:
        """Exact search of a streamed corpus; see `adapters.embedding.CorpusSearcher`.

        Raises:
            EvaluationError: A worker's, or that none is left.
        """
        queries, k, corpus, prefix, unit_length, on_encoded = search
        started = time.perf_counter()
        merged = MergedSearch(len(queries), k)
        query = ray.put(CorpusQuery(queries, k, unit_length))
        blocks: deque[_Block] = deque()
        works = self._searches(corpus, TextRole(prefix, "document"), query, merged, blocks)
        for (block, number, n_documents), shard, candidates in self._spread(works):
            merged.add(candidates, n_documents)
            block.shards[number] = shard
            while blocks and len(blocks[0].shards) == blocks[0].n_shards:  # told in the corpus's order
                first = blocks.popleft()
                in_order = [first.shards[place] for place in range(first.n_shards)]
                on_encoded(first.texts, self._encoded(in_order, first.n_characters))
        scores, positions = merged.result()
        self.encoding_time_s += time.perf_counter() - started
        return merged.document_ids(positions), scores

    def _searches(
        self, corpus: Iterable[Documents], role: TextRole, query: Any, merged: MergedSearch, blocks: deque[_Block]
    ) -> Iterator[tuple[tuple[_Block, int, int], Work]]:
        """Work for each shard of each block; the blocks are put down too."""
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
                yield (block, number, len(documents)), self._searching(piece, part, query, merged)

    def _encoding(self, piece: Sequence[str], role: TextRole) -> Work:
        packed = ray.put(pack_texts(piece))

        def call(worker: Any, *, is_copy: bool) -> Any:
            return worker.encode.options(concurrency_group="work").remote(self._label, packed, role, is_copy=is_copy)

        return self._work(call, piece, role)

    def _searching(self, piece: Sequence[str], part: CorpusPart, query: Any, merged: MergedSearch) -> Work:
        held = ray.put(part)

        def call(worker: Any, *, is_copy: bool) -> Any:
            search = worker.search.options(concurrency_group="work")
            return search.remote(self._label, held, query, merged.bounds, is_copy=is_copy)

        return self._work(call, piece, part.role)

    def _work(self, call: Call, piece: Sequence[str], role: TextRole) -> Work:
        shard = (self._label, shard_name(hash_shard(piece, role, self.settings)))
        return Work(call, self._name, self._label, self._urgency, is_shard=True, shard=shard)

    def _spread(self, works: Iterator[tuple[About, Work]]) -> Iterator[tuple[About, EncodedShard, Any]]:
        """Submit work, as much at a time as keeps all workers busy; results as they come, with what they are about."""
        under_way: dict[Future[tuple[EncodedShard, Any]], About] = {}
        try:
            for about, work in works:
                under_way[self._pool.submit(work)] = about
                while len(under_way) >= _AHEAD * self._pool.n_workers:
                    yield from self._ended(under_way)
            while under_way:
                yield from self._ended(under_way)
        finally:
            for future in under_way:
                future.cancel()

    def _ended(
        self, under_way: dict[Future[tuple[EncodedShard, Any]], About]
    ) -> Iterator[tuple[About, EncodedShard, Any]]:
        for future in wait(under_way, timeout=0.5, return_when=FIRST_COMPLETED).done:
            shard, found = future.result()
            self.tokens_encoded += shard.n_tokens
            yield under_way.pop(future), shard, found

    def _encoded(self, shards: Sequence[EncodedShard], n_characters: int) -> Encoded:
        """What came of a call, without its vectors."""
        lengths = np.concatenate([shard.token_lengths for shard in shards])
        n_truncated = int((lengths > self.settings.max_length).sum())
        examples = tuple(example for shard in shards[:2] for example in shard.examples)[:2]
        return Encoded(np.zeros((0, 0), np.float32), lengths, n_truncated, examples, n_characters)
