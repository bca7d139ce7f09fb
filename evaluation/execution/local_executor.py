"""Runs jobs in this process: loads models, hands each job to its adapter, turns the outcome into a record."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from evaluation.config import ModelConfig, RunConfig
from evaluation.encoding.cache import EmbeddingCache
from evaluation.encoding.checkpoint import Checkpoint, locate
from evaluation.encoding.encoder import Encoder, Progress
from evaluation.encoding.endpoint import EndpointEncoder, endpoint_checkpoint
from evaluation.encoding.precision import measured_dtype
from evaluation.encoding.settings import EncoderSettings, resolve_device, resolve_dtype, resolve_max_tokens
from evaluation.errors import EvaluationError
from evaluation.execution.provenance import hardware, metric_versions, source_state, versions
from evaluation.files import reason
from evaluation.plan import Job, fingerprint
from evaluation.records import JobError, JobRecord

if TYPE_CHECKING:
    import pyarrow as pa


class JobOutcome(NamedTuple):
    """A finished job: its record, its tables by file name, and files for mteb's results folder."""

    record: JobRecord
    tables: Mapping[str, pa.Table]
    mteb_files: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model whose files were found, with no `auto` left in its settings."""

    checkpoint: Checkpoint
    settings: EncoderSettings

    @property
    def identity(self) -> dict[str, Any]:
        """What of the model can move a vector."""
        settings = asdict(self.settings)
        parts = {key: settings[key] for key in ("backend", "pooling", "max_length", "dtype")}
        return {"weights": self.checkpoint.weights_hash, "tokenizer": self.checkpoint.tokenizer_hash, **parts}

    @property
    def scoring_identity(self) -> dict[str, Any]:
        """What of the model can move a number: how vectors are used, where the protocol leaves it to the checkpoint."""
        return {
            **self.identity,
            "normalize": self.checkpoint.normalize,
            "similarity": self.checkpoint.similarity,
        }


class LocalExecutor:
    """Holds at most one loaded model; rows that share weights and settings share it.

    Args:
        config: The run's config.
        on_progress: Called after every batch.
    """

    def __init__(self, config: RunConfig, on_progress: Callable[[Progress], None] | None = None) -> None:
        self._config, self._on_progress = config, on_progress
        self._resolved: dict[str, ResolvedModel | EvaluationError] = {}
        self._encoder: Encoder | None = None

    def fingerprint(self, job: Job) -> str:
        """The job's fingerprint; for a model that can't be found, one of its declaration."""
        resolved = self._resolve(job.model)
        if isinstance(resolved, EvaluationError):
            return fingerprint(job, {"declared": job.model.model_dump()}, metric_versions())
        return fingerprint(job, resolved.scoring_identity, metric_versions())

    def execute(self, job: Job) -> JobOutcome:
        """Run one job. Whatever goes wrong becomes the record's error, never an exception."""
        try:
            return self._execute(job)
        except EvaluationError as error:
            return JobOutcome(self._failed(job, error, trace=None), {}, {})
        except Exception as error:  # isolation: one bad job must not stop the others
            return JobOutcome(self._failed(job, error, trace=traceback.format_exc()), {}, {})

    def _execute(self, job: Job) -> JobOutcome:
        resolved = self._resolve(job.model)
        if isinstance(resolved, EvaluationError):
            raise resolved
        encoder = self._load(resolved, job.model)
        store_texts = self._config.runtime.store_texts
        if job.task.via == "beir":
            from evaluation.adapters.beir_adapter import run_beir_job

            result = run_beir_job(job, encoder, store_texts=store_texts)
        else:
            from evaluation.adapters.mteb_job import run_mteb_job

            result = run_mteb_job(job, encoder, store_texts=store_texts)
        record = JobRecord(
            **self._common(job),
            state="done",
            main_score=result.main_score,
            scores=result.scores,
            audit=result.audit,
            warnings=tuple(result.warnings),
            counts=result.counts,
            timing=result.timing,
            provenance=self._provenance(job, resolved),
        )
        return JobOutcome(record, result.tables, result.mteb_files)

    def _resolve(self, model: ModelConfig) -> ResolvedModel | EvaluationError:
        if model.label not in self._resolved:
            try:
                self._resolved[model.label] = self._find(model)
            except EvaluationError as error:
                self._resolved[model.label] = error
        return self._resolved[model.label]

    def _find(self, model: ModelConfig) -> ResolvedModel:
        is_remote = model.backend == "openai"
        checkpoint = (
            endpoint_checkpoint(model) if is_remote else locate(model.model, model.revision, self._config.base_dir)
        )
        device = resolve_device(self._config.runtime.device)
        settings = EncoderSettings(
            backend=model.backend,
            pooling=model.pooling or checkpoint.pooling,
            max_length=model.max_length or checkpoint.max_length,
            dtype="float32" if is_remote else resolve_dtype(model.dtype, device),
            device=device,
            max_tokens=resolve_max_tokens(self._config.runtime.max_tokens, device, checkpoint.embedding_dim),
            trust_remote_code=model.trust_remote_code,
        )
        if model.dtype == "auto" and (device, settings.dtype) == ("cpu", "bfloat16"):
            settings = replace(settings, dtype=measured_dtype(checkpoint, settings))
        return ResolvedModel(checkpoint, settings)

    def _load(self, resolved: ResolvedModel, model: ModelConfig) -> Encoder | EndpointEncoder:
        if model.backend == "openai":
            remote = EndpointEncoder(resolved.checkpoint, resolved.settings, model)
            remote.on_progress = self._on_progress
            return remote
        loaded = self._encoder
        if loaded is None or (loaded.checkpoint, loaded.settings) != (resolved.checkpoint, resolved.settings):
            self._encoder = None  # free the old model before the next is loaded
            runtime = self._config.runtime
            max_bytes = int(runtime.cache_gib * 2**30)
            cache = EmbeddingCache(resolved.identity, max_bytes=max_bytes) if runtime.cache else None
            self._encoder = Encoder(resolved.checkpoint, resolved.settings, cache=cache)
            self._encoder.on_progress = self._on_progress
        assert self._encoder is not None, "just loaded"
        return self._encoder

    def _common(self, job: Job) -> dict[str, Any]:
        task = job.task
        return {
            "fingerprint": self.fingerprint(job),
            "label": job.model.label,
            "protocol": job.rules.protocol,
            "task": task.name,
            "type": task.type,
            "via": task.via,
            "aggregate": task.aggregate,
            "splits": task.splits,
            "subsets": task.subsets,
            "metric": task.main_score,
            "limit": job.limit.model_dump() if job.limit else None,
        }

    def _failed(self, job: Job, error: Exception, trace: str | None) -> JobRecord:
        message = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.errno:
            message = f"{error.filename or 'a file'} can't be read or written: {reason(error)}."
        return JobRecord(
            **self._common(job),
            state="failed",
            error=JobError(kind=type(error).__name__, message=message, traceback=trace),
            provenance={"versions": versions(), "source": source_state()},
        )

    def _provenance(self, job: Job, resolved: ResolvedModel) -> dict[str, Any]:
        checkpoint = resolved.checkpoint
        return {
            "model": {
                "declared": job.model.model,
                "name": checkpoint.name,
                "revision": checkpoint.revision,
                "weights_sha256": checkpoint.weights_hash,
                "tokenizer_sha256": checkpoint.tokenizer_hash,
                "settings": asdict(resolved.settings),
            },
            "dataset": {"name": job.task.dataset, "revision": job.task.dataset_revision},
            "seed": job.seed,
            "options": dict(job.task.options),
            "versions": versions(),
            "source": source_state(),
            "hardware": hardware(),
        }
