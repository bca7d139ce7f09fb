"""Encoder: texts + prefix -> raw pooled vectors in input order. Knows nothing of tasks, jobs or records.

Each distinct text is encoded once a call; texts are sorted by length within a shard and batched by a token budget.
Vectors are not normalised: that belongs to the protocol.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.encoding.backends import Forward, sentence_transformers_forward, transformers_forward
from evaluation.encoding.batching import plan_batches, shard_bounds, unique_texts
from evaluation.encoding.cache import CachedShard, EmbeddingCache, hash_texts
from evaluation.encoding.checkpoint import Checkpoint, PoolingName
from evaluation.encoding.tokenizing import TextTokenizer, Tokenized
from evaluation.errors import EncodingError, ModelError

DtypeName = Literal["float32", "bfloat16", "float16"]
_CPU_TOKENS, _ACCELERATOR_TOKENS = 4_096, 32_768
_TOKENIZE_CHUNK = 2_048


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """Everything that decides an embedding beside the weights, resolved: no `auto` left."""

    backend: Literal["transformers", "sentence-transformers"]
    pooling: PoolingName
    max_length: int
    dtype: DtypeName
    device: str
    max_tokens: int
    trust_remote_code: bool = False


class Encoded(NamedTuple):
    """What one call of `Encoder.encode` did.

    Attributes:
        vectors: (N, D) float32, input order, raw pooled.
        token_lengths: (U,) int64 tokens of each distinct text before truncation.
        n_truncated: Distinct texts longer than the maximum length.
        examples: The first two distinct strings, exactly as the tokenizer received them.
    """

    vectors: NDArray[np.float32]
    token_lengths: NDArray[np.int64]
    n_truncated: int
    examples: tuple[str, ...]


class Progress(NamedTuple):
    """A step of encoding, for displays: texts and tokens done since the last step."""

    texts: int
    tokens: int


class Encoder:
    """A loaded model.

    Args:
        checkpoint: From `locate` or `read_checkpoint`.
        settings: With nothing left to resolve.
        cache: Where vectors are looked up first; None encodes everything.

    Attributes:
        checkpoint, settings: What was loaded and how.
        dim: Width of the vectors.
        tokens_encoded, encoding_time_s: Totals since loading, for throughput.
        on_progress: Called after every batch.
    """

    def __init__(
        self, checkpoint: Checkpoint, settings: EncoderSettings, *, cache: EmbeddingCache | None = None
    ) -> None:
        self.checkpoint, self.settings, self._cache = checkpoint, settings, cache
        if settings.max_length > checkpoint.max_positions:
            raise ModelError(
                f"max_length {settings.max_length} is more than the {checkpoint.max_positions} positions "
                f"of {checkpoint.name}."
            )
        self._device = torch.device(settings.device)
        self._tokenizer = TextTokenizer(checkpoint.folder, settings.max_length)
        self._forward = _load_forward(checkpoint, settings, self._device)
        self.tokens_encoded = 0
        self.encoding_time_s = 0.0
        self.on_progress: Callable[[Progress], None] | None = None

    def encode(self, texts: Sequence[str], *, prefix: str = "") -> Encoded:
        """Encode texts, each with the prefix in front.

        Args:
            texts: N texts.
            prefix: Put before every text, unchanged and without a separator.

        Raises:
            EncodingError: A vector holds NaN or infinity, or is zero.
        """
        unique, inverse = unique_texts([prefix + text for text in texts] if prefix else texts)
        if not unique:
            return Encoded(np.zeros((0, self.checkpoint.embedding_dim), np.float32), np.zeros(0, np.int64), 0, ())
        started = time.perf_counter()
        shards = [self._encode_shard(unique[start:end]) for start, end in shard_bounds(len(unique))]
        vectors = np.concatenate([vectors for vectors, _ in shards]) if len(shards) > 1 else shards[0][0]
        full_lengths = np.concatenate([lengths for _, lengths in shards])
        self.encoding_time_s += time.perf_counter() - started
        _check_vectors(vectors, unique)
        if len(unique) < len(texts):
            vectors = vectors[inverse]
        n_truncated = int((full_lengths > self.settings.max_length).sum())
        return Encoded(vectors, full_lengths, n_truncated, tuple(unique[:2]))

    def _encode_shard(self, texts: list[str]) -> CachedShard:
        """A shard from the cache, whole, or through the model, whole."""
        if self._cache is None:
            return self._encode_texts(texts)
        hashes = hash_texts(texts)
        shard = self._cache.get(hashes)
        if shard is None:
            shard = self._encode_texts(texts)
            _check_vectors(shard.vectors, texts)
            self._cache.put(hashes, shard)
        return shard

    def _encode_texts(self, texts: list[str]) -> CachedShard:
        tokens = self._tokenize(texts)
        vectors: NDArray[np.float32] | None = None
        for batch in plan_batches(tokens.lengths, self.settings.max_tokens):
            pooled = self._run([tokens.ids[row] for row in batch])  # (B, D)
            if vectors is None:
                vectors = np.empty((len(texts), pooled.shape[1]), np.float32)
            vectors[batch] = pooled
            n_tokens = int(tokens.lengths[batch].sum())
            self.tokens_encoded += n_tokens
            if self.on_progress is not None:
                self.on_progress(Progress(len(batch), n_tokens))
        assert vectors is not None, "a shard has at least one text"
        return CachedShard(vectors, tokens.full_lengths)

    def _tokenize(self, texts: list[str]) -> Tokenized:
        parts = [self._tokenizer(texts[start:end]) for start, end in shard_bounds(len(texts), _TOKENIZE_CHUNK)]
        return Tokenized(
            [ids for part in parts for ids in part.ids],
            np.concatenate([part.full_lengths for part in parts]),
            np.concatenate([part.lengths for part in parts]),
        )

    def _run(self, rows: list[list[int]]) -> NDArray[np.float32]:
        """Pad one batch, run it, bring the vectors to the host."""
        width = max(map(len, rows))
        ids = np.full((len(rows), width), self._tokenizer.pad_id, np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        for row, tokens in enumerate(rows):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        with torch.inference_mode():
            pooled = self._forward(
                torch.from_numpy(ids).to(self._device), torch.from_numpy(mask).to(self._device)
            )  # (B, D)
        array: NDArray[np.float32] = pooled.cpu().numpy()
        return array


def _load_forward(checkpoint: Checkpoint, settings: EncoderSettings, device: torch.device) -> Forward:
    dtype: torch.dtype = getattr(torch, settings.dtype)
    if settings.backend == "sentence-transformers":
        if settings.pooling != checkpoint.pooling:
            raise ModelError(
                f"pooling {settings.pooling!r} differs from the {checkpoint.pooling!r} {checkpoint.name} declares; "
                "the sentence-transformers backend runs the declared one: use backend: transformers."
            )
        return sentence_transformers_forward(checkpoint, dtype, device, trust_remote_code=settings.trust_remote_code)
    return transformers_forward(
        checkpoint, settings.pooling, dtype, device, trust_remote_code=settings.trust_remote_code
    )


def _check_vectors(vectors: NDArray[np.float32], texts: list[str]) -> None:
    """A vector that is not finite or has no direction must never become a score."""
    sums = np.abs(vectors).sum(axis=1, dtype=np.float64)  # (U,) NaN and infinity carry over
    bad = ~np.isfinite(sums) | (sums == 0)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        kind = "zero" if sums[first] == 0 else "not finite (NaN or infinity)"
        raise EncodingError(
            f"{int(bad.sum())} of {len(texts)} vectors can't be used: the one of {texts[first][:80]!r} is {kind}."
        )


def resolve_device(device: str) -> str:
    """`auto`: cuda where there is one, else mps, else cpu.

    Raises:
        ModelError: A device that this machine does not have.
    """
    cuda = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if cuda else "mps" if torch.backends.mps.is_available() else "cpu"
    if device.startswith("cuda") and not cuda:
        raise ModelError(f"device {device!r} was asked for, but torch finds no CUDA device here.")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ModelError("device 'mps' was asked for, but torch finds none here.")
    return device


def resolve_dtype(dtype: str, device: str) -> DtypeName:
    """`auto`: float16 on CUDA, bfloat16 on processors with such instructions, float32 elsewhere."""
    if dtype != "auto":
        return dtype  # type: ignore[return-value]  # the config admits only DtypeName and auto
    if device.startswith("cuda"):
        return "float16"
    return "bfloat16" if device == "cpu" and _cpu_has_bfloat16() else "float32"


def resolve_max_tokens(max_tokens: int | str, device: str) -> int:
    """`auto`: what measured best, for processors (their caches) and for accelerators."""
    if isinstance(max_tokens, int):
        return max_tokens
    return _CPU_TOKENS if device == "cpu" else _ACCELERATOR_TOKENS


def _cpu_has_bfloat16() -> bool:
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in names)
