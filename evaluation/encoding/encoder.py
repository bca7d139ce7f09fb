"""Encoder: texts + prefix -> raw pooled vectors in input order. Knows nothing of tasks, jobs or records.

Each distinct text is encoded once per call; texts are sorted by length within a shard and batched by a token budget.
Vectors are not normalised: that belongs to the protocol.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.encoding.backends import LibraryModel, load_text_model
from evaluation.encoding.batching import plan_batches, shard_bounds, shard_characters, unique_texts
from evaluation.encoding.cache import EmbeddingCache, Hashes, hash_texts
from evaluation.encoding.cache_files import CachedShard
from evaluation.encoding.settings import EncoderSettings
from evaluation.encoding.shard_vectors import ShardVectors
from evaluation.encoding.shard_writer import ShardWriter
from evaluation.encoding.tokenizing import Tokenized
from evaluation.encoding.vector_checks import check_vectors
from evaluation.errors import EncodingError
from evaluation.models.checkpoint import Checkpoint
from evaluation.models.facts import Route, TextRole

N_BEHIND = 2
"""Shards that may wait for the disk on an accelerator; at 50,000 texts per second each took a third of a second."""


class Encoded(NamedTuple):
    """What one call of `Encoder.encode` did.

    Attributes:
        vectors: (N, D) float32, input order, raw pooled.
        token_lengths: (U,) int64 tokens of each distinct text before truncation.
        n_truncated: Distinct texts longer than the maximum length.
        examples: The first two distinct strings, exactly as the tokenizer received them.
        n_characters: Of all distinct strings.
        n_substituted: Texts for which something else was encoded, as the config says.
        notices: Sentences about the model that belong beside the score.
    """

    vectors: NDArray[np.float32]
    token_lengths: NDArray[np.int64]
    n_truncated: int
    examples: tuple[str, ...]
    n_characters: int
    n_substituted: int = 0
    notices: tuple[str, ...] = ()


class Progress(NamedTuple):
    """A step of encoding, for displays: texts and tokens done since the last step."""

    texts: int
    tokens: int


class TextEncoder(Protocol):
    """What turns texts into vectors: a model in this process, behind an address, or on many machines.

    Attributes:
        checkpoint, settings: The model and how it is run.
        tokens_encoded, encoding_time_s: Totals so far.
    """

    checkpoint: Checkpoint
    settings: EncoderSettings
    tokens_encoded: int
    encoding_time_s: float

    def encode(self, texts: Sequence[str], *, prefix: str = "", route: Route = None) -> Encoded:
        """Encode texts, each with the prefix in front."""


def cut_into_shards(unique: Sequence[str], settings: EncoderSettings) -> list[list[str]]:
    """Cut distinct texts into the shards that are encoded as a whole, which decides batches and so the last bits."""
    bounds = shard_bounds(unique, shard_characters=shard_characters(settings.max_tokens))
    return [list(unique[start:end]) for start, end in bounds]


def hash_shard(texts: Sequence[str], role: TextRole, settings: EncoderSettings) -> Hashes:
    """The cache's names of a shard's vectors: of the texts and, where it decides a vector, of their role."""
    if not settings.routed and settings.include_prompt:
        return hash_texts(texts)
    return hash_texts([f"{role.route}\0{len(role.prefix)}\0{text}" for text in texts])


class Encoder:
    """A loaded model.

    Args:
        settings: How it is run, with nothing left to resolve.
        cache: Where vectors are looked up first; None encodes everything.
        n_behind: Shards that may be on their way to the disk while the model computes the next. None: on an accelerator
            `N_BEHIND`, whose time they would take; on a processor 0, where a shard takes half a minute and its file
            milliseconds, so that a killed process loses one shard at most.

    Attributes:
        checkpoint, settings: What was loaded and how.
        tokens_encoded, encoding_time_s: Totals since loading, for throughput.
        n_out_of_memory: How often a batch was halved for want of memory, which moves the last bits of its vectors.
        on_progress: Called after every batch.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: EncoderSettings,
        *,
        cache: EmbeddingCache | None = None,
        n_behind: int | None = None,
    ) -> None:
        self.checkpoint, self.settings, self._cache = checkpoint, settings, cache
        self._model = load_text_model(checkpoint, settings)
        checkpoint.verify_unchanged()
        self.tokens_encoded = self.n_out_of_memory = 0
        self.encoding_time_s = 0.0
        self.on_progress: Callable[[Progress], None] | None = None
        self._turn = threading.Lock()
        self._n_behind = n_behind if n_behind is not None else N_BEHIND if settings.device.startswith("cuda") else 0
        self._writer = ShardWriter(cache, self._n_behind) if cache is not None else None

    def encode(self, texts: Sequence[str], *, prefix: str = "", route: Route = None) -> Encoded:
        """Encode texts, each with the prefix in front.

        Args:
            prefix: Put before every text, unchanged and without a separator.
            route: The side that the texts are on, for models that take queries and documents different ways.

        Raises:
            EncodingError: A vector can't become a score; see `check_vectors`.
        """
        unique, inverse = unique_texts([prefix + text for text in texts] if prefix else texts)
        if not unique:
            return Encoded(np.zeros((0, self.checkpoint.embedding_dim), np.float32), np.zeros(0, np.int64), 0, (), 0)
        started = time.perf_counter()
        role = TextRole(prefix, route)
        vectors, lengths = np.empty((0, 0), np.float32), []
        end = 0
        for shard in self._encode_shards(cut_into_shards(unique, self.settings), role):
            start, end = end, end + len(shard.vectors)
            if not start:
                vectors = np.empty((len(unique), shard.vectors.shape[1]), np.float32)
            vectors[start:end] = shard.vectors  # the caller's own: a shard may still be on its way to the disk
            lengths.append(shard.token_lengths)
        full_lengths = np.concatenate(lengths)
        self.encoding_time_s += time.perf_counter() - started
        if len(unique) < len(texts):
            vectors = vectors[inverse]
        n_truncated = int((full_lengths > self.settings.max_length).sum())
        return Encoded(vectors, full_lengths, n_truncated, tuple(unique[:2]), sum(map(len, unique)))

    def flush(self) -> None:
        """Wait until all vectors are on the disk."""
        if self._writer is not None:
            self._writer.flush()

    def _encode_shards(self, shards: list[list[str]], role: TextRole) -> Iterator[CachedShard]:
        """Encode all shards in order; the next is tokenized while the model has one."""
        under_way: deque[CachedShard | _UnderWay] = deque()
        with ThreadPoolExecutor(max_workers=1) as beside:
            coming: Future[Tokenized] | None = None
            try:
                for texts, following in zip_longest(shards, shards[1:]):
                    waiting, coming = coming, None
                    hashes = hash_shard(texts, role, self.settings)
                    stored = self._stored(hashes)
                    if stored is None:
                        tokens = waiting.result() if waiting is not None else self._model.tokenize(texts, role)
                        if following is not None:
                            coming = beside.submit(self._model.tokenize, following, role)
                    under_way.append(stored or self._start(texts, hashes, tokens))
                    while len(under_way) > min(self._n_behind, 1):
                        yield self._finished(under_way.popleft())
                while under_way:
                    yield self._finished(under_way.popleft())
            finally:
                for shard in under_way:
                    if isinstance(shard, _UnderWay):
                        self._give_up(shard.hashes)

    def encode_shard(self, texts: list[str], role: TextRole) -> CachedShard:
        """Encode one shard of distinct texts as `encode` does, for callers that spread shards over several encoders.

        Threads may share an encoder: one tokenizes or stores while another has the model.

        Args:
            texts: Of the shard, the role's prefix in front.
            role: How they are put to the model.

        Raises:
            EncodingError: A vector can't become a score; see `check_vectors`.
        """
        hashes = hash_shard(texts, role, self.settings)
        shard: CachedShard | _UnderWay | None = self._stored(hashes)
        if shard is None:
            tokens = self._model.tokenize(texts, role)
            with self._turn:
                shard = self._start(texts, hashes, tokens)
        if isinstance(shard, CachedShard):
            return shard
        done = self._checked(shard)
        if self._cache is not None:
            self._cache.put(hashes, done)
        return done

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts, cut to the maximum length; empty where the library tokenizes."""
        return self._model.tokenize(texts, TextRole()).ids.lists()

    def _stored(self, hashes: Hashes) -> CachedShard | None:
        return self._cache.get(hashes) if self._cache is not None else None

    def _give_up(self, hashes: Hashes) -> None:
        if self._cache is not None:
            self._cache.give_up(hashes)

    def _start(self, texts: list[str], hashes: Hashes, tokens: Tokenized) -> _UnderWay:
        """Run all of a shard through the model, which may still be computing its vectors afterwards."""
        try:
            return _UnderWay(texts, hashes, tokens.full_lengths, self._run_batches(tokens))
        except BaseException:
            self._give_up(hashes)
            raise

    def _finished(self, shard: CachedShard | _UnderWay) -> CachedShard:
        """Wait for the vectors of a shard, check them, and have them stored."""
        if isinstance(shard, CachedShard):
            return shard
        done = self._checked(shard)
        if self._writer is not None:
            self._writer.put(shard.hashes, done)
        return done

    def _checked(self, shard: _UnderWay) -> CachedShard:
        try:
            vectors, are_usable = shard.vectors.arrived()
            if not are_usable:
                allow_zero = isinstance(self._model, LibraryModel)
                check_vectors(vectors, shard.texts, allow_zero=allow_zero, dtype=self.settings.dtype)
            self.checkpoint.verify_not_overwritten()
        except BaseException:
            self._give_up(shard.hashes)
            raise
        return CachedShard(vectors, shard.token_lengths)

    def _run_batches(self, tokens: Tokenized) -> ShardVectors:
        collected: ShardVectors | None = None
        for batch in plan_batches(tokens.lengths, self.settings.max_tokens):
            pooled = self._run(tokens, batch)  # (B, D)
            collected = collected or ShardVectors(len(tokens.lengths), pooled)
            collected.add(pooled, batch)
            n_tokens = int(tokens.lengths[batch].sum())
            self.tokens_encoded += n_tokens
            if self.on_progress is not None:
                self.on_progress(Progress(len(batch), n_tokens))
        assert collected is not None, "a shard has at least one text"
        collected.send()
        return collected

    def _run(self, tokens: Tokenized, rows: NDArray[np.int64]) -> torch.Tensor:
        """(B, D) vectors of one batch on the device; halves the batch where memory does not suffice.

        Raises:
            EncodingError: One text alone does not fit.
        """
        try:
            return self._model.forward(tokens, rows)
        except torch.OutOfMemoryError as error:
            if len(rows) == 1:
                raise EncodingError(
                    f"one text of {tokens.lengths[rows[0]]} tokens does not fit into the memory of "
                    f"{self.settings.device}; lower max_length or use another device."
                ) from error
        self.n_out_of_memory += 1
        torch.cuda.empty_cache()
        middle = len(rows) // 2
        return torch.cat([self._run(tokens, rows[:middle]), self._run(tokens, rows[middle:])])


class _UnderWay(NamedTuple):
    """A shard whose vectors may still be computed."""

    texts: list[str]
    hashes: Hashes
    token_lengths: NDArray[np.int64]
    vectors: ShardVectors
