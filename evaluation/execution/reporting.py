"""What a run tells its reporters: progress, notices, results. Shows nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from evaluation.encoding.encoder import Progress
from evaluation.jobs import Job
from evaluation.records.job_record import JobRecord


@dataclass(slots=True)
class RunOutcome:
    """The result of a run.

    Attributes:
        folder: The run's folder.
        records: Records of all jobs that were chosen, in the config's order.
        n_executed: Number of jobs that ran now; the others were stored before.
    """

    folder: Path
    records: list[JobRecord] = field(default_factory=list)
    n_executed: int = 0

    @property
    def failed(self) -> list[JobRecord]:
        """The records of jobs that have an error in place of a score."""
        return [record for record in self.records if record.state == "failed"]


class WorkerProgress(NamedTuple):
    """The progress of one worker: its name, its current job, and its texts and tokens so far."""

    name: str
    doing: str
    texts: int
    tokens: int


class Reporter:
    """Receives the events of a run and shows nothing. All methods are called from the running thread."""

    def run_started(self, jobs: Sequence[Job], stored: int) -> None:
        """The run begins: all its jobs, and how many of them are stored already."""

    def job_started(self, job: Job) -> None:
        """A job begins."""

    def advanced(self, progress: Progress) -> None:
        """A batch went through the model."""

    def workers_advanced(self, workers: Sequence[WorkerProgress]) -> None:
        """The progress of all workers, about once per second, where jobs run on workers."""

    def notice(self, sentence: str) -> None:
        """A sentence that the user should read."""

    def job_ended(self, job: Job, record: JobRecord) -> None:
        """A job was stored, with a score or an error."""

    def run_ended(self, outcome: RunOutcome) -> None:
        """All jobs have ended; this process still holds the run's folder."""
