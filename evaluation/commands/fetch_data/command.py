"""The options of fetch-data: downloads what a config needs from the Hub, and writes a lock file beside the config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluation.commands.console import Version, command_app, command_line

app = command_app()


@app.command()
def fetch_data(
    config: Annotated[Path, typer.Argument(help="The YAML config, such as configs/quickstart.yaml.", metavar="CONFIG")],
    only: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Fetch only for tasks that match; repeatable.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="Fetch only these models; repeatable.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Replace a value of the config, such as name=test; repeatable."
        ),
    ] = None,
    sizes: Annotated[bool, typer.Option("--sizes", help="Print what would be fetched, and fetch nothing.")] = False,
    version: Version = False,
) -> None:
    """Fetch the models and datasets of CONFIG into the Hub's cache (HF_HOME), for machines without a network.

    Fetches only files that a run reads, keeps what is in the cache, and resumes interrupted downloads. Writes revisions
    and file hashes to a lock file, CONFIG's name with .lock.json, which `run-benchmark --locked` enforces.
    """
    from evaluation.config.loading import load_config

    loaded = load_config(config, overrides=set_ or [])
    from evaluation.jobs import build_jobs

    jobs = build_jobs(loaded, only=only or (), models=model or ())
    from evaluation.commands.fetch_data.fetch import fetch_and_lock

    fetch_and_lock(loaded, jobs, config, is_whole=not only and not model, sizes_only=sizes)


main = command_line(app, "fetch-data")
