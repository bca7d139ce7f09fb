"""What commands share: arguments, errors as sentences with the right exit code, and output that may be lost.

Every command imports this before its first line, so it imports little itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from evaluation.commands.display import output_failure
from evaluation.errors import EvaluationError, UnwritableError, UsageError
from evaluation.system.inert_text import for_terminal
from evaluation.system.redaction import hide

_INTERRUPTED, _CLOSED_PIPE = 130, 141  # the codes that shells use


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"e5-evaluation {metadata.version('e5-evaluation')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
]
"""The option --version of every command: declare `version: Version = False`."""
RUN = typer.Argument(help="The run folder, such as results/quickstart.", metavar="RUN")
CONFIG = typer.Argument(help="The YAML config, such as configs/quickstart.yaml.", metavar="CONFIG")


def command_app(**options: Any) -> typer.Typer:
    """Returns an app with the settings that all commands share; `options` go to Typer."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **options)


def command_line(app: typer.Typer, name: str) -> Callable[[], None]:
    """Returns a command's entry point, which turns our errors into sentences on stderr and an exit code."""

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
        except OutputClosedError:
            sys.exit(_CLOSED_PIPE)
        except OSError as error:
            from evaluation.system.atomic_files import reason

            _complain(name, f"{error.filename or 'a file or connection'}: {reason(error)}.")
            sys.exit(EvaluationError.exit_code)

    return main


@contextmanager
def writing_to(option: str) -> Iterator[None]:
    """Turns a failure to write where the user asked into wrong usage.

    Raises:
        UsageError: The place can't be written; the message begins with the option.
    """
    try:
        yield
    except UnwritableError as error:
        raise UsageError(f"{option}: {error}") from error


def shown(text: str) -> str:
    """Returns text as a terminal may receive it: without secrets, control characters as escapes."""
    return for_terminal(hide(text))


# ------------------------------------------------------------------------------------------------------------- output


class OutputClosedError(Exception):
    """The reader of a command's result has closed the pipe."""


def check_output() -> None:
    """For a command whose whole result is on standard output: fails if it did not arrive.

    Raises:
        OutputClosedError: The reader closed the pipe; the command ends with code 141.
        UnwritableError: Standard output can't be written for another reason, such as a full disk.
    """
    failure = output_failure()
    if isinstance(failure, BrokenPipeError):
        raise OutputClosedError
    if failure is not None:
        from evaluation.system.atomic_files import reason

        raise UnwritableError(f"the output can't be written: {reason(failure)}.")


def _complain(name: str, message: str) -> None:
    lines = [shown(line) for line in message.split("\n") if line] or ["failed."]
    if len(lines) == 1:
        typer.echo(f"{name}: {lines[0]}", err=True)
        return
    typer.echo(f"{name}: {len(lines)} faults:", err=True)
    for line in lines:
        typer.echo(f"  {line}", err=True)
