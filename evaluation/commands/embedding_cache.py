"""embedding-cache: what the vectors on disk take, and how to get rid of them."""

from __future__ import annotations

from typing import Annotated

import typer

from evaluation.commands.console import command_line

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def embedding_cache() -> None:
    """Show, prune or clear the vectors that runs keep in the user's cache folder (E5_EVALUATION_CACHE moves it)."""


@app.command()
def show() -> None:
    """List what the cache holds, a line for each model and settings."""
    from evaluation.encoding.cache_files import embeddings_dir, usage

    rows = usage()
    for row in rows:
        settings = ", ".join(str(row.identity.get(key, "?")) for key in ("backend", "pooling", "max_length", "dtype"))
        weights = str(row.identity.get("weights", "?"))[:12]
        typer.echo(f"{row.n_bytes / 2**20:10.1f} MiB  weights {weights}  {settings}  {row.n_segments} shards")
    typer.echo(f"{sum(row.n_bytes for row in rows) / 2**20:10.1f} MiB  in {embeddings_dir()}")


@app.command()
def prune(
    max_gib: Annotated[float, typer.Option(min=0, help="Keep at most this much.")],
) -> None:
    """Drop what was unused for longest until the cache fits."""
    from evaluation.encoding.cache_files import prune as prune_cache

    typer.echo(f"{prune_cache(int(max_gib * 2**30)) / 2**20:.1f} MiB freed")


@app.command()
def clear() -> None:
    """Drop all vectors. Models stay."""
    from evaluation.encoding.cache_files import clear as clear_cache

    typer.echo(f"{clear_cache() / 2**20:.1f} MiB freed")


main = command_line(app, "embedding-cache")
