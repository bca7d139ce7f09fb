"""Runs jobs in this process, one after another, with at most one loaded model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from evaluation.config.model_config import ModelConfig
from evaluation.config.run_config import RunConfig
from evaluation.encoding.cache import EmbeddingCache
from evaluation.encoding.encoder import Encoder, Progress
from evaluation.encoding.endpoint import EndpointEncoder
from evaluation.encoding.endpoint_store import EndpointStore
from evaluation.errors import EvaluationError, MissingExtraError, ModelError
from evaluation.execution.job_running import EarlierJobs, JobOutcome, LoadedModel, run_job
from evaluation.execution.provenance import hardware, metric_versions
from evaluation.execution.resolving import ResolvedModel, resolve_model
from evaluation.execution.stored_run import facts_of_models
from evaluation.jobs import Job, fingerprint
from evaluation.models.bm25 import Bm25, installed_bm25
from evaluation.models.finding import find_checkpoint
from evaluation.models.names import is_bm25, is_in_memory
from evaluation.models.own_encoder import OwnEncoder
from evaluation.tasks.last_task import LastTask


class LocalExecutor:
    """Holds at most one loaded model; rows that share weights and settings share it.

    Args:
        on_progress: Called after each batch.
        on_start: Called before each job of `run`.
        proven: Label -> model, for models that were resolved and proved on another machine.
        own: Label -> model, for models in memory that embed by their own `encode`.
    """

    def __init__(
        self,
        config: RunConfig,
        on_progress: Callable[[Progress], None] | None = None,
        *,
        on_start: Callable[[Job], None] | None = None,
        proven: Mapping[str, ResolvedModel] | None = None,
        own: Mapping[str, OwnEncoder] | None = None,
    ) -> None:
        self._config, self._on_progress, self._on_start = config, on_progress, on_start
        self._proven, self._own = proven or {}, own or {}
        self._resolved: dict[str, ResolvedModel | EvaluationError] = {}
        self._encoder: Encoder | None = None
        self._served: dict[str, EndpointEncoder] = {}
        self._earlier = EarlierJobs({}, LastTask())

    def fingerprint(self, job: Job) -> str:
        """Returns the job's fingerprint; for a model that can't be found, that of its declaration."""
        return job_fingerprint(job, self._identified(job.model))

    def run(self, jobs: Sequence[Job], costs: Mapping[tuple[str, str], int]) -> Iterator[tuple[Job, JobOutcome]]:
        """Yields each job with its outcome, in order; costs do not matter here."""
        for job in jobs:
            if self._on_start is not None:
                self._on_start(job)
            yield job, self.execute(job)

    def execute(self, job: Job) -> JobOutcome:
        """Runs one job. Any fault becomes the record's error, never an exception."""
        outcome = run_job(
            job,
            self.fingerprint(job),
            lambda: self._ready(job.model),
            store_texts=self._config.runtime.store_texts,
            earlier=self._earlier,
        )
        if outcome.record.main_score is not None:
            self._earlier.scores[job.key] = outcome.record.main_score
        return outcome

    def facts(self) -> dict[str, Any]:
        """Returns what run.json says of the executor."""
        found = {model.label: self._resolved.get(model.base_label) for model in self._config.models}
        ran = {label: model.scoring_identity for label, model in found.items() if isinstance(model, ResolvedModel)}
        return facts_of_models(self._config, ran)

    def close(self) -> None:
        """Releases the model, once all its vectors are on the disk."""
        if self._encoder is not None:
            self._encoder.flush()
        self._encoder = None

    def resolve(self, model: ModelConfig) -> ResolvedModel | EvaluationError:
        """Returns the model with its settings, or why it can't be loaded; resolved once for all rows of its vectors."""
        label = model.base_label
        if label not in self._resolved:
            proven = self._proven.get(model.label)
            try:
                self._resolved[label] = (
                    resolve_model(self._config, model)
                    if proven is None
                    else proven.on_this_machine(find_checkpoint(self._config, model))
                )
            except EvaluationError as error:
                self._resolved[label] = error
        return self._resolved[label]

    def load(self, model: ModelConfig) -> Encoder | EndpointEncoder:
        """Returns the model, ready to encode.

        Raises:
            EvaluationError: It can't be loaded.
        """
        resolved = self.resolve(model)
        if isinstance(resolved, EvaluationError):
            raise resolved
        if model.backend == "openai":
            if model.base_label not in self._served:
                self._served[model.base_label] = self._endpoint(model, resolved)
            return self._served[model.base_label]
        loaded = self._encoder
        if loaded is None or (loaded.checkpoint, loaded.settings) != (resolved.checkpoint, resolved.settings):
            self._encoder = None  # free the old model before the next is loaded
            self._encoder = Encoder(resolved.checkpoint, resolved.settings, cache=self.cache(resolved))
            self._encoder.on_progress = self._on_progress
        assert self._encoder is not None, "just loaded"
        return self._encoder

    def cache(self, resolved: ResolvedModel) -> EmbeddingCache | None:
        """Returns the model's part of the embedding cache; None if the run uses no cache."""
        runtime = self._config.runtime
        max_bytes = int(runtime.cache_gib * 2**30)
        return EmbeddingCache(resolved.identity, max_bytes=max_bytes) if runtime.cache else None

    def _endpoint(self, model: ModelConfig, resolved: ResolvedModel) -> EndpointEncoder:
        runtime = self._config.runtime
        store = EndpointStore(resolved.identity, max_bytes=int(runtime.cache_gib * 2**30)) if runtime.cache else None
        encoder = EndpointEncoder(resolved.checkpoint, resolved.settings, model, store)
        encoder.on_progress = self._on_progress
        return encoder

    def _identified(self, model: ModelConfig) -> ResolvedModel | Bm25 | OwnEncoder | EvaluationError:
        if is_in_memory(model.model):
            return self._own.get(model.label) or ModelError(
                f"{model.label} was given in Python; give it again: run(config, models={{{model.label!r}: model}})."
            )
        if not is_bm25(model.model):
            return self.resolve(model)
        return installed_bm25() or MissingExtraError("the packages of BM25 are gone; install e5-evaluation[bm25].")

    def _ready(self, model: ModelConfig) -> LoadedModel:
        if is_bm25(model.model) or is_in_memory(model.model):
            found = self._identified(model)
            if isinstance(found, EvaluationError):
                raise found
            return LoadedModel(found, None, hardware())
        encoder, resolved = self.load(model), self.resolve(model)
        assert isinstance(resolved, ResolvedModel), "it was loaded"
        return LoadedModel(resolved, encoder, hardware())


def job_fingerprint(job: Job, resolved: ResolvedModel | Bm25 | OwnEncoder | EvaluationError) -> str:
    """Returns a job's fingerprint; for a model that can't be found, that of its declaration."""
    if isinstance(resolved, EvaluationError):
        return fingerprint(job, {"declared": job.model.model_dump()}, metric_versions())
    if isinstance(resolved, Bm25):
        return fingerprint(job, resolved.identity_for(job.task.language), metric_versions())
    return fingerprint(job, resolved.scoring_identity, metric_versions())
