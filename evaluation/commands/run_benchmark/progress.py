"""How a running suite looks: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from evaluation.commands.console import shown
from evaluation.encoding.encoder import Progress as Step
from evaluation.execution.reporting import Reporter, WorkerProgress
from evaluation.jobs import Job
from evaluation.records.job_record import JobRecord

_LINE_EVERY_S, _WORKERS_EVERY_S = 15.0, 5.0


class ConsoleReporter(Reporter):
    """Shows jobs, texts, tokens/s and time left. Use as a context manager.

    Args:
        console: Where to write; a terminal gets a live bar, anything else a line every 15 seconds.
        quiet: Show errors only.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total} jobs"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[status]}"),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._weights: dict[str, float] = {}
        self._done_weight = self._todo_weight = 0.0
        self._started = self._job_started = self._last_line = time.monotonic()
        self._texts = self._tokens = 0
        self._workers: dict[str, int] = {}
        self._workers_seen_at = self._started

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def run_started(self, jobs: Sequence[Job], stored: int) -> None:
        """Say how much there is to do."""
        self._bar = self._live.add_task("", total=len(jobs), completed=stored, status="")
        self._n_jobs, self._n_ended = len(jobs), stored
        count = f"{len(jobs)} job{'s' if len(jobs) != 1 else ''}"
        self._say(f"{count}, {stored} of them stored already" if stored else count)
        self._started = time.monotonic()
        self._n_to_run = len(jobs) - stored

    def job_started(self, job: Job) -> None:
        """Name the job."""
        self._job_started = self._last_line = time.monotonic()
        self._texts = self._tokens = 0
        self._live.update(self._bar, description=escape(job.name))

    def advanced(self, progress: Step) -> None:
        """Update the live bar, or write a line now and then."""
        self._texts += progress.texts
        self._tokens += progress.tokens
        now = time.monotonic()
        status = f"{self._texts:,} texts, {self._rate(now):,.0f} tokens/s{self._left(now)}"
        self._live.update(self._bar, status=status)
        if not self._console.is_terminal and now - self._last_line >= _LINE_EVERY_S:
            self._last_line = now
            self._say(f"  ... {status}")

    def workers_advanced(self, workers: Sequence[WorkerProgress]) -> None:
        """Update the live bar every few seconds; elsewhere a line now and then, which names each worker."""
        now = time.monotonic()
        is_live = self._console.is_terminal
        if not workers or now - self._workers_seen_at < (_WORKERS_EVERY_S if is_live else _LINE_EVERY_S):
            return
        seconds = now - self._workers_seen_at
        rates = {worker.name: (worker.tokens - self._workers.get(worker.name, 0)) / seconds for worker in workers}
        count = f"{len(workers)} worker{'s' if len(workers) != 1 else ''}"
        texts = sum(worker.texts for worker in workers)
        status = f"{texts:,} texts, {sum(rates.values()):,.0f} tokens/s{self._left(now)}"
        self._live.update(self._bar, description=count, status=escape(status))
        self._workers, self._workers_seen_at = {worker.name: worker.tokens for worker in workers}, now
        if not is_live:
            each = (
                f"{worker.name}: {worker.doing or 'idle'}, {rates[worker.name]:,.0f} tokens/s" for worker in workers
            )
            self._say(f"  ... {count}, {status} ({'; '.join(each)})")

    def notice(self, sentence: str) -> None:
        """One line."""
        self._say(f"note: {sentence}")

    def job_ended(self, job: Job, record: JobRecord) -> None:
        """One line a job."""
        self._n_ended += 1
        self._live.update(self._bar, completed=self._n_ended, status="")
        count = f"[{self._n_ended}/{self._n_jobs}]"
        if record.state == "done" and record.main_score is not None:
            seconds = f" ({record.timing.total_s:.1f} s)" if record.timing else ""
            self._say(f"{count} {job.name}: {100 * record.main_score:.2f} {record.metric}{seconds}")
            for warning in record.warnings:
                self._say(f"      warning: {warning}")
            for what, found in record.counts.items():
                self._say(f"      noticed in the data: {found:,} {what}")
        else:
            message = record.error.message if record.error else "no score"
            self._console.print(escape(shown(f"{count} {job.name}: failed: {message}")), style="red", soft_wrap=True)

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._console.print(escape(shown(line)), highlight=False, soft_wrap=True)

    def _rate(self, now: float) -> float:
        return self._tokens / max(now - self._job_started, 1e-9)

    def _left(self, now: float) -> str:
        """Time left, from the jobs that ran so far."""
        ran = self._n_ended - (self._n_jobs - self._n_to_run)
        if ran < 1:
            return ""
        left = (self._n_to_run - ran) * (now - self._started) / (ran + 0.5)
        return f", about {left / 60:.0f} min left" if left >= 90 else f", about {left:.0f} s left"
