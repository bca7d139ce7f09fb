"""Runs one job with its loaded model through the right adapter, and makes a record of its result or error."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from evaluation.config.run_config import UNDECIDED
from evaluation.config.stored_forms import PLAIN
from evaluation.encoding.encoder import Encoder, TextEncoder
from evaluation.errors import EvaluationError, ModelError, WorkerError
from evaluation.execution.centring import centring_notice
from evaluation.execution.peak_memory import watch_memory
from evaluation.execution.provenance import source_state, versions
from evaluation.execution.resolving import ResolvedModel
from evaluation.jobs import Job
from evaluation.models.bm25 import BM25_NAME, Bm25
from evaluation.models.names import lasting_name
from evaluation.models.own_encoder import OwnEncoder
from evaluation.records.job_record import JobError, JobRecord
from evaluation.records.origin import (
    IDENTITY_VERSION,
    DatasetProvenance,
    Hardware,
    ModelProvenance,
    ModelSettings,
    Provenance,
    WordSettings,
)
from evaluation.system.atomic_files import reason
from evaluation.tasks.last_task import LastTask

if TYPE_CHECKING:
    import pyarrow as pa

    from evaluation.adapters.bm25 import Bm25Ranker
    from evaluation.adapters.job_result import JobResult
    from evaluation.adapters.own_encoder import OwnEncoderModel


class JobOutcome(NamedTuple):
    """A finished job: its record, its tables by file name, and files for mteb's results folder."""

    record: JobRecord
    tables: Mapping[str, pa.Table]
    mteb_files: Mapping[str, Mapping[str, Any]]


class LoadedModel(NamedTuple):
    """A model that is ready to run, and its machine; BM25 and models with an encode of their own have no encoder."""

    resolved: ResolvedModel | Bm25 | OwnEncoder
    encoder: TextEncoder | None
    hardware: Hardware


class EarlierJobs(NamedTuple):
    """What the jobs of one model leave for those that follow: main scores by key, and the last task's data."""

    scores: dict[tuple[str, str], float]
    data: LastTask


def run_job(
    job: Job,
    fingerprint: str,
    load: Callable[[], LoadedModel],
    *,
    store_texts: bool,
    earlier: EarlierJobs,
) -> JobOutcome:
    """Runs one job. Whatever goes wrong becomes the record's error, never an exception.

    Args:
        load: Returns the job's model.
        store_texts: Keeps the texts of judged queries and their best documents.
        earlier: What the jobs before this one left.
    """
    try:
        return _run(job, fingerprint, load(), store_texts=store_texts, earlier=earlier)
    except WorkerError as error:
        return failed_job(job, fingerprint, error, trace=error.log)
    except EvaluationError as error:
        return failed_job(job, fingerprint, error)
    except Exception as error:  # isolation: one bad job must not stop the others
        return failed_job(job, fingerprint, error, trace=traceback.format_exc())


def _run(job: Job, fingerprint: str, model: LoadedModel, *, store_texts: bool, earlier: EarlierJobs) -> JobOutcome:
    if job.rules.protocol == UNDECIDED:
        raise ModelError(f"{job.model.model} was fetched only after its jobs were planned; start the same run again.")
    peak = watch_memory(model.encoder.settings.device) if isinstance(model.encoder, Encoder) else None
    result = _evaluate(job, model, earlier.data, store_texts=store_texts)
    peak_memory = None if peak is None else peak()
    notices = _form_notices(job, model, result, earlier)
    proof = model.resolved.proof if isinstance(model.resolved, ResolvedModel) else None
    record = JobRecord(
        **_common(job, fingerprint),
        state="done",
        main_score=result.main_score,
        scores=result.scores,
        audit=result.audit.model_copy(update={"proof": proof}),
        warnings=(*result.warnings, *notices),
        counts=result.counts,
        vectors=result.vectors,
        timing=result.timing,
        peak_memory=peak_memory,
        provenance=_provenance(job, model, result),
    )
    return JobOutcome(record, result.tables, result.mteb_files)


