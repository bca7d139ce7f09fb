"""The command compare-results: stored runs and published scores -> a comparison on the terminal or in a file."""

from __future__ import annotations

import gc
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from evaluation.commands.console import Version, check_output, command_app, command_line, writing_to
from evaluation.errors import UsageError

if TYPE_CHECKING:
    from evaluation.analysis.comparison.types import Comparison
    from evaluation.analysis.tables.comparison_table import Layout

app = command_app()
_FOLDER_OPTION = "--published-folder"


class _WithPublishedFolder(TyperCommand):
    """Lets --published take a folder: a word after it that is neither an option nor a run nor a table of scores."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the command line with the folder under an option of its own."""
        arguments: list[str] = []
        for argument in args:
            if argument.startswith("--published="):
                argument = argument.replace("--published", _FOLDER_OPTION, 1)
            elif arguments[-1:] == ["--published"] and not argument.startswith("-") and not _is_run(Path(argument)):
                arguments[-1] = _FOLDER_OPTION
            arguments.append(argument)
        return super().parse_args(ctx, arguments)


def _is_run(path: Path) -> bool:
    return path.suffix == ".csv" or (path / "run.json").is_file()


class Format(StrEnum):
    """The formats of a comparison."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"


@app.command(cls=_WithPublishedFolder)
def compare_results(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Run folders, such as results/quickstart, or CSV files of published scores.", metavar="RUN..."
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="LABEL", help="The model that the others are compared with.")
    ] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="Show published scores beside the run's; without RUN, compare published scores. `--published DIR` "
            "takes mteb's results repository or ResultCache in DIR, and ranks the run's models among all of them.",
        ),
    ] = False,
    published_folder: Annotated[Path | None, typer.Option(_FOLDER_OPTION, hidden=True)] = None,
    mixed: Annotated[
        bool,
        typer.Option(
            "--mixed", help="Allow different protocols, datasets or metric versions side by side, and mark them."
        ),
    ] = False,
    format_: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TERMINAL,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write to this file instead of standard output.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB", help="Show only models that match, also among those of --published DIR; repeatable."
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Show only tasks that match; repeatable.")
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show only a benchmark's tasks, and name the missing ones.")
    ] = None,
    transpose: Annotated[bool, typer.Option("--transpose", help="Show models as rows and tasks as columns.")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="Show means and ranks only.")] = False,
    intervals: Annotated[
        bool | None,
        typer.Option("--intervals/--no-intervals", help="Show confidence intervals; default: with up to 4 models."),
    ] = None,
    margin: Annotated[
        float, typer.Option(metavar="POINTS", help="Loss of a stored form that must be ruled out, at most 100 points.")
    ] = 1.0,
    cite: Annotated[
        bool, typer.Option("--cite", help="Print one line per model that says how to cite its scores, and no table.")
    ] = False,
    caption: Annotated[
        str | None, typer.Option(metavar="LATEX", help="Caption of the LaTeX table, inserted as it is.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="KEY", help=r"Key of the LaTeX table for \ref, such as tab:scores.")
    ] = None,
    version: Version = False,
) -> None:
    """Compare the models of stored runs: scores, differences to a baseline, and their significance.

    Exit codes: 0 done, 2 wrong usage, or models that can't be compared without --mixed.
    """
    if not runs and not published and published_folder is None:
        raise UsageError("name a run folder, such as results/quickstart, or add --published.")
    if not 0 < margin <= 100:
        raise UsageError(f"--margin {margin:g}: give points of score, above 0 and at most 100, such as 1.")
    if cite and (format_ is not Format.TERMINAL or baseline is not None):
        raise UsageError("--cite prints plain lines without differences: leave out --format and --baseline.")
    if format_ is not Format.LATEX and (caption is not None or label is not None):
        raise UsageError("--caption and --label belong to a LaTeX table: add --format latex.")
    gc.set_threshold(10_000)  # most of what is read stays until the end, so looking for garbage rarely pays
    from evaluation.analysis.comparison.compare import compare
    from evaluation.analysis.comparison.types import ComparisonOptions
    from evaluation.analysis.tables.comparison_table import Layout

    options = ComparisonOptions(
        published=published if published_folder is None else published_folder,
        models=tuple(model or ()),
        only=tuple(only or ()),
        benchmark=benchmark,
        intervals=intervals is not False or baseline is not None,
        margin=margin,
    )
    comparison = compare(runs or [], baseline=baseline, mixed=mixed or cite, options=options)
    if cite:
        from evaluation.analysis.tables.citations import citations

        _write_text(citations(comparison), output)
        return
    speed = format_ is not Format.LATEX
    layout = Layout(transpose, summary, intervals, speed=speed, caption=caption, label=label)
    _write(comparison, layout, format_, output)


def _write(comparison: Comparison, layout: Layout, format_: Format, output: Path | None) -> None:
    if output is None and format_ is Format.TERMINAL:
        from rich.console import Console

        from evaluation.analysis.tables.comparison_table import comparison_tables
        from evaluation.analysis.tables.terminal import print_tables

        print_tables(comparison_tables(comparison, layout), Console())
        check_output()
    else:
        _write_text(_rendered(comparison, layout, format_), output)


def _write_text(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        check_output()
        return
    from evaluation.system.atomic_files import write_text

    with writing_to("--output"):
        write_text(output, text)


def _rendered(comparison: Comparison, layout: Layout, format_: Format) -> str:
    from evaluation.analysis.tables.comparison_table import comparison_tables
    from evaluation.analysis.tables.csv_json import comparison_csv, comparison_json
    from evaluation.analysis.tables.formats import render_latex, render_markdown
    from evaluation.analysis.tables.terminal import render_plain

    match format_:
        case Format.CSV:
            return comparison_csv(comparison)
        case Format.JSON:
            return comparison_json(comparison)
        case Format.MARKDOWN:
            return render_markdown(comparison_tables(comparison, layout))
        case Format.LATEX:
            return render_latex(comparison_tables(comparison, layout), caption=layout.caption, label=layout.label)
        case Format.TERMINAL:
            return render_plain(comparison_tables(comparison, layout))


main = command_line(app, "compare-results")
