"""Shows a running suite: a live line in a terminal, plain lines elsewhere, and the same lines in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from evaluation.commands.console import shown
from evaluation.commands.run_benchmark.time_left import TimeLeft
from evaluation.execution.reporting import Reporter, WorkerProgress
from evaluation.jobs import Job
from evaluation.records.job_record import JobRecord

if TYPE_CHECKING:
    from evaluation.encoding.encoder import Progress as Step

_LOG = logging.getLogger(__name__)
_LINE_EVERY_S, _WORKERS_EVERY_S = 15.0, 5.0


class ConsoleReporter(Reporter):
    """Shows jobs, texts, tokens per second and time left. Use as a context manager.

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
        self._left = TimeLeft(0, {})
        self._job_started = self._last_line = time.monotonic()
        self._texts = self._tokens = 0  # of the current job
        self._workers: dict[str, WorkerProgress] = {}  # what was last said of each, lost workers included
        self._workers_seen_at = self._job_started

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def run_started(self, jobs: Sequence[Job], stored: int, tokens: Mapping[tuple[str, str], int]) -> None:
        """Says how much there is to do."""
        self._bar = self._live.add_task("", total=len(jobs), completed=stored, status="")
        self._n_jobs, self._n_ended = len(jobs), stored
        self._left = TimeLeft(len(jobs) - stored, tokens)
        count = f"{len(jobs)} job{'s' if len(jobs) != 1 else ''}"
        count += f", {stored} of them stored already" if stored else ""
        self._say(count + (f"; about {self._left.total:,} tokens to encode" if self._left.total else ""))

    def job_started(self, job: Job) -> None:
        """Names the job."""
        self._job_started = self._last_line = time.monotonic()
        self._texts = self._tokens = 0
        self._live.update(self._bar, description=escape(job.name))

    def advanced(self, progress: Step) -> None:
        """Updates the live bar, and writes a line now and then."""
        self._texts += progress.texts
        self._tokens += progress.tokens
        self._left.add(progress.tokens)
        now = time.monotonic()
        rate = self._tokens / max(now - self._job_started, 1e-9)
        status = f"{self._texts:,} texts, {rate:,.0f} tokens/s{self._progress()}"
        self._live.update(self._bar, status=status)
        if now - self._last_line >= _LINE_EVERY_S:
            self._last_line = now
            self._say(f"  ... {status}", is_progress=True)

    def workers_advanced(self, workers: Sequence[WorkerProgress]) -> None:
        """Updates the live bar every few seconds, and writes a line that names each worker now and then."""
        now = time.monotonic()
        seconds = now - self._workers_seen_at
        if not workers or seconds < (_WORKERS_EVERY_S if self._console.is_terminal else _LINE_EVERY_S):
            return
        before = {name: worker.tokens for name, worker in self._workers.items()}
        rates = {worker.name: (worker.tokens - before.get(worker.name, 0)) / seconds for worker in workers}
        self._workers |= {worker.name: worker for worker in workers}
        self._workers_seen_at = now
        self._left.add(sum(worker.tokens for worker in self._workers.values()) - sum(before.values()))
        texts = sum(worker.texts for worker in self._workers.values())
        count = f"{len(workers)} worker{'s' if len(workers) != 1 else ''}"
        status = f"{texts:,} texts, {sum(rates.values()):,.0f} tokens/s{self._progress()}"
        self._live.update(self._bar, description=count, status=escape(status))
        if now - self._last_line >= _LINE_EVERY_S:
            self._last_line = now
            each = (
                f"{worker.name}: {worker.doing or 'idle'}, {rates[worker.name]:,.0f} tokens/s" for worker in workers
            )
            self._say(f"  ... {count}, {status} ({'; '.join(each)})", is_progress=True)

    def notice(self, sentence: str) -> None:
        """Writes a line."""
        self._say(f"note: {sentence}")

    def job_ended(self, job: Job, record: JobRecord) -> None:
        """Writes a line per job."""
        self._n_ended += 1
        self._left.job_ended((record.label, record.task), record.timing.tokens if record.timing else 0)
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
            line = shown(f"{count} {job.name}: failed: {failure_of(record)}")
            _LOG.info("%s", line)
            self._console.print(escape(line), style="red", soft_wrap=True)

    def _say(self, line: str, *, is_progress: bool = False) -> None:
        """Logs a line and prints it; a terminal shows progress in its live bar instead."""
        _LOG.info("%s", line)
        if not self._quiet and not (is_progress and self._console.is_terminal):
            self._console.print(escape(shown(line)), highlight=False, soft_wrap=True)

    def _progress(self) -> str:
        """Returns tokens done and in total, and the time left, as far as they are known."""
        total, seconds = self._left.total, self._left.seconds()
        text = f", {self._left.done / total:.0%} of about {total:,} tokens" if total else ""
        if seconds is None:
            return text
        return text + (f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left")


def failure_of(record: JobRecord) -> str:
    """Returns the error of a failed job in one line."""
    return " ".join((record.error.message if record.error else "no score").split())
