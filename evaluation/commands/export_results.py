"""The command export-results: writes a run for MTEB's results repository, a model card or TREC tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from evaluation.commands.console import RUN, Version, command_app, command_line, writing_to
from evaluation.errors import UsageError
from evaluation.records.store import RUN_FILE

app = command_app()


@app.command()
def export_results(
    run: Annotated[Path, RUN],
    to: Annotated[Literal["mteb", "model-card", "trec"], typer.Option(help="What to write.")],
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write to; default: export-<to> in the run folder.")
    ] = None,
    experiment: Annotated[
        bool,
        typer.Option(
            "--experiment", help="With --to mteb: also export protocols other than mteb, as mteb's experiments."
        ),
    ] = False,
    version: Version = False,
) -> None:
    """Export the results of RUN.

    mteb: a folder for a pull request to embeddings-benchmark/results, checked with mteb's own classes. Local data,
    4-bit weights and limited runs are refused, and without --experiment every protocol except mteb. model-card: a
    model-index block per model, without stored forms. trec: run files.
    """
    if not (run / RUN_FILE).is_file():
        raise UsageError(f"{run} is not a run folder: it has no {RUN_FILE}.")
    target = output or run / f"export-{to}"
    if experiment and to != "mteb":
        raise UsageError(f"--experiment goes with --to mteb, not with --to {to}: leave it out.")
    with writing_to("--output"):
        files, notes = _written(run, to, target, experiment=experiment)
    for note in notes:
        typer.echo(note)
    from evaluation.analysis.number_formats import counted

    typer.echo(f"{counted(len(files), 'file')} in {target}")


def _written(run: Path, to: str, target: Path, *, experiment: bool) -> tuple[list[Path], list[str]]:
    """Returns the files, and notes on them for the user."""
    if to == "mteb":
        from evaluation.adapters.mteb_export import export_for_mteb

        exported = export_for_mteb(run, target, experiment=experiment)
        return exported.files, exported.notes
    from evaluation.analysis.handover.exports import write_model_cards, write_trec

    return (write_trec(run, target), []) if to == "trec" else write_model_cards(run, target)


main = command_line(app, "export-results")
