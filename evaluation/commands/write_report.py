"""write-report: stored runs -> one self-contained HTML page, and the charts as vector images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluation.commands.console import command_line, print_version, writing_to
from evaluation.errors import UsageError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def write_report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, such as results/quickstart.", metavar="RUN...")],
    output: Annotated[Path, typer.Option(help="The HTML file to write.")],
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write every chart as SVG and PDF into this folder.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Compare the other models with this one; default: the first.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Write a report that needs no network: the answer, tables, charts, what text reached the models, provenance.

    Models of different protocols are set side by side and marked so. Exit codes: 0 done, 2 wrong usage or runs that
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
