"""What the gate judges of a run: each job's score, conditions and units, the models and the versions. Judges nothing.

`baseline_file.py` stores a snapshot in one small file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluation.analysis.run_view import RunView, read_run_view
from evaluation.analysis.task_scores import ScoredJob
from evaluation.errors import StoreError, UsageError
from evaluation.records.job_record import JobRecord

_NAMED_AT_MOST = 5
_NOT_JUDGED = ("metric versions", "limit")
"""Conditions that fail no gate: versions are a note, and limited runs are refused."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a run: its jobs in the run's order, its models by label, the versions that took part.

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
    """Reads the snapshot of a run folder, failed and missing jobs included.

    Raises:
        UsageError: The folder is not a run, the run is limited or mixes weights under one label, or a stored file is
            not what was written.
    """
    try:
        view = read_run_view(folder, complete=True)
        records = view.records
        if view.manifest.config.get("limit") or any(record.limit for record in records):
            raise UsageError(f"{folder} is a limited run, whose scores mean nothing: run its config without limit.")
        models = _models(folder, records)
        view.read_all_units()
        jobs = tuple(_judged(view, job) for job in view.jobs)
    except StoreError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{error.filename or folder} can't be read: {error.strerror or error}.") from error
    return Snapshot(view.manifest.name, jobs, models, _versions(records))


def check_complete(snapshot: Snapshot, what: str) -> None:
    """Checks that a snapshot can be a baseline: it has jobs, and each has a score.

    Args:
        snapshot: The run's.
        what: How errors name the run, such as "results/quickstart".

    Raises:
        UsageError: A job has no score, or there is no job.
    """
    faults = [f"{job.label} on {job.task}: {job.fault}" for job in snapshot.jobs if job.fault]
    if faults:
        more = f" and {len(faults) - _NAMED_AT_MOST} more" if len(faults) > _NAMED_AT_MOST else ""
        raise UsageError(
            f"{what} can't be a baseline, because jobs have no score: {'; '.join(faults[:_NAMED_AT_MOST])}"
            f"{more}. Start the run again to run them."
        )
    if not snapshot.jobs:
        raise UsageError(f"{what} can't be a baseline, because it holds no job.")


def _judged(view: RunView, job: ScoredJob) -> ScoredJob:
    """A job with its units, without the conditions that fail no gate, and without its record, which is large."""
    conditions = {name: value for name, value in job.conditions.items() if name not in _NOT_JUDGED}
    return replace(job, conditions=conditions, units=view.units(job) if not job.fault else None, record=None)


def _models(folder: Path, records: Sequence[JobRecord]) -> dict[str, dict[str, Any]]:
    """Label -> identity. One label is one model, however many times the run was started."""
    models: dict[str, dict[str, Any]] = {}
    for record in records:
        model = record.provenance.model
        if record.state != "done" or model is None:
            continue
        identity = {
            **{name: getattr(model, name) for name in ("name", "revision", "weights_sha256", "tokenizer_sha256")},
            "settings": model.settings.model_dump(include={"backend", "pooling", "max_length", "dtype", "device"})
            if model.settings is not None
            else {},
        }
        before = models.setdefault(record.label, identity)
        changed = [name for name in ("weights_sha256", "tokenizer_sha256") if before[name] != identity[name]]
        if changed:
            raise UsageError(
                f"{folder} holds scores of different weights under the label {record.label!r} "
                f"({record.task} differs in {changed[0]}): run the whole config again, without --only."
            )
    return models


def _versions(records: Sequence[JobRecord]) -> dict[str, str]:
    found: dict[str, dict[str, None]] = {}
    for record in records:
        for name, version in record.provenance.versions.items():
            found.setdefault(name, {})[version] = None
    return {name: ", ".join(sorted(found[name])) for name in sorted(found)}
