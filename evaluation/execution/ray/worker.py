"""A worker of executor ray: one process with one model, on any node. Imports no ray itself."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from evaluation.config.models import RunConfig
from evaluation.encoding.encoder import Encoder, Progress
from evaluation.encoding.pooling import l2_normalize
from evaluation.encoding.settings import EncoderSettings, resolve_device
from evaluation.errors import EvaluationError
from evaluation.execution.job_running import JobOutcome
from evaluation.execution.local_executor import LocalExecutor
from evaluation.execution.provenance import hardware, metric_versions
from evaluation.execution.resolving import ResolvedModel
from evaluation.jobs import Job
from evaluation.models.facts import TextRole
from evaluation.records.origin import Hardware
from evaluation.search.exact import ExactSearch
from evaluation.search.top_k import Candidates
from evaluation.system.inert_text import printable
from evaluation.system.redaction import redactor

_LOG_LINES = 40

ShardName = tuple[str, str]
"""A model's label, and the name of a shard in the embedding cache."""


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
        role: How the texts are put to the model.
    """

    texts: pa.Array
    rows: NDArray[np.int32]
    ids: pa.Array
    positions: NDArray[np.int64]
    role: TextRole


class CorpusQuery(NamedTuple):
    """What is searched for: (Q, D) float32 queries, k documents each; documents of length one or as they are."""

    vectors: NDArray[np.float32]
    k: int
    unit_length: bool


class WorkerState(NamedTuple):
    """How far a worker is: texts, tokens and seconds at work since it began, its log's last lines, our warnings."""

    texts: int
    tokens: int
    busy_s: float
    log: tuple[str, ...]
    warnings: tuple[str, ...]


class WorkerFacts(NamedTuple):
    """What a worker has on its node.

    Attributes:
        fault: Why it can't run as the others do; empty if it can.
        weights: The hash of each label's weights; labels whose model is not there have none.
        shards: What its cache holds.
        versions: Of the libraries that compute metrics.
    """

    fault: str
    weights: dict[str, str]
    shards: set[ShardName]
    versions: dict[str, str]


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
        self._warnings: list[str] = []
        _keep_log(self._log, self._warnings)

    def resolve(self) -> tuple[dict[str, ResolvedModel | str], Hardware]:
        """Each label's model as it runs on this node, or why it can't; and the node's hardware."""
        found = {label: self._executor.resolve(model) for label, model in self._models.items()}
        told = {label: str(item) if isinstance(item, EvaluationError) else item for label, item in found.items()}
        return told, hardware()

    def settle(self, proven: Mapping[str, ResolvedModel]) -> WorkerFacts:
        """Take the models as all workers run them, and say what is here."""
        self._executor = LocalExecutor(self._config, self._advanced, proven=proven)
        weights: dict[str, str] = {}
        shards: set[ShardName] = set()
        try:
            for label in proven:
                resolve_device(proven[label].settings.device)
                resolved = self._executor.resolve(self._models[label])
                if isinstance(resolved, ResolvedModel):
                    weights[label] = resolved.checkpoint.weights_hash
                    cache = self._executor.cache(resolved)
                    shards |= {(label, name) for name in cache.shard_names()} if cache is not None else set()
        except EvaluationError as error:
            return WorkerFacts(str(error), weights, shards, metric_versions())
        return WorkerFacts("", weights, shards, metric_versions())

    def run_job(self, job: Job) -> JobOutcome:
        """A whole job, as it runs locally."""
        with self._at_work():
            return self._executor.execute(job)

    def encode(
        self, label: str, packed: pa.Array, role: TextRole, *, is_copy: bool = False
    ) -> tuple[EncodedShard, NDArray[np.float32]]:
        """Encode a shard of U distinct texts; (U, D) vectors, raw pooled."""
        with self._at_work():
            return self._encode(label, packed, role, is_copy=is_copy)

    def search(
        self,
        label: str,
        part: CorpusPart,
        query: CorpusQuery,
        bounds: NDArray[np.float32],
        *,
        is_copy: bool = False,
    ) -> tuple[EncodedShard, Candidates]:
        """Encode the documents of a shard and search them; `bounds` (Q,): scores that are too low to count."""
        with self._at_work():
            shard, vectors = self._encode(label, part.texts, part.role, is_copy=is_copy)
            vectors = (l2_normalize(vectors) if query.unit_length else vectors)[part.rows]
            search = ExactSearch(query.vectors, query.k, device=self._settings(label).device, bounds=bounds)
            search.add(vectors, unpack_texts(part.ids))
            found = search.candidates()
            return shard, found._replace(positions=part.positions[found.positions])

    def state(self) -> WorkerState:
        """How far it is."""
        busy_s = self._busy_s + (time.monotonic() - self._busy_since if self._n_at_work else 0.0)
        return WorkerState(self._texts, self._tokens, busy_s, tuple(self._log), tuple(self._warnings))

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

    def _encode(
        self, label: str, packed: pa.Array, role: TextRole, *, is_copy: bool
    ) -> tuple[EncodedShard, NDArray[np.float32]]:
        texts = unpack_texts(packed)
        with self._loading:
            encoder = self._executor.load(self._models[label])
        assert isinstance(encoder, Encoder), "what a server encodes is not spread"
        self._mine.tokens = 0
        vectors, lengths = encoder.encode_shard(texts, role, wait=not is_copy)
        return EncodedShard(lengths, tuple(texts[:2]), self._mine.tokens), vectors

    def _settings(self, label: str) -> EncoderSettings:
        resolved = self._executor.resolve(self._models[label])
        assert isinstance(resolved, ResolvedModel), "it was loaded"
        return resolved.settings

    def _advanced(self, progress: Progress) -> None:
        with self._counting:
            self._texts += progress.texts
            self._tokens += progress.tokens
        self._mine.tokens = getattr(self._mine, "tokens", 0) + progress.tokens


def _keep_log(lines: deque[str], warnings: list[str]) -> None:
    """Keep the last lines of what this process logs, and our own warnings."""
    redact = redactor()

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(printable(redact(self.format(record))))
            if record.levelno >= logging.WARNING and record.name.startswith("evaluation"):
                warnings.append(printable(redact(record.getMessage())))

    keeper = Keeper(logging.INFO)
    keeper.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(keeper)
    logging.getLogger().setLevel(logging.INFO)
    logging.captureWarnings(True)
