"""The command write-report: stored runs -> a self-contained HTML page, and its charts as vector images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluation.commands.console import Version, command_app, command_line, writing_to
from evaluation.errors import UsageError

app = command_app()


@app.command()
def write_report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, such as results/quickstart.", metavar="RUN...")],
    output: Annotated[Path, typer.Option(metavar="FILE", help="The HTML file to write.")],
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write every chart as SVG and PDF to this folder.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="The model that the others are compared with; default: the first."),
    ] = None,
    version: Version = False,
) -> None:
    """Write a report that needs no network: the answer, tables, charts, the text that models received, provenance.

    Models with different protocols are shown side by side and marked. Exit codes: 0 done, 2 wrong usage or runs that
    can't be compared.
    """
    if output.is_dir():
        raise UsageError(f"--output {output} is a folder; name a file, such as {output / 'report.html'}.")
    if figures is not None and figures.exists() and not figures.is_dir():
        raise UsageError(f"--figures {figures} is a file; name a folder.")
    from evaluation.analysis.report.report import write_report as write

    with writing_to("--output" if figures is None else "--output, --figures"):
        file = write(runs, output, figures=figures, baseline=baseline)
    typer.echo(f"Report: {file}")
    if figures is not None:
        typer.echo(f"Figures: {figures}")


main = command_line(app, "write-report")
