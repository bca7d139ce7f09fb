"""The command embedding-cache: shows how much disk space cached vectors take, and frees it."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from evaluation.commands.console import OutputClosedError, Version, check_output, command_app, command_line

app = command_app(no_args_is_help=True)


@app.callback()
def embedding_cache(version: Version = False) -> None:
    """Show, prune or clear the vectors that runs keep in the cache folder. E5_EVALUATION_CACHE moves that folder."""


@app.command()
def show() -> None:
    """List the contents of the cache, a line per model and settings."""
    from evaluation.encoding.cache_files import embeddings_dir, usage

    rows = usage()
    for row in rows:
        settings = ", ".join(str(row.identity.get(key, "?")) for key in ("backend", "pooling", "max_length", "dtype"))
        weights = str(row.identity.get("weights", "?"))[:12]
        typer.echo(f"{row.n_bytes / 2**20:10.1f} MiB  weights {weights}  {settings}  {row.n_shards} shards")
    typer.echo(f"{sum(row.n_bytes for row in rows) / 2**20:10.1f} MiB  in {embeddings_dir()}")
    with suppress(OutputClosedError):
        check_output()


@app.command()
def prune(
    max_gib: Annotated[float, typer.Option(min=0, help="GiB to keep at most.")],
) -> None:
    """Delete the vectors that have been unused for longest until the cache fits."""
    from evaluation.encoding.cache_files import prune as prune_cache

    typer.echo(f"{prune_cache(int(max_gib * 2**30)) / 2**20:.1f} MiB freed")


@app.command()
def clear() -> None:
    """Delete all vectors. Models stay."""
    from evaluation.encoding.cache_files import clear as clear_cache

    typer.echo(f"{clear_cache() / 2**20:.1f} MiB freed")


main = command_line(app, "embedding-cache")
