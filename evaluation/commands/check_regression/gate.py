"""The work of check-regression: reads runs, judges them, prints and writes the verdicts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console

from evaluation.analysis.gate.baseline_file import baseline_bytes, is_baseline, load_baseline
from evaluation.analysis.gate.check import check_regression, read_baseline
from evaluation.analysis.gate.detectable_drops import measure_pilot
from evaluation.analysis.gate.junit import render_junit
from evaluation.analysis.gate.rule import GateReport, GateRule
from evaluation.analysis.gate.series import check_series
from evaluation.analysis.gate.snapshots import Snapshot, check_complete, read_run
from evaluation.analysis.gate.verdicts import judge
from evaluation.analysis.number_formats import counted
from evaluation.analysis.tables.gate_text import gate_markdown, gate_table, headline, remarks, workflow_commands
from evaluation.analysis.tables.terminal import print_tables
from evaluation.commands.console import writing_to
from evaluation.errors import UsageError
from evaluation.system.atomic_files import reason, write_atomically, write_text
from evaluation.system.inert_text import on_one_line
from evaluation.system.redaction import hide

_REGRESSION = 1


@dataclass(frozen=True, slots=True)
class GateFiles:
    """What the command reads and writes.

    Raises:
        UsageError: Two of the files are the same.
    """

    run: Path
    baseline: Path
    junit: Path | None
    summary: Path | None

    def __post_init__(self) -> None:
        given = [file.absolute() for file in (self.baseline, self.junit, self.summary) if file is not None]
        if len(set(given)) < len(given):
            raise UsageError("--baseline, --junit and --summary name the same file: give each its own.")

    @classmethod
    def given(cls, run: Path | None, baseline: Path | None, junit: Path | None, summary: Path | None) -> GateFiles:
        """Returns the files as given on the command line.

        Raises:
            UsageError: RUN or --baseline is missing, or two of the files are the same.
        """
        if run is None:
            raise UsageError("Missing argument 'RUN': name the run's folder, such as results/quickstart.")
        if baseline is None:
            raise UsageError("Missing option '--baseline': name another run's folder or a baseline file.")
        return cls(run, baseline, junit, summary)


def gate(files: GateFiles, *, max_drop: float, alpha: float, require_conclusive: bool) -> None:
    """Judges, prints and writes.

    Raises:
        UsageError: Something given cannot be used.
        typer.Exit: With code 1 where the gate fails.
    """
    report = check_regression(
        files.run, files.baseline, max_drop=max_drop, alpha=alpha, require_conclusive=require_conclusive
    )
    _conclude(files, report)


def gate_series(files: GateFiles, *, max_drop: float, alpha: float, require_conclusive: bool) -> None:
    """Judges the newest checkpoint of a run's series, prints and writes; the baseline of `files` is not read.

    Raises:
        UsageError: Something given cannot be used.
        typer.Exit: With code 1 where the gate fails.
    """
    _conclude(files, check_series(files.run, max_drop=max_drop, alpha=alpha, require_conclusive=require_conclusive))


def _conclude(files: GateFiles, report: GateReport) -> None:
    if files.junit is not None:
        _write("--junit", files.junit, render_junit(report).decode())
    if files.summary is not None:
        _write_summary(files.summary, gate_markdown(report))
    _print(report)
    if not report.passed:
        raise typer.Exit(_REGRESSION)


def update(files: GateFiles, pilot: Path | None, *, max_drop: float, alpha: float) -> None:
    """Writes the run as the baseline file, and shows what that changes.

    Args:
        files: What to read and write.
        pilot: Another checkpoint's run, whose differences are stored for planning; None: without.
        max_drop: Of the gate that shows what changes.
        alpha: Likewise.

    Raises:
        UsageError: The run is not complete, the file is not one to overwrite, or the pilot shares no task with the run.
    """
    rule = GateRule(max_drop, alpha)
    if files.junit is not None or files.summary is not None:
        raise UsageError("--update-baseline judges nothing: leave out --junit and --summary.")
    before = _replaced(files.baseline)
    run = read_run(files.run)
    check_complete(run, str(files.run))
    if before is not None:
        _print(judge(before, run, rule))
    data = baseline_bytes(run, measure_pilot(run, read_baseline(pilot), str(pilot)) if pilot is not None else None)
    with writing_to("--baseline"):
        write_atomically(files.baseline, lambda path: path.write_bytes(data))
    what = f"{counted(len(run.jobs), 'job')}, {len(data) / 1024:.0f} KiB"
    typer.echo(f"Baseline written: {files.baseline} ({what}). Review and commit it like code.")


def _replaced(file: Path) -> Snapshot | None:
    """Returns the baseline that is about to be replaced; None where there is none, or only a damaged one."""
    if file.is_dir():
        raise UsageError(f"{file} is a folder: --update-baseline writes a file, such as results/baselines/suite.json.")
    if not file.exists():
        return None
    if not is_baseline(file):
        raise UsageError(f"{file} is not a baseline file and is not overwritten: give another name, or remove it.")
    try:
        return load_baseline(file)
    except UsageError as error:
        typer.echo(f"Replaced: {error}", err=True)
        return None


def _print(report: GateReport) -> None:
    console = Console()
    print_tables([gate_table(report)], console)
    plain = ["", *remarks(report), "", "Rule:", *(f"  {line}" for line in report.rule.sentences())]
    plain += [*report.notes, "", headline(report)]
    for line in plain:
        console.print(on_one_line(line), highlight=False, soft_wrap=True, markup=False)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in workflow_commands(report):
            typer.echo(line)


def _write_summary(file: Path, text: str) -> None:
    """Writes the summary; appends to the job page of GitHub Actions, which may hold what earlier commands said."""
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if page and Path(page).absolute() == file.absolute():
        try:
            with file.open("a", encoding="utf-8") as stream:
                stream.write(hide(text))
        except OSError as error:
            raise UsageError(f"--summary: {file} cannot be written: {reason(error)}.") from error
    else:
        _write("--summary", file, text)


def _write(option: str, file: Path, text: str) -> None:
    with writing_to(option):
        write_text(file, text)
