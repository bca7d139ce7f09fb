"""export-results: a run for others: MTEB's results repository, a model card, TREC tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from evaluation.commands.console import command_line, print_version, writing_to
from evaluation.errors import UsageError
from evaluation.records.store import RUN_FILE

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def export_results(
    run: Annotated[Path, typer.Argument(help="A run's folder, such as results/quickstart.", metavar="RUN")],
    to: Annotated[Literal["mteb", "model-card", "trec"], typer.Option(help="For whom.")],
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write; by default export-<to> in the run's folder.")
    ] = None,
    experiment: Annotated[
        bool, typer.Option("--experiment", help="With --to mteb: also other protocols, as mteb's experiments.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hand the results of RUN over.

    mteb: the folder for a pull request to embeddings-benchmark/results, checked with mteb's own classes; local data,
    4-bit weights and limited runs are refused, and so is any protocol but mteb unless --experiment. model-card: the
    model-index block for each model. trec: run files.
    """
    if not (run / RUN_FILE).is_file():
        raise UsageError(f"{run} is no run folder: it holds no {RUN_FILE}.")
    target = output or run / f"export-{to}"
    if experiment and to != "mteb":
        raise UsageError(f"--experiment belongs to --to mteb, not to --to {to}.")
    with writing_to("--output"):
        files, notes = _written(run, to, target, experiment=experiment)
    for note in notes:
        typer.echo(note)
    typer.echo(f"{len(files)} file{'s' if len(files) != 1 else ''} in {target}")


def _written(run: Path, to: str, target: Path, *, experiment: bool) -> tuple[list[Path], list[str]]:
    """The files, and what a person should know of them."""
    if to == "mteb":
        from evaluation.adapters.mteb_export import export_for_mteb

        exported = export_for_mteb(run, target, experiment=experiment)
        return exported.files, exported.notes
    from evaluation.analysis.handover.exports import write_model_cards, write_trec

    return (write_trec if to == "trec" else write_model_cards)(run, target), []


main = command_line(app, "export-results")