def _evaluate(job: Job, model: LoadedModel, data: LastTask, *, store_texts: bool) -> JobResult:
    encoder = _ready(job, model)
    if job.task.via == "beir":
        from evaluation.adapters.beir_adapter import run_beir_job
        from evaluation.adapters.own_encoder import OwnEncoderModel

        if isinstance(encoder, OwnEncoderModel):
            raise ModelError(
                f"{job.model.label} embeds by its own encode, which needs mteb's task; list {job.task.name} as mteb: "
                "in place of beir:."
            )
        return run_beir_job(job, encoder, store_texts=store_texts)
    from evaluation.adapters.mteb_job import run_mteb_job

    return run_mteb_job(job, encoder, store_texts=store_texts, data=data)


def _ready(job: Job, model: LoadedModel) -> TextEncoder | Bm25Ranker | OwnEncoderModel:
    """Returns what runs the job: the loaded encoder, or for a model without one what stands in for it, made anew."""
    if isinstance(model.resolved, Bm25):
        from evaluation.adapters.bm25 import Bm25Ranker

        return Bm25Ranker(job)
    if isinstance(model.resolved, OwnEncoder):
        from evaluation.adapters.own_encoder import OwnEncoderModel

        return OwnEncoderModel(job, model.resolved)
    assert model.encoder is not None, model
    return model.encoder


def _form_notices(job: Job, model: LoadedModel, result: JobResult, earlier: EarlierJobs) -> Iterator[str]:
    """Yields what to know of a stored row: texts that had to be encoded for it, and bits that centring would change."""
    if job.model.form is None:
        return
    if result.timing.tokens:
        yield (
            f"{result.timing.tokens:,} tokens were encoded for this row: the cache did not hold the vectors of "
            f"{job.model.base_label}."
        )

    def score_of(centred: Job) -> float:
        return _evaluate(centred, model, earlier.data, store_texts=False).main_score

    notice = centring_notice(job, result.main_score, earlier.scores, score_of)
    if notice is not None:
        yield notice


def failed_job(job: Job, fingerprint: str, error: Exception, trace: str | None = None) -> JobOutcome:
    """Makes the record of a job that has an error in place of a score."""
    message = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.errno:
        message = f"{error.filename or 'a file'} can't be read or written: {reason(error)}."
    record = JobRecord(
        **_common(job, fingerprint),
        state="failed",
        error=JobError(kind=type(error).__name__, message=message, traceback=trace),
        provenance=Provenance(versions=versions(), source=source_state()),
    )
    return JobOutcome(record, {}, {})


def _common(job: Job, fingerprint: str) -> dict[str, Any]:
    task = job.task
    return {
        "fingerprint": fingerprint,
        "label": job.model.label,
        "protocol": job.rules.protocol,
        "task": task.name,
        "type": task.type,
        "via": task.via,
        "aggregate": task.aggregate,
        "splits": task.splits,
        "subsets": task.subsets,
        "metric": task.main_score,
        "stored": job.model.form.name if job.model.form is not None else PLAIN,
        "limit": job.limit,
    }


def _origin(job: Job, resolved: ResolvedModel | Bm25 | OwnEncoder, words: WordSettings | None) -> ModelProvenance:
    if isinstance(resolved, Bm25):
        packages = ", ".join(" ".join(package) for package in resolved.versions)
        return ModelProvenance(
            declared=job.model.model,
            name=BM25_NAME,
            revision=packages,
            weights_sha256="",
            tokenizer_sha256="",
            settings=None,
            words=words,
        )
    if isinstance(resolved, OwnEncoder):
        return ModelProvenance(
            declared=job.model.model,
            name=f"{job.model.model}/{job.model.label}",
            revision=resolved.revision,
            weights_sha256=resolved.sha256,
            tokenizer_sha256="",
            settings=None,
        )
    return ModelProvenance(
        declared=lasting_name(job.model.model),
        name=resolved.checkpoint.name,
        revision=resolved.checkpoint.revision,
        weights_sha256=resolved.checkpoint.weights_hash,
        tokenizer_sha256=resolved.checkpoint.tokenizer_hash,
        settings=ModelSettings(**asdict(resolved.settings)),
    )


def _provenance(job: Job, model: LoadedModel, result: JobResult) -> Provenance:
    dataset, rows = job.task, result.dataset_content
    return Provenance(
        model=_origin(job, model.resolved, result.words),
        dataset=DatasetProvenance(name=dataset.dataset, revision=dataset.dataset_revision, rows_sha256=rows),
        seed=job.seed,
        options=dict(job.task.options),
        versions=versions(),
        source=source_state(),
        hardware=model.hardware,
        identity_version=IDENTITY_VERSION,
    )
