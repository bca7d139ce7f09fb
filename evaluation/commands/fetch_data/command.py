"""fetch-data: everything that a config needs from the Hub, into its cache, with a lock beside the config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluation.commands.console import command_line, print_version

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def fetch_data(
    config: Annotated[Path, typer.Argument(help="The YAML config, such as configs/quickstart.yaml.", metavar="CONFIG")],
    only: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Fetch for these tasks; repeatable.")] = None,
    model: Annotated[list[str] | None, typer.Option(metavar="LABEL", help="Fetch these models; repeatable.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the config.")
    ] = None,
    sizes: Annotated[bool, typer.Option("--sizes", help="Say what would be fetched, and fetch nothing.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Bring the models and datasets of CONFIG into the Hub's cache (HF_HOME), for machines without a network.

    Only files that will be read are fetched; what is there is kept, and a download that was cut off goes on. A lock of
    revisions and file hashes is written to CONFIG's name with .lock.json; `run-benchmark --locked` holds to it.
    """
    from evaluation.config.loading import load_config

    loaded = load_config(config, overrides=set_ or [])
    from evaluation.jobs import build_plan

    jobs = build_plan(loaded, only=only or (), models=model or ())
    from evaluation.commands.fetch_data.fetch import fetch_and_lock

    fetch_and_lock(loaded, jobs, config, is_whole=not only and not model, sizes_only=sizes)


main = command_line(app, "fetch-data")
