"""What a gate needs of a run: a score, its conditions and its units a job. Reads records only.

`baseline_file.py` stores a snapshot in one small file; `regression.py` compares two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.analysis.statistics.units import Units, load_units
from evaluation.errors import StoreError, UsageError
from evaluation.records.job_record import JobRecord
from evaluation.records.store import RunStore

_NAMED_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class ScoredJob:
    """One job, as far as a later run is held against it.

    Attributes:
        aggregate: The task that this one is a part of, such as CQADupstackRetrieval.
        score: 0-1; None where the job has none.
        fault: Why there is no score; empty where there is one.
        conditions: What makes scores comparable: protocol, dataset, splits, metric ... by name, plain values.
        units: What the score can be recomputed from; None where nothing is stored.
    """

    label: str
    task: str
    type: str
    metric: str
    aggregate: str | None
    score: float | None
    fault: str
    conditions: Mapping[str, Any]
    units: Units | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one point: its jobs in the run's order, its models by label, the versions that took part.

    Attributes:
        name: The run's name.
        models: Label -> name, revision, hashes of weights and tokenizer, settings such as max_length.
        versions: Library -> version; several, joined by commas, where jobs of the run differ.
    """

    name: str
    jobs: tuple[ScoredJob, ...]
    models: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]

    @property
    def labels(self) -> tuple[str, ...]:
        """The models, in order."""
        return tuple(dict.fromkeys(job.label for job in self.jobs))


def read_run(folder: Path) -> Snapshot:
    """The snapshot of a run folder, failed and missing jobs included.

    Raises:
        UsageError: It is no run folder, a limited run, a run that mixes weights under one label, or its samples are
            not those that its records name.
    """
    store = RunStore(folder)
    try:
        run = store.read_run()
        found = [(job.label, job.task, store.load(job.label, job.task, job.fingerprint)) for job in run.jobs]
        records = [record for *_, record in found if record]
        if run.config.get("limit") or any(record.limit for record in records):
            raise UsageError(f"{folder} is a limited run, whose scores mean nothing: run its config without limit.")
        models = _models(folder, records)
        jobs = tuple(_scored_job(store, label, task, record) for label, task, record in found)
    except StoreError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{error.filename or folder} can't be read: {error.strerror or error}.") from error
    return Snapshot(run.name, jobs, models, _versions(records))


def check_complete(snapshot: Snapshot, what: str) -> None:
    """A baseline has a score for every job.

    Args:
        snapshot: Of the run.
        what: How the error names it, such as "results/quickstart".

    Raises:
        UsageError: Jobs have none, or there is no job.
    """
    faults = [f"{job.label} on {job.task}: {job.fault}" for job in snapshot.jobs if job.fault]
    if faults:
        more = f" and {len(faults) - _NAMED_AT_MOST} more" if len(faults) > _NAMED_AT_MOST else ""
        raise UsageError(
            f"{what} can't be a baseline, for jobs have no score: {'; '.join(faults[:_NAMED_AT_MOST])}{more}. "
            "Start its run again, which runs them."
        )
    if not snapshot.jobs:
        raise UsageError(f"{what} can't be a baseline, for it holds no job.")


def _scored_job(store: RunStore, label: str, task: str, record: JobRecord | None) -> ScoredJob:
    if record is None or record.state != "done" or record.main_score is None:
        reason = "never ended, or its files are gone" if record is None else _reason(record)
        kind, aggregate = (record.type, record.aggregate) if record else ("", None)
        return ScoredJob(label, task, kind, "", aggregate, None, reason, {}, None)
    folder = store.job_folder(record.label, record.task, record.fingerprint)
    units = load_units(folder, record)
    return ScoredJob(
        label, task, record.type, record.metric, record.aggregate, record.main_score, "", _conditions(record), units
    )


def _reason(record: JobRecord) -> str:
    return " ".join(record.error.message.split()) if record.error else "it ended without a score"


def _conditions(record: JobRecord) -> dict[str, Any]:
    """Whatever must be the same in two runs for their scores to be comparable."""
    rules = record.audit.rules.as_dict() if record.audit else {}
    dataset = record.provenance.dataset
    return {
        "protocol": record.protocol,
        **{f"protocol's {name}": value for name, value in rules.items() if name != "protocol"},
        "dataset": dataset and dataset.name,
        "dataset revision": dataset and dataset.revision,
        "splits": list(record.splits),
        "subsets": list(record.subsets),
        "type": record.type,
        "metric": record.metric,
        "library": record.via,
        "aggregate": record.aggregate,
        "options": dict(record.provenance.options),
        "seed": record.provenance.seed,
    }


def _models(folder: Path, records: Sequence[JobRecord]) -> dict[str, dict[str, Any]]:
    """Label -> identity; one label is one model, however many times the run was started."""
    models: dict[str, dict[str, Any]] = {}
    for record in records:
        model = record.provenance.model
        if record.state != "done" or model is None:
            continue
        identity = {
            **{name: getattr(model, name) for name in ("name", "revision", "weights_sha256", "tokenizer_sha256")},
            "settings": model.settings.model_dump(include={"backend", "pooling", "max_length", "dtype", "device"}),
        }
        before = models.setdefault(record.label, identity)
        differing = [name for name in ("weights_sha256", "tokenizer_sha256") if before[name] != identity[name]]
        if differing:
            raise UsageError(
                f"{folder} holds scores of different weights under the label {record.label!r} "
                f"({record.task} differs in {differing[0]}): run the whole config again, without --only."
            )
    return models


def _versions(records: Sequence[JobRecord]) -> dict[str, str]:
    found: dict[str, dict[str, None]] = {}
    for record in records:
        for name, version in record.provenance.versions.items():
            found.setdefault(name, {})[version] = None
    return {name: ", ".join(sorted(found[name])) for name in sorted(found)}
