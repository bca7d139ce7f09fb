"""The options of check-regression: judges a run against a baseline, with an exit code for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluation.commands.console import RUN, Version, command_app, command_line
from evaluation.errors import UsageError

app = command_app()


@app.command()
def check_regression(
    run: Annotated[Path | None, RUN] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="RUN_OR_FILE", help="Another run folder, or a file written with --update-baseline."),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(metavar="POINTS", help="Points that a task may lose before it fails.")
    ] = 1.0,
    alpha: Annotated[
        float, typer.Option(metavar="A", help="Share of gates on equal models that may fail by chance.")
    ] = 0.05,
    require_conclusive: Annotated[
        bool, typer.Option("--require-conclusive", help="Fail where a drop beyond --max-drop is not ruled out.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the verdicts as JUnit XML.")] = None,
    summary: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the verdicts as Markdown.")] = None,
    series: Annotated[
        bool,
        typer.Option(
            "--series", help="Judge the newest checkpoint of RUN by the one before and the best; no --baseline."
        ),
    ] = False,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Write the run to the baseline file instead of judging it.")
    ] = False,
    pilot: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN_OR_FILE",
            help="With --update-baseline: another checkpoint's run, whose differences --power plans with.",
        ),
    ] = None,
    power: Annotated[
        Path | None,
        typer.Option(metavar="BASELINE", help="Print which drops a gate with this baseline will find; judge nothing."),
    ] = None,
    changed: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="With --power: share of examples that differ, in place of a pilot."),
    ] = None,
    version: Version = False,
) -> None:
    """Tell regressions of RUN from chance, with tests on the samples behind its scores.

    The output states the rule. Exit codes: 0 no regression, 1 a regression, or a task that is missing, failed or not
    comparable, 2 wrong usage or a file that can't be used.
    """
    from evaluation.commands.check_regression.gate import GateFiles, gate, gate_series, update
    from evaluation.commands.check_regression.power import print_power

    rule = {"max_drop": max_drop, "alpha": alpha}
    if power is not None:
        print_power(power, changed=changed, **rule)
        return
    if series:
        if baseline is not None or update_baseline:
            raise UsageError("--series compares checkpoints of RUN: leave out --baseline and --update-baseline.")
        files = GateFiles.given(run, run, junit, summary)
        gate_series(files, require_conclusive=require_conclusive, **rule)
        return
    files = GateFiles.given(run, baseline, junit, summary)
    if update_baseline:
        update(files, pilot, **rule)
    else:
        gate(files, require_conclusive=require_conclusive, **rule)


main = command_line(app, "check-regression")
