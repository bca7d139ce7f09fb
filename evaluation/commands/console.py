"""What all commands share: errors as sentences with the right exit code, and --version."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import metadata

import typer

from evaluation.errors import EvaluationError

_INTERRUPTED = 130


def print_version(wanted: bool) -> None:
    """Callback of --version."""
    if wanted:
        typer.echo(f"e5-evaluation {metadata.version('e5-evaluation')}")
        raise typer.Exit


def command_line(app: typer.Typer, name: str) -> Callable[[], None]:
    """The entry point of a command: our errors become sentences on stderr and an exit code, without a traceback."""

    def main() -> None:
        os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported, which torch does
        try:
            app(prog_name=name, standalone_mode=True)
        except EvaluationError as error:
            _complain(name, str(error))
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            _complain(name, "interrupted.")
            sys.exit(_INTERRUPTED)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)

    return main


def _complain(name: str, message: str) -> None:
    lines = message.splitlines() or ["failed."]
    if len(lines) == 1:
        typer.echo(f"{name}: {lines[0]}", err=True)
        return
    typer.echo(f"{name}: {len(lines)} faults:", err=True)
    for line in lines:
        typer.echo(f"  {line}", err=True)
