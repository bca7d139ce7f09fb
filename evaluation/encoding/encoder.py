"""Encoder: texts + prefix -> raw pooled vectors in input order. Knows nothing of tasks, jobs or records.

Each distinct text is encoded once per call; texts are sorted by length within a shard and batched by a token budget.
Vectors are not normalised: that belongs to the protocol.
"""

from __future__ import annotations

import threading
import time
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
from evaluation.encoding.tokenizing import Tokenized
from evaluation.encoding.vector_checks import check_vectors
from evaluation.errors import EncodingError
from evaluation.models.checkpoint import Checkpoint
from evaluation.models.facts import Route, TextRole


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
        checkpoint: The model's files.
        settings: How it is run, with nothing left to resolve.
        cache: Where vectors are looked up first; None encodes everything.

    Attributes:
        checkpoint, settings: What was loaded and how.
        dim: Width of the vectors.
        tokens_encoded, encoding_time_s: Totals since loading, for throughput.
        n_out_of_memory: How often a batch was halved for want of memory, which moves the last bits of its vectors.
        on_progress: Called after every batch.
    """

    def __init__(
        self, checkpoint: Checkpoint, settings: EncoderSettings, *, cache: EmbeddingCache | None = None
    ) -> None:
        self.checkpoint, self.settings, self._cache = checkpoint, settings, cache
        self._model = load_text_model(checkpoint, settings)
        checkpoint.verify_unchanged()
        self.tokens_encoded = self.n_out_of_memory = 0
        self.encoding_time_s = 0.0
        self.on_progress: Callable[[Progress], None] | None = None
        self._turn = threading.Lock()

    def encode(self, texts: Sequence[str], *, prefix: str = "", route: Route = None) -> Encoded:
        """Encode texts, each with the prefix in front.

        Args:
            texts: N texts.
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
        shards = list(self._encode_shards(cut_into_shards(unique, self.settings), role))
        vectors = np.concatenate([shard.vectors for shard in shards]) if len(shards) > 1 else shards[0].vectors
        full_lengths = np.concatenate([shard.token_lengths for shard in shards])
        self.encoding_time_s += time.perf_counter() - started
        if len(unique) < len(texts):
            vectors = vectors[inverse]
        n_truncated = int((full_lengths > self.settings.max_length).sum())
        return Encoded(vectors, full_lengths, n_truncated, tuple(unique[:2]), sum(map(len, unique)))

    def _encode_shards(self, shards: list[list[str]], role: TextRole) -> Iterator[CachedShard]:
        """Encode all shards in order; the next is tokenized while the model has one."""
        with ThreadPoolExecutor(max_workers=1) as beside:
            coming: Future[Tokenized] | None = None
            for texts, following in zip_longest(shards, shards[1:]):
                waiting, coming = coming, None
                hashes = hash_shard(texts, role, self.settings)
                shard = self._stored(hashes)
                if shard is None:
                    tokens = waiting.result() if waiting is not None else self._model.tokenize(texts, role)
                    if following is not None:
                        coming = beside.submit(self._model.tokenize, following, role)
                    shard = self._encode_missing(texts, hashes, tokens)
                yield shard

    def encode_shard(self, texts: list[str], role: TextRole) -> CachedShard:
        """Encode one shard of distinct texts as `encode` does, for callers that spread shards over several encoders.

        Threads may share an encoder: one tokenizes while another has the model.

        Args:
            texts: Of the shard, the role's prefix in front.
            role: How they are put to the model.

        Raises:
            EncodingError: A vector can't become a score; see `check_vectors`.
        """
        hashes = hash_shard(texts, role, self.settings)
        shard = self._stored(hashes)
        if shard is None:
            tokens = self._model.tokenize(texts, role)
            with self._turn:
                shard = self._encode_missing(texts, hashes, tokens)
        return shard

    def _stored(self, hashes: Hashes) -> CachedShard | None:
        return self._cache.get(hashes) if self._cache is not None else None

    def _encode_missing(self, texts: list[str], hashes: Hashes, tokens: Tokenized) -> CachedShard:
        try:
            shard = self._encode_tokens(tokens)
            allow_zero = isinstance(self._model, LibraryModel)
            check_vectors(shard.vectors, texts, allow_zero=allow_zero, dtype=self.settings.dtype)
            self.checkpoint.verify_not_overwritten()
        except BaseException:
            if self._cache is not None:
                self._cache.give_up(hashes)
            raise
        if self._cache is not None:
            self._cache.put(hashes, shard)
        return shard

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts, cut to the maximum length; empty where the library tokenizes."""
        return self._model.tokenize(texts, TextRole()).ids

    def _encode_tokens(self, tokens: Tokenized) -> CachedShard:
        """Run all of a shard through the model. Vectors stay on the device until the last batch is under way."""
        batches = plan_batches(tokens.lengths, self.settings.max_tokens)
        pooled = []
        for batch in batches:
            pooled.append(self._run(tokens, batch.tolist()))  # (B, D)
            n_tokens = int(tokens.lengths[batch].sum())
            self.tokens_encoded += n_tokens
            if self.on_progress is not None:
                self.on_progress(Progress(len(batch), n_tokens))
        sorted_vectors = torch.cat(pooled).cpu().numpy()
        vectors = np.empty_like(sorted_vectors)
        vectors[np.concatenate(batches)] = sorted_vectors
        return CachedShard(vectors, tokens.full_lengths)

    def _run(self, tokens: Tokenized, rows: list[int]) -> torch.Tensor:
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
