"""The one view of a stored run: the score, conditions and units of each model on each task. Compares nothing.

Comparison, gate and report start here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evaluation.analysis.task_scores import NEVER_ENDED, ScoredJob, TaskScore, conditions_of, task_scores
from evaluation.errors import DamagedFileError, SchemaVersionError
from evaluation.records.job_record import JobRecord
from evaluation.records.run_manifest import ListedJob, RunManifest
from evaluation.records.store import RunStore
from evaluation.system.atomic_files import check_file
from evaluation.system.forked_map import map_forked

if TYPE_CHECKING:
    from evaluation.analysis.statistics.sample_reading import SampleReader
    from evaluation.analysis.statistics.units import Units

_LOG = logging.getLogger(__name__)
MANY_JOBS: Final = 200
"""So many samples take longer to read than copies of the process take to start."""


class RunView:
    """A stored run.

    Args:
        records: Record by label and task; jobs that never ended have none.

    Attributes:
        jobs: In the run's order.
    """

    def __init__(
        self, store: RunStore, manifest: RunManifest, records: Mapping[tuple[str, str], JobRecord | None]
    ) -> None:
        self.manifest, self._store = manifest, store
        self.jobs = tuple(_job(job, records[job.key]) for job in manifest.jobs if job.key in records)
        self._units: dict[tuple[str, str], Units | None] = {}
        self._of_label: dict[str, list[ScoredJob]] = {}
        for job in self.jobs:
            self._of_label.setdefault(job.label, []).append(job)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self._store.folder

    @property
    def labels(self) -> tuple[str, ...]:
        """The models, in the run's order."""
        return tuple(self._of_label)

    @property
    def records(self) -> list[JobRecord]:
        """All records, those of failed jobs included, in the run's order."""
        return [job.record for job in self.jobs if job.record is not None]

    def jobs_of(self, label: str) -> Sequence[ScoredJob]:
        """The jobs of a model, in the run's order."""
        return self._of_label.get(label, ())

    def tasks(self, label: str, keys: Iterable[tuple[str, str]] | None = None) -> dict[str, TaskScore]:
        """The scores of a model, in the run's order, parts of aggregates together.

        Args:
            keys: (label, task) of the jobs that count; None: all.
        """
        wanted = None if keys is None else set(keys)
        jobs = [job for job in self.jobs_of(label) if wanted is None or (label, job.task) in wanted]
        return task_scores(jobs, self.units)

    def units(self, job: ScoredJob) -> Units | None:
        """Returns what the score of one of the jobs can be recomputed from; read once.

        Raises:
            DamagedFileError: Its samples are not what was written.
            StoreError: Its samples can't be read.
        """
        from evaluation.analysis.statistics.units import load_units

        key = job.label, job.task
        if key not in self._units:
            folder = None if job.record is None else self.job_folder(job.record)
            self._units[key] = load_units(folder, job.record, self._reader) if folder and job.record else None
        return self._units[key]

    def read_all_units(self) -> None:
        """Reads the units of all jobs with a score at once, on all processors, where there are many.

        Raises:
            DamagedFileError: Samples are not what was written.
            StoreError: Samples can't be read.
        """
        of_task: dict[str, list[ScoredJob]] = {}
        for job in self.jobs:
            if not job.fault and (job.label, job.task) not in self._units:
                of_task.setdefault(job.task, []).append(job)
        if sum(map(len, of_task.values())) < MANY_JOBS:
            return  # each when it is asked for
        import evaluation.analysis.statistics.units  # noqa: F401 (imported once, not in each process)

        tasks = list(of_task.values())
        for jobs, units in zip(tasks, map_forked(lambda own: [self.units(job) for job in own], tasks), strict=True):
            self.hold_units(zip(jobs, units, strict=True))

    def hold_units(self, read: Iterable[tuple[ScoredJob, Units | None]]) -> None:
        """Takes over what another process read for jobs, so that `units` returns it."""
        self._units |= {(job.label, job.task): units for job, units in read}

    @cached_property
    def _reader(self) -> SampleReader:
        from evaluation.analysis.statistics.sample_reading import SampleReader

        return SampleReader()

    def job_folder(self, record: JobRecord) -> Path:
        """The folder of a job's files."""
        return self._store.job_folder(record.label, record.task, record.fingerprint)

    def check_files(self) -> None:
        """Checks the content of all stored files.

        Raises:
            DamagedFileError: A file is missing or is not what was written.
            StoreError: A file can't be read.
        """
        for record in self.records:
            for name, sha256 in record.files.items():
                check_file(self.job_folder(record) / Path(name).name, sha256)

    def refuse_lost_records(self) -> None:
        """Checks that every job that run.json calls done has its record.

        Raises:
            DamagedFileError: A record is missing.
        """
        known = {(job.label, job.task) for job in self.jobs if job.record is not None}
        for job in self.manifest.jobs:
            if job.state == "done" and job.key not in known:
                raise self._store.lost_record(job)


def read_run_view(folder: Path, *, complete: bool = False, skip_damaged: bool = False) -> RunView:
    """Reads a run: run.json and every record; samples are read when they are asked for.

    Args:
        complete: Checks the content of all stored files now; else their presence alone.
        skip_damaged: Leaves out jobs whose files can't be used, with a warning.

    Raises:
        StoreError: The folder is not a run, or one of its files can't be read.
        DamagedFileError: A file is missing or is not what was written.
        SchemaVersionError: A file was written by another version.

    Example:
        >>> view = read_run_view(Path("results/quickstart"))
        >>> [(label, task.task, task.points) for label in view.labels for task in view.tasks(label).values()]
    """
    store = RunStore(folder)
    manifest = store.read_run()
    records: dict[tuple[str, str], JobRecord | None] = {}
    for job in manifest.jobs:
        try:
            record = store.load(job.label, job.task, job.fingerprint, complete=complete)
            if record is None and skip_damaged and job.state == "done":
                raise store.lost_record(job)
            records[job.key] = record
        except (DamagedFileError, SchemaVersionError) as error:
            if not skip_damaged:
                raise
            _LOG.warning("%s It is left out.", error)
    return RunView(store, manifest, records)


def _job(listed: ListedJob, record: JobRecord | None) -> ScoredJob:
    if record is None:
        return ScoredJob(listed.label, listed.task, listed.type, "", None, None, NEVER_ENDED, {})
    fault = "" if record.main_score is not None else "it ended without a score"
    if record.error is not None:
        fault = " ".join(record.error.message.split())
    return ScoredJob(
        label=listed.label,
        task=listed.task,
        type=record.type,
        metric=record.metric,
        aggregate=record.aggregate,
        score=record.main_score,
        fault=fault,
        conditions={} if fault else conditions_of(record),
        record=record,
    )
