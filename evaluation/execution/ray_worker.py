"""A worker of executor ray: one process with one model, on any node. Imports no ray itself."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from evaluation.config import RunConfig
from evaluation.encoding.encoder import Encoder, Progress
from evaluation.encoding.pooling import l2_normalize
from evaluation.encoding.settings import EncoderSettings
from evaluation.errors import EvaluationError
from evaluation.execution.job_running import JobOutcome
from evaluation.execution.local_executor import LocalExecutor
from evaluation.execution.provenance import hardware
from evaluation.execution.resolving import ResolvedModel
from evaluation.leaders import Candidates
from evaluation.plan import Job
from evaluation.redaction import printable, redactor
from evaluation.search import ExactSearch

_LOG_LINES = 40


class EncodedShard(NamedTuple):
    """What a worker did with a shard.

    Attributes:
        token_lengths: (U,) int64 of its distinct texts before truncation.
        examples: The first two strings, exactly as the tokenizer received them.
        n_tokens: That went through the model; 0 where the cache had the vectors.
    """

    token_lengths: NDArray[np.int64]
    examples: tuple[str, ...]
    n_tokens: int


class CorpusPart(NamedTuple):
    """The documents of a shard: each has a position in the corpus, an id, and one of the shard's distinct texts.

    Attributes:
        texts: U texts, from `pack_texts`.
        rows: (N,) int32 text of each document.
        ids: N ids, from `pack_texts`.
        positions: (N,) int64.
    """

    texts: pa.Array
    rows: NDArray[np.int32]
    ids: pa.Array
    positions: NDArray[np.int64]


class CorpusQuery(NamedTuple):
    """What is searched for: (Q, D) float32 queries, k documents each; documents of length one or as they are."""

    vectors: NDArray[np.float32]
    k: int
    unit_length: bool


class WorkerState(NamedTuple):
    """How far a worker is: texts, tokens and seconds at work since it began, and the last lines of its log."""

    texts: int
    tokens: int
    busy_s: float
    log: tuple[str, ...]


ShardName = tuple[str, str]
"""A model's label, and the name of a shard in the embedding cache."""


def pack_texts(texts: Sequence[str]) -> pa.Array:
    """Texts as one Arrow block of bytes: no Python object a text travels. Lone surrogates are kept."""
    return pa.array([text.encode("utf-8", "surrogatepass") for text in texts], pa.large_binary())


def unpack_texts(packed: pa.Array) -> list[str]:
    """The texts that `pack_texts` was given."""
    return [text.decode("utf-8", "surrogatepass") for text in packed.to_pylist()]


class Worker:
    """Runs whole jobs, or encodes and searches shards. Two shards may be in hand: one is tokenized ahead.

    Args:
        config: The run's config.
        n_threads: Of the model.
    """

    def __init__(self, config: RunConfig, n_threads: int) -> None:
        self._n_threads = n_threads
        self._config, self._models = config, {model.label: model for model in config.models}
        self._executor = LocalExecutor(config, self._advanced)
        self._loading, self._mine = threading.Lock(), threading.local()
        self._counting = threading.Lock()
        self._texts = self._tokens = self._n_at_work = 0
        self._busy_s = self._busy_since = 0.0
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        _keep_log(self._log)

    def resolve(self) -> tuple[dict[str, ResolvedModel | str], dict[str, Any]]:
        """Each label's model as it runs on this node, or why it can't; and the node's hardware."""
        found = {label: self._executor.resolve(model) for label, model in self._models.items()}
        told = {label: str(item) if isinstance(item, EvaluationError) else item for label, item in found.items()}
        return told, hardware()

    def settle(self, settings: Mapping[str, EncoderSettings]) -> dict[str, tuple[str, set[str]]]:
        """Take the settings that all workers share.

        Returns:
            For each label the hash of the weights that this node has, empty where it has none, and the names of the
            model's shards in this node's cache.
        """
        self._executor = LocalExecutor(self._config, self._advanced, settings=settings)
        found = {}
        for label in settings:
            resolved = self._executor.resolve(self._models[label])
            if isinstance(resolved, EvaluationError):
                found[label] = ("", set[str]())
                continue
            cache = self._executor.cache(resolved)
            found[label] = (resolved.checkpoint.weights_hash, cache.shard_names() if cache is not None else set())
        return found

    def run_job(self, job: Job) -> JobOutcome:
        """A whole job, as it runs locally."""
        with self._at_work():
            return self._executor.execute(job)

    def encode(self, label: str, packed: pa.Array) -> tuple[EncodedShard, NDArray[np.float32]]:
        """A shard of U distinct texts, and their (U, D) vectors, raw pooled."""
        with self._at_work():
            return self._encode(label, packed)

    def search(
        self, label: str, part: CorpusPart, query: CorpusQuery, bounds: NDArray[np.float32]
    ) -> tuple[EncodedShard, Candidates]:
        """Encode the documents of a shard and search them; `bounds` (Q,): scores that are too low to count."""
        with self._at_work():
            shard, vectors = self._encode(label, part.texts)
            vectors = (l2_normalize(vectors) if query.unit_length else vectors)[part.rows]
            search = ExactSearch(query.vectors, query.k, device=self._settings(label).device, bounds=bounds)
            search.add(vectors, unpack_texts(part.ids))
            found = search.candidates()
            return shard, found._replace(positions=part.positions[found.positions])

    def state(self) -> WorkerState:
        """How far it is."""
        busy_s = self._busy_s + (time.monotonic() - self._busy_since if self._n_at_work else 0.0)
        return WorkerState(self._texts, self._tokens, busy_s, tuple(self._log))

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        torch.set_num_threads(self._n_threads)  # of this thread; Ray has several
        with self._counting:
            self._n_at_work += 1
            if self._n_at_work == 1:
                self._busy_since = time.monotonic()
        try:
            yield
        finally:
            with self._counting:
                self._n_at_work -= 1
                if self._n_at_work == 0:
                    self._busy_s += time.monotonic() - self._busy_since

    def _encode(self, label: str, packed: pa.Array) -> tuple[EncodedShard, NDArray[np.float32]]:
        texts = unpack_texts(packed)
        with self._loading:
            encoder = self._executor.load(self._models[label])
        self._mine.tokens = 0
        if isinstance(encoder, Encoder):
            vectors, lengths = encoder.encode_shard(texts)
        else:
            vectors, lengths, *_ = encoder.encode(texts)
        return EncodedShard(lengths, tuple(texts[:2]), self._mine.tokens), vectors

    def _settings(self, label: str) -> EncoderSettings:
        resolved = self._executor.resolve(self._models[label])
        assert isinstance(resolved, ResolvedModel), "it was loaded"
        return resolved.settings

    def _advanced(self, progress: Progress) -> None:
        self._texts += progress.texts
        self._tokens += progress.tokens
        self._mine.tokens = getattr(self._mine, "tokens", 0) + progress.tokens


def _keep_log(lines: deque[str]) -> None:
    """Keep the last lines of what this process logs, for the record of a job that fails here."""
    redact = redactor()

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(printable(redact(self.format(record))))

    keeper = Keeper(logging.INFO)
    keeper.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(keeper)
    logging.getLogger().setLevel(logging.INFO)
    logging.captureWarnings(True)
