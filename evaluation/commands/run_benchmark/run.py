"""The heavy half of run-benchmark: silences libraries, runs the config, prints its table and writes its summaries."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from evaluation.analysis.comparison.columns import ScoredModel, models_of
from evaluation.analysis.comparison.comparability import faults
from evaluation.analysis.comparison.compare import compare_models
from evaluation.analysis.comparison.types import ComparisonOptions
from evaluation.analysis.frame import SUMMARY_COLUMNS, summary_rows
from evaluation.analysis.number_formats import counted
from evaluation.analysis.run_view import RunView, read_run_view
from evaluation.analysis.tables.comparison_table import comparison_tables
from evaluation.analysis.tables.csv_json import csv_of
from evaluation.analysis.tables.formats import render_markdown
from evaluation.analysis.tables.table import Table
from evaluation.analysis.tables.terminal import print_tables
from evaluation.commands.console import shown
from evaluation.commands.display import output_failure
from evaluation.commands.run_benchmark.progress import ConsoleReporter, failure_of
from evaluation.config.run_config import RunConfig
from evaluation.config.stored_forms import PLAIN
from evaluation.errors import UsageError
from evaluation.jobs import build_jobs
from evaluation.records.store import RunStore
from evaluation.system.atomic_files import write_text

if TYPE_CHECKING:
    from evaluation.execution.reporting import RunOutcome
    from evaluation.execution.runner import RunOptions
    from evaluation.planning.parts import Part

_LOG = logging.getLogger(__name__)
_SOME_FAILED = 3


def run_and_report(config: RunConfig, options: RunOptions, *, lock: Path | None = None, quiet: bool = False) -> None:
    """Runs a config, prints its table and writes its summaries. Losing standard output or error stops nothing.

    Args:
        options: Which part of the config to run.
        lock: The lock file that data and models must match.
        quiet: Print the table and errors only.

    Raises:
        typer.Exit: Some jobs failed (exit code 3).
    """
    log_to(config.run_folder / log_file(options.part))
    from evaluation.execution.runner import run

    if lock is not None:
        from evaluation.execution.downloads import locked_config

        config = locked_config(config, build_jobs(config, only=options.only, models=options.models), lock)
    messages = Console(stderr=True)
    with _warnings_shown(messages), _Reporter(messages, quiet=quiet) as reporter:
        outcome = run(config, options, reporter)
    print_tables(reporter.tables, Console())
    failure = output_failure()
    if failure is not None and not isinstance(failure, BrokenPipeError):
        text = f"warning: the table can't be printed ({failure}); it is in {outcome.folder / 'summary.md'}."
        messages.print(shown(text), highlight=False, soft_wrap=True, markup=False)
    _conclude(messages, outcome, quiet=quiet)
    if reporter.next_command and not quiet:
        text = shown(f"Whether the loss of each stored form is real: {reporter.next_command}")
        messages.print(text, highlight=False, soft_wrap=True, markup=False)
    if outcome.failed:
        raise typer.Exit(_SOME_FAILED)


class _Reporter(ConsoleReporter):
    """Shows the run and writes its summaries.

    Attributes:
        tables: The comparison of the jobs of this start, once they have ended.
        next_command: What tests the loss of stored forms; empty without any.
    """

    tables: Sequence[Table] = ()
    next_command = ""

    def loading(self) -> None:
        """Says so, and silences the libraries."""
        if not self._quiet:
            self._console.print("run-benchmark: loading libraries, then the models ...", highlight=False)
        quieten_libraries()

    def run_ended(self, outcome: RunOutcome) -> None:
        view = read_run_view(outcome.folder, skip_damaged=True)
        unchanged = outcome.n_executed == 0 and not outcome.is_part and not outcome.jobs_changed
        whole = write_summaries(view, only_stored=unchanged)
        keys = {(record.label, record.task) for record in outcome.records}
        self.next_command = judging_command(view)
        self.tables = whole if keys == {(job.label, job.task) for job in view.jobs} else run_tables(view, keys)


def log_file(part: Part | None) -> str:
    """Returns the name of the log; parts that run at the same time have logs of their own."""
    return "run.log" if part is None else f"run.{part.number}-of-{part.n_parts}.log"


def log_to(log_file: Path) -> None:
    """Sends logs and warnings to a file.

    Raises:
        UsageError: The file's folder can't be written.
    """
    above = next(folder for folder in log_file.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UsageError(f"{log_file.parent} can't be written: {above} is not a folder that this user may write to.")
    handler = _LateFile(log_file, encoding="utf-8", errors="backslashreplace", delay=True)
    handler.setFormatter(_Redacting("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)


def quieten_libraries() -> None:
    """Imports datasets and transformers, passes their logs and mteb's on, and turns off their progress bars."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("DISABLE_TQDM", "1")  # bm25s
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()
    for name in ("datasets", "transformers", "huggingface_hub", "sentence_transformers", "mteb"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True


class _LateFile(logging.FileHandler):
    """A log file whose folder is created with the first line, so that a config that is refused leaves nothing behind.

    A log that can't be written, such as on a full disk, neither stops the run nor prints a traceback.
    """

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignores the error."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class _Redacting(logging.Formatter):
    """Formats lines without secrets and control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))


class _ToConsole(logging.Handler):
    """Shows our own warnings, such as those about damaged files."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(f"warning: {shown(record.getMessage())}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _warnings_shown(console: Console) -> Iterator[None]:
    logger, handler = logging.getLogger("evaluation"), _ToConsole(console)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def run_tables(view: RunView, keys: Collection[tuple[str, str]] | None = None) -> Sequence[Table]:
    """The comparison of a run's own models, without intervals; none where there are none.

    A model that ran under e5 and under none is compared with itself under none.

    Args:
        keys: (label, task) of the jobs to show; None: all.
    """
    models = models_of(view, keys)
    if not models:
        return ()
    options = ComparisonOptions(intervals=False)
    return comparison_tables(compare_models(models, baseline=_without_prefix(models), mixed=True, options=options))


def judging_command(view: RunView) -> str:
    """Returns the command that judges the losses of a run's stored forms; empty without any."""
    if all(record.stored == PLAIN for record in view.records):
        return ""
    models = models_of(view)
    mixed = faults(models, list(dict.fromkeys(task for model in models for task in model.tasks)))
    return shlex.join(["compare-results", str(view.folder), *(["--mixed"] if mixed else [])])


def _without_prefix(models: Sequence[ScoredModel]) -> str | None:
    """The label of the one model under none whose weights also ran under e5."""
    weights = {m.label: origin.weights_sha256 for m in models for r in m.records[:1] if (origin := r.provenance.model)}
    prefixed = {weights.get(model.label) for model in models if model.protocol == "e5"} - {None}
    bare = [model.label for model in models if model.protocol == "none" and weights.get(model.label) in prefixed]
    return bare[0] if len(bare) == 1 else None


def write_summaries(view: RunView, *, only_stored: bool) -> Sequence[Table]:
    """Writes summary.csv, a row per job, split and subset, and summary.md, the tables, which it returns.

    Args:
        only_stored: No job ran now and the run lists the same jobs as before, so that a file that differs was damaged
            or never finished; a warning says so.
    """
    tables = run_tables(view)
    for name, text in {
        "summary.csv": csv_of(summary_rows(view.records), SUMMARY_COLUMNS),
        "summary.md": render_markdown(tables),
    }.items():
        file = view.folder / name
        if only_stored and file.exists() and file.read_bytes() != text.encode("utf-8", "replace"):
            _LOG.warning("%s did not match the stored records; it was written again.", file)
        write_text(file, text)
    return tables


def _conclude(messages: Console, outcome: RunOutcome, *, quiet: bool) -> None:
    """Prints how many jobs ran, of a part also how many of the run wait, and names each failed job with its error."""
    if quiet and not outcome.failed:
        return
    done = len(outcome.records) - len(outcome.failed)
    failed = f", {len(outcome.failed)} failed" if outcome.failed else ""
    ran = f"{counted(outcome.n_executed, 'job')} run now, {done} of {len(outcome.records)}"
    line = f"{ran} {'has' if done == 1 else 'have'} a score{failed}: {outcome.folder}"
    messages.print(line, highlight=False, soft_wrap=True, markup=False)
    if outcome.is_part:
        listed = RunStore(outcome.folder).read_run().jobs
        waiting = sum(job.state == "waiting" for job in listed)
        wait = "waits" if waiting == 1 else "wait"
        line = f"{waiting} of the run's {counted(len(listed), 'job')} {wait} for other parts."
        messages.print(line if waiting else "No job of the run is waiting: all parts are done.", highlight=False)
    for record in outcome.failed:
        text = shown(f"  {record.label} on {record.task}: {failure_of(record)}")
        messages.print(text, highlight=False, soft_wrap=True, markup=False)
    if outcome.failed:
        messages.print(
            "Fix what the errors name, then run the same command again: it repeats only the failed jobs.",
            soft_wrap=True,
        )
