"""What a run reports while it goes on, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from evaluation.jobs import Job
from evaluation.records.job_record import JobRecord

if TYPE_CHECKING:
    from evaluation.encoding.encoder import Progress


@dataclass(slots=True, repr=False)
class RunOutcome:
    """What a run leaves behind.

    Attributes:
        folder: The run's folder.
        records: The records of all jobs, in the config's order; interrupted jobs are missing.
        n_executed: Number of jobs that ran now; the others were stored already.
        is_part: Whether other parts of the run may still be running.
        jobs_changed: Whether the run lists other jobs than after the last start.
    """

    folder: Path
    records: list[JobRecord] = field(default_factory=list)
    n_executed: int = 0
    is_part: bool = False
    jobs_changed: bool = False

    def __repr__(self) -> str:
        """One line: how many jobs have a score, and where they are stored."""
        done = len(self.records) - len(self.failed)
        failed = f", {len(self.failed)} failed" if self.failed else ""
        scored = f"{done} of {len(self.records)} jobs have a score{failed}"
        return f"RunOutcome({scored}; {self.n_executed} ran now: {self.folder})"

    def _repr_html_(self) -> str:
        """A table for notebooks: a row per job."""
        rows = [
            f"<tr><td>{escape(r.label)}</td><td>{escape(r.task)}</td><td>{_score_or_error(r)}</td></tr>"
            for r in self.records
        ]
        head = "<tr><th>Model</th><th>Task</th><th>Score</th></tr>"
        return f"<table><caption>{escape(repr(self))}</caption>{head}{''.join(rows)}</table>"

    @property
    def failed(self) -> list[JobRecord]:
        """Records of jobs that have an error instead of a score."""
        return [record for record in self.records if record.state == "failed"]


def _score_or_error(record: JobRecord) -> str:
    if record.main_score is not None:
        return f"{100 * record.main_score:.2f} {escape(record.metric)}"
    return escape(f"failed: {record.error.message}" if record.error else "no score")


class WorkerProgress(NamedTuple):
    """The progress of one of several workers: its name, what it is doing, and the texts and tokens it has encoded."""

    name: str
    doing: str
    texts: int
    tokens: int


class Reporter:
    """Receives what happens in a run, and shows nothing. All methods are called from the running thread."""

    def loading(self) -> None:
        """Called before libraries and models are loaded, which is not done where all jobs are stored."""

    def run_started(self, jobs: Sequence[Job], stored: int, tokens: Mapping[tuple[str, str], int]) -> None:
        """Called before the first job.

        Args:
            stored: How many of them are stored already.
            tokens: (label, task) -> tokens that the job is expected to encode, for jobs to run where that is known.
        """

    def job_started(self, job: Job) -> None:
        """Called before each job that runs in this process."""

    def advanced(self, progress: Progress) -> None:
        """Called after each batch that went through the model."""

    def workers_advanced(self, workers: Sequence[WorkerProgress]) -> None:
        """Called about once per second with the progress of all workers, where jobs run elsewhere."""

    def notice(self, sentence: str) -> None:
        """Called with sentences that the user should see."""

    def job_ended(self, job: Job, record: JobRecord) -> None:
        """Called when a job is stored, with a score or an error."""

    def run_ended(self, outcome: RunOutcome) -> None:
        """Called after the last job, while this process still holds the run's folder."""
