"""What a run tells those who watch it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from evaluation.encoding.encoder import Progress
from evaluation.jobs import Job
from evaluation.records.store import JobRecord


@dataclass(slots=True)
class RunOutcome:
    """What a run left behind.

    Attributes:
        folder: The run's folder.
        records: Of all the run's jobs, in the config's order; jobs that were interrupted are missing.
        n_executed: Jobs that ran now; the others were stored already.
    """

    folder: Path
    records: list[JobRecord] = field(default_factory=list)
    n_executed: int = 0

    @property
    def failed(self) -> list[JobRecord]:
        """Records of jobs that have an error in place of a score."""
        return [record for record in self.records if record.state == "failed"]


class WorkerProgress(NamedTuple):
    """One of several workers: its name, what it has in hand, and its texts and tokens so far."""

    name: str
    doing: str
    texts: int
    tokens: int


class Reporter:
    """Is told what happens, and shows nothing. All methods are called from the running thread."""

    def run_started(self, jobs: Sequence[Job], stored: int) -> None:
        """All jobs of the run, and how many of them are stored already."""

    def job_started(self, job: Job) -> None:
        """A job begins."""

    def advanced(self, progress: Progress) -> None:
        """A batch went through the model."""

    def workers_advanced(self, workers: Sequence[WorkerProgress]) -> None:
        """Where jobs run elsewhere: how far all workers are, about once a second."""

    def notice(self, sentence: str) -> None:
        """Something that the user should know of."""

    def job_ended(self, job: Job, record: JobRecord) -> None:
        """A job was stored, with a score or an error."""

    def run_ended(self, outcome: RunOutcome) -> None:
        """All jobs are through; the run's folder is still this process's."""
