"""compare-results: stored runs and published tables -> a comparison on the terminal or in a file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluation.commands.console import command_line, print_version, writing_to
from evaluation.errors import UsageError

if TYPE_CHECKING:
    from evaluation.analysis.comparison.compare import Comparison
    from evaluation.analysis.tables.comparison_table import Layout

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Format(StrEnum):
    """How a comparison is written."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"


@app.command()
def compare_results(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders of runs, such as results/quickstart, or tables of published scores.", metavar="RUN..."
        ),
    ] = None,
    baseline: Annotated[str | None, typer.Option(metavar="LABEL", help="Column that others are compared with.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Set published scores beside ours; without RUN, compare those.")
    ] = False,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Allow columns of different protocols, datasets or metric versions, marked.")
    ] = False,
    format_: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.TERMINAL,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write to this file.")] = None,
    model: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Keep these columns; repeatable.")] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Keep these tasks; repeatable.")] = None,
    benchmark: Annotated[
        str | None, typer.Option(metavar="NAME", help="Keep a benchmark's tasks and name those that are missing.")
    ] = None,
    transpose: Annotated[bool, typer.Option("--transpose", help="Models as rows.")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="Means and ranks only.")] = False,
    intervals: Annotated[
        bool | None, typer.Option("--intervals/--no-intervals", help="Show them; by default with up to 4 columns.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Compare the models of RUN..., as stored: scores, differences to a baseline and how sure they are.

    Exit codes: 0 done, 2 wrong usage, or columns that may not be compared without --mixed.
    """
    if not runs and not published:
        raise UsageError("name the folder of a run, such as results/quickstart, or add --published.")
    from evaluation.analysis.comparison.compare import ComparisonOptions, compare
    from evaluation.analysis.tables.comparison_table import Layout

    options = ComparisonOptions(
        published=published,
        models=tuple(model or ()),
        only=tuple(only or ()),
        benchmark=benchmark,
        intervals=intervals is not False or baseline is not None,
    )
    comparison = compare(runs or [], baseline=baseline, mixed=mixed, options=options)
    layout = Layout(models_as_rows=transpose, summary=summary, intervals=intervals)
    if output is not None:
        from evaluation.system.atomic_files import write_text

        with writing_to("--output"):
            write_text(output, _rendered(comparison, layout, format_))
    elif format_ is Format.TERMINAL:
        from rich.console import Console

        from evaluation.analysis.tables.comparison_table import comparison_tables
        from evaluation.analysis.tables.formats import print_tables

        print_tables(comparison_tables(comparison, layout), Console())
    else:
        typer.echo(_rendered(comparison, layout, format_), nl=False)


def _rendered(comparison: Comparison, layout: Layout, format_: Format) -> str:
    from evaluation.analysis.tables.comparison_table import comparison_tables
    from evaluation.analysis.tables.csv_json import comparison_csv, comparison_json
    from evaluation.analysis.tables.formats import render_latex, render_markdown, render_plain

    match format_:
        case Format.CSV:
            return comparison_csv(comparison)
        case Format.JSON:
            return comparison_json(comparison)
        case Format.MARKDOWN:
            return render_markdown(comparison_tables(comparison, layout))
        case Format.LATEX:
            return render_latex(comparison_tables(comparison, layout))
        case Format.TERMINAL:
            return render_plain(comparison_tables(comparison, layout))


main = command_line(app, "compare-results")
