"""The options of check-regression: judges a run against a baseline, with an exit code for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluation.commands.console import Version, command_app, command_line

app = command_app()


@app.command()
def check_regression(
    run: Annotated[Path, typer.Argument(help="The run folder, such as results/quickstart.", metavar="RUN")],
    baseline: Annotated[
        Path, typer.Option(metavar="RUN_OR_FILE", help="Another run folder, or a file written with --update-baseline.")
    ],
    max_drop: Annotated[
        float, typer.Option(metavar="POINTS", help="Points that a task may lose before it fails.")
    ] = 1.0,
    alpha: Annotated[
        float, typer.Option(metavar="A", help="Significance level of the tests, after Holm's correction.")
    ] = 0.05,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the verdicts as JUnit XML.")] = None,
    summary: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the verdicts as Markdown.")] = None,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Write the run to the baseline file instead of judging it.")
    ] = False,
    version: Version = False,
) -> None:
    """Tell regressions of RUN from noise, with tests on the samples behind its scores.

    The output states the rule. Exit codes: 0 no regression, 1 a regression, or a task that is missing, failed or not
    comparable, 2 wrong usage or a file that can't be used.
    """
    from evaluation.commands.check_regression.gate import GateFiles, gate, update

    files = GateFiles(run, baseline, junit, summary)
    if update_baseline:
        update(files, max_drop=max_drop, alpha=alpha)
    else:
        gate(files, max_drop=max_drop, alpha=alpha)


main = command_line(app, "check-regression")
