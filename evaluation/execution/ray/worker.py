"""A worker process of executor ray, which holds one model. Does not import ray."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from evaluation.config.run_config import RunConfig
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
from evaluation.system.redaction import hide

_LOG_LINES = 40

ClusterModels = tuple[Mapping[str, ResolvedModel | str], Hardware]
"""Each label's model as the workers run it, or why it can't be loaded; and the hardware of one of the nodes."""


class EncodedShard(NamedTuple):
    """How a worker encoded a shard.

    Attributes:
        token_lengths: (U,) int64 token counts of its distinct texts before truncation.
        examples: The first two strings, exactly as the tokenizer received them.
        n_tokens: Tokens that went through the model; 0 if the cache had the vectors.
    """

    token_lengths: NDArray[np.int64]
    examples: tuple[str, ...]
    n_tokens: int


class CorpusPart(NamedTuple):
    """The documents of a shard. Each has an id, a position in the corpus, and one of the shard's distinct texts.

    Attributes:
        texts: U texts, from `pack_texts`.
        rows: (N,) int32 index of each document's text.
        ids: N ids, from `pack_texts`.
        positions: (N,) int64 positions in the corpus.
        role: How the texts are put to the model.
    """

    texts: pa.Array
    rows: NDArray[np.int32]
    ids: pa.Array
    positions: NDArray[np.int64]
    role: TextRole


class CorpusQuery(NamedTuple):
    """A search: (Q, D) float32 queries, k documents per query, and whether documents are normalised."""

    vectors: NDArray[np.float32]
    k: int
    unit_length: bool


class WorkerState(NamedTuple):
    """Texts and tokens encoded since the process started, the last lines of its log, and our warnings in it."""

    texts: int
    tokens: int
    log: tuple[str, ...]
    warnings: tuple[str, ...]


def pack_texts(texts: Sequence[str]) -> pa.Array:
    """Returns texts as one Arrow block, which travels without a Python object per text. Keeps lone surrogates."""
    return pa.array([text.encode("utf-8", "surrogatepass") for text in texts], pa.large_binary())


def unpack_texts(packed: pa.Array) -> list[str]:
    """Returns the texts that `pack_texts` packed."""
    return [text.decode("utf-8", "surrogatepass") for text in packed.to_pylist()]


class Worker:
    """Runs whole jobs, or encodes and searches shards, of which one is tokenized while another is encoded.

    Args:
        n_threads: Threads that the model uses.
    """

    def __init__(self, config: RunConfig, n_threads: int) -> None:
        self._n_threads = n_threads
        self._config, self._models = config, {model.label: model for model in config.models}
        self._executor = LocalExecutor(config, self._advanced)
        self._loading, self._counting, self._shard = threading.Lock(), threading.Lock(), threading.local()
        self._texts = self._tokens = 0
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._warnings: list[str] = []
        _keep_log(self._log, self._warnings)

    def resolve(self) -> ClusterModels:
        """Returns the models as they run on this node, and the node's hardware."""
        found = {label: self._executor.resolve(model) for label, model in self._models.items()}
        models = {label: str(item) if isinstance(item, EvaluationError) else item for label, item in found.items()}
        return models, hardware()

    def adopt(self, models: Mapping[str, ResolvedModel | str], versions: Mapping[str, str]) -> str:
        """Runs the models from now on as all workers do.

        Args:
            versions: The driver's versions of the libraries that compute metrics.

        Returns:
            Why this node can't give the same scores as the others; empty if it can.
        """
        if metric_versions() != versions:
            return f"its node has other versions of the libraries that compute metrics: {metric_versions()}"
        expected = {label: model for label, model in models.items() if isinstance(model, ResolvedModel)}
        self._executor = LocalExecutor(self._config, self._advanced, proven=expected)
        try:
            for label, model in expected.items():
                resolve_device(model.settings.device)
                found = self._executor.resolve(self._models[label])
                if isinstance(found, EvaluationError):
                    return str(found)
                if found.identity != model.identity:
                    return f"{label} is another model on its node"
        except EvaluationError as error:
            return str(error)
        return ""

    def run_job(self, job: Job) -> JobOutcome:
        """Runs a whole job as the local executor does."""
        torch.set_num_threads(self._n_threads)  # applies to the calling thread; Ray has several
        return self._executor.execute(job)

    def encode(self, label: str, packed: pa.Array, role: TextRole) -> tuple[EncodedShard, NDArray[np.float32]]:
        """Encodes a shard of U distinct texts; returns their (U, D) raw pooled vectors too."""
        torch.set_num_threads(self._n_threads)
        texts = unpack_texts(packed)
        with self._loading:
            encoder = self._executor.load(self._models[label])
        assert isinstance(encoder, Encoder), "jobs of served models are not split into shards"
        self._shard.tokens = 0
        vectors, lengths = encoder.encode_shard(texts, role)
        return EncodedShard(lengths, tuple(texts[:2]), self._shard.tokens), vectors

    def search(
        self, label: str, part: CorpusPart, query: CorpusQuery, bounds: NDArray[np.float32]
    ) -> tuple[EncodedShard, Candidates]:
        """Encodes and searches the documents of a shard; (Q,) `bounds` are scores too low to count."""
        shard, vectors = self.encode(label, part.texts, part.role)
        vectors = (l2_normalize(vectors) if query.unit_length else vectors)[part.rows]
        search = ExactSearch(query.vectors, query.k, device=self._settings(label).device, bounds=bounds)
        search.add(vectors, unpack_texts(part.ids))
        found = search.candidates()
        return shard, found._replace(positions=part.positions[found.positions])

    def state(self) -> WorkerState:
        """Returns the worker's progress."""
        return WorkerState(self._texts, self._tokens, tuple(self._log), tuple(self._warnings))

    def _settings(self, label: str) -> EncoderSettings:
        resolved = self._executor.resolve(self._models[label])
        assert isinstance(resolved, ResolvedModel), "the model was loaded"
        return resolved.settings

    def _advanced(self, progress: Progress) -> None:
        with self._counting:
            self._texts += progress.texts
            self._tokens += progress.tokens
        self._shard.tokens = getattr(self._shard, "tokens", 0) + progress.tokens


def _keep_log(lines: deque[str], warnings: list[str]) -> None:
    """Keeps the last lines that this process logs, and all of our own warnings."""

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(printable(hide(self.format(record))))
            if record.levelno >= logging.WARNING and record.name.startswith("evaluation"):
                warnings.append(printable(hide(record.getMessage())))

    keeper = Keeper(logging.INFO)
    keeper.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(keeper)
    logging.getLogger().setLevel(logging.INFO)
    logging.captureWarnings(True)
