"""run-benchmark: a config file -> stored results and a table."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from evaluation.commands.console import CONFIG, Version, check_output, command_app, command_line, shown
from evaluation.errors import Interrupted, UsageError

app = command_app()


@app.command()
def run_benchmark(
    config: Annotated[Path, CONFIG],
    output: Annotated[Path | None, typer.Option(help="Folder of run folders; replaces the config's output.")] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Run tasks that match; repeatable.")] = None,
    model: Annotated[list[str] | None, typer.Option(metavar="LABEL", help="Run these models; repeatable.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run stored jobs again.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another process that uses the run's folder.")] = False,
    part: Annotated[
        str | None,
        typer.Option(metavar="K/N", help="Run part K of N parts of the jobs; auto: as a Slurm array's task."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the config, such as runtime.device=cpu."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what the run will cost, and run nothing.")] = False,
    max_hours: Annotated[
        float | None, typer.Option(metavar="H", min=0, help="Take only jobs that fit into H hours, the shortest first.")
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(metavar="DEVICE[:PRICE]", help="With --plan: time and cost on a card, such as a100:1.89."),
    ] = None,
    locked: Annotated[
        bool, typer.Option("--locked", help="Refuse data and models that are not exactly what fetch-data locked.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the table and errors only.")] = False,
    version: Version = False,
) -> None:
    """Score the models of CONFIG on its tasks, store everything, print a table.

    A second start runs only what is missing. Exit codes: 0 done, 2 wrong usage or config, 3 some jobs failed,
    130 interrupted.
    """
    if locked and (plan or on is not None):
        raise UsageError("--locked can't be combined with --plan or --on, which run nothing.")
    if not quiet:
        typer.echo(shown(f"run-benchmark: reading {config} ..."), err=True)
    from evaluation.config.loading import load_config

    overrides = list(set_ or [])
    if output is not None:
        overrides.append(f"output={json.dumps(str(output), ensure_ascii=False)}")  # JSON text is YAML text
    loaded = load_config(config, overrides=overrides)
    share, chosen = None, None
    if part is not None:
        from evaluation.planning.parts import parse_part

        share = parse_part(part, os.environ)
    if plan or max_hours is not None or on is not None:
        from evaluation.commands.run_benchmark.plan import fitting, parse_device, plan_run, print_plan
        from evaluation.jobs import build_jobs
        from evaluation.planning.parts import jobs_of_part

        device = None if on is None else parse_device(on)
        jobs = build_jobs(loaded, only=only or (), models=model or ())
        if share is not None:
            jobs = jobs_of_part(loaded, jobs, share)
        cost = plan_run(loaded, jobs, fresh=fresh)
        chosen = None if max_hours is None else fitting(cost, max_hours, device)
        if plan or on is not None:
            print_plan(cost, device, chosen)
            check_output()
            return
    try:
        from evaluation.commands.run_benchmark.run import run_and_report
        from evaluation.execution.runner import RunOptions
        from evaluation.hub.lock import lock_file

        options = RunOptions(tuple(only or ()), tuple(model or ()), fresh, wait, chosen, share)
        run_and_report(loaded, options, lock=lock_file(config) if locked else None, quiet=quiet)
    except KeyboardInterrupt:
        stored = f"finished jobs are stored in {loaded.run_folder}"
        raise Interrupted(f"interrupted; {stored}. Run the same command again to continue.") from None


main = command_line(app, "run-benchmark")
