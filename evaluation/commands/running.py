"""The heavy half of run-benchmark: quiet libraries, a run, its table and summary files."""

from __future__ import annotations

import logging
import os
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table as RichTable

from evaluation.analysis.tables import Table, render_markdown, score_table
from evaluation.commands.progress import ConsoleReporter
from evaluation.config import RunConfig
from evaluation.errors import StoreError
from evaluation.plan import build_plan
from evaluation.records import JobRecord, RunStore, write_text

if TYPE_CHECKING:
    from evaluation.execution.runner import RunOptions, RunOutcome

LOG_FILE = "run.log"
_SOME_FAILED = 3


def run_and_report(config: RunConfig, options: RunOptions, *, lock: Path | None = None, quiet: bool = False) -> None:
    """Run a config, print its table, write its summaries.

    Args:
        config: The config.
        options: Part of it to run.
        lock: The lock that data and models are held to.
        quiet: Print the table and errors only.

    Raises:
        typer.Exit: With code 3 where jobs failed.
    """
    quieten_libraries(config.run_folder / LOG_FILE)
    from evaluation.execution.runner import run

    if lock is not None:
        from evaluation.execution.fetching import locked_config

        config = locked_config(config, build_plan(config, only=options.only, models=options.models), lock)

    messages = Console(stderr=True)
    with ConsoleReporter(messages, quiet=quiet) as reporter:
        outcome = run(config, options, reporter)
    write_summaries(outcome.folder, RunStore(outcome.folder).current_records())
    table = score_table(outcome.records)
    print_table(table)
    _conclude(messages, outcome, quiet=quiet)
    if outcome.failed:
        raise typer.Exit(_SOME_FAILED)


def quieten_libraries(log_file: Path) -> None:
    """Send the logs and warnings of mteb, datasets, transformers to a file, and switch their progress bars off."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    above = next(folder for folder in log_file.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise StoreError(f"{log_file.parent} can't be made: {above} is not a folder that can be written.")
    handler = _LateFile(log_file, encoding="utf-8", errors="backslashreplace", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for name in ("datasets", "transformers", "huggingface_hub", "sentence_transformers", "mteb"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True


class _LateFile(logging.FileHandler):
    """A log file whose folder is made with the first line: a config that is refused leaves nothing behind."""

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()


def write_summaries(folder: Path, records: list[JobRecord]) -> None:
    """summary.csv, a row a job, split and subset, and summary.md, the table."""
    from evaluation.analysis.frame import records_frame

    write_text(folder / "summary.csv", records_frame(records).to_csv(index=False))
    write_text(folder / "summary.md", render_markdown(score_table(records)))


def print_table(table: Table) -> None:
    """The table on standard output, with means set apart."""
    console = Console()
    rich_table = RichTable(show_edge=False, pad_edge=False, header_style="bold" if console.is_terminal else "")
    for position, name in enumerate(table.header):
        rich_table.add_column(name, justify="left" if position < 2 else "right", no_wrap=position == 0)
    for position, row in enumerate(table.rows):
        rich_table.add_row(*row, end_section=position == len(table.rows) - table.n_means - 1)
    console.width = max(console.width, 200) if not console.is_terminal else console.width
    console.print(rich_table)
    for note in table.notes:
        console.print(note, highlight=False, soft_wrap=True)


def _conclude(messages: Console, outcome: RunOutcome, *, quiet: bool) -> None:
    if quiet and not outcome.failed:
        return
    done = len(outcome.records) - len(outcome.failed)
    failed = f", {len(outcome.failed)} failed" if outcome.failed else ""
    line = f"{outcome.n_executed} jobs run now, {done} of {len(outcome.records)} have a score{failed}: {outcome.folder}"
    messages.print(line, highlight=False, soft_wrap=True, markup=False)
    if outcome.failed:
        messages.print(
            "Mend what the errors name, then start the same command: it runs the failed jobs again.", soft_wrap=True
        )
