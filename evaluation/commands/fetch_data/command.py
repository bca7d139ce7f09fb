"""The options of fetch-data: downloads what a config needs, with a lock file beside it, and published scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluation.commands.console import CONFIG, Version, command_app, command_line
from evaluation.errors import UsageError

app = command_app()


@app.command()
def fetch_data(
    config: Annotated[Path | None, CONFIG] = None,
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
    published: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Clone mteb's results repository into DIR (needs git), for `compare-results RUN --published DIR`.",
        ),
    ] = None,
    version: Version = False,
) -> None:
    """Fetch the models and datasets of CONFIG into the Hub's cache (HF_HOME), for machines without a network.

    Fetches only files that a run reads, keeps what is in the cache, and resumes interrupted downloads. Writes revisions
    and file hashes to a lock file, CONFIG's name with .lock.json, which `run-benchmark --locked` enforces.
    """
    if config is None and published is None:
        raise UsageError("name a config, such as configs/quickstart.yaml, or add --published DIR.")
    if published is not None:
        from evaluation.commands.fetch_data.fetch import fetch_published

        fetch_published(published)
    if config is None:
        return
    from evaluation.config.loading import load_config

    loaded = load_config(config, overrides=set_ or [])
    from evaluation.jobs import build_jobs

    jobs = build_jobs(loaded, only=only or (), models=model or ())
    from evaluation.commands.fetch_data.fetch import fetch_and_lock

    fetch_and_lock(loaded, jobs, config, is_whole=not only and not model, sizes_only=sizes)


main = command_line(app, "fetch-data")
