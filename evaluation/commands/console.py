"""What all commands share: errors as sentences with the right exit code, and --version."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata

import typer

from evaluation.errors import EvaluationError, UnwritableError, UsageError
from evaluation.system.atomic_files import reason
from evaluation.system.inert_text import for_terminal
from evaluation.system.redaction import redactor

_INTERRUPTED, _CLOSED_PIPE = 130, 141  # as shells have them


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
            try:
                app(prog_name=name, standalone_mode=True)
            finally:
                sys.stdout.flush()
        except EvaluationError as error:
            _complain(name, str(error))
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            _complain(name, "interrupted.")
            sys.exit(_INTERRUPTED)
        except BrokenPipeError:
            _forget_output()
            sys.exit(_CLOSED_PIPE)
        except OSError as error:  # such as a full disk behind standard output
            _forget_output()
            _complain(name, f"{error.filename or 'the output'} can't be written: {reason(error)}.")
            sys.exit(EvaluationError.exit_code)

    return main


@contextmanager
def writing_to(option: str) -> Iterator[None]:
    """A place that the user named and that can't be written is wrong usage.

    Raises:
        UsageError: It can't be written; the message begins with the option.
    """
    try:
        yield
    except UnwritableError as error:
        raise UsageError(f"{option}: {error}") from error


def shown(text: str) -> str:
    """Text as a terminal may receive it: without secrets, control characters as escapes."""
    return for_terminal(redactor()(text))


def _forget_output() -> None:
    """Drop what standard output still holds, so that Python's last flush does not complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(name: str, message: str) -> None:
    lines = [shown(line) for line in message.split("\n") if line] or ["failed."]
    if len(lines) == 1:
        typer.echo(f"{name}: {lines[0]}", err=True)
        return
    typer.echo(f"{name}: {len(lines)} faults:", err=True)
    for line in lines:
        typer.echo(f"  {line}", err=True)
