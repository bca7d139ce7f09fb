"""What all commands share: --version, errors as sentences with the right exit code, and output that may be lost."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Annotated, Any

import typer

from evaluation.commands.display import take_closed_descriptors
from evaluation.errors import EvaluationError, UnwritableError, UsageError
from evaluation.system.atomic_files import reason
from evaluation.system.inert_text import for_terminal
from evaluation.system.plain_output import PLAIN
from evaluation.system.redaction import hide

_INTERRUPTED, _CLOSED_PIPE = 130, 141  # the codes that shells use


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"e5-evaluation {metadata.version('e5-evaluation')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
]
"""The option --version of every command: declare `version: Version = False`."""


def command_app(**options: Any) -> typer.Typer:
    """Returns an app with the settings that all commands share; `options` go to Typer."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **options)


def command_line(app: typer.Typer, name: str) -> Callable[[], None]:
    """Returns a command's entry point, which turns our errors into sentences on stderr and an exit code."""

    def main() -> None:
        os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported, which torch does
        _guard_streams()
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


class _LossyFile(io.FileIO):
    """A file descriptor whose failing writes are dropped, so that a full disk or a closed pipe stops no work.

    Attributes:
        failure: The first write's error.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes, or pretends to once a write has failed."""
        try:
            return super().write(data) if self.failure is None else len(data)
        except OSError as error:
            self.failure = error
            return len(data)


class _Output(io.TextIOWrapper):
    """Standard output or error, without secrets."""

    def write(self, text: str) -> int:
        """Writes text with its secrets hidden."""
        super().write(hide(text))
        return len(text)


_guarded: list[_LossyFile] = []


def _guard_streams() -> None:
    """Makes standard output and error lossy; those that were closed (`>&-`) lead nowhere."""
    take_closed_descriptors()
    if sys.stdout is sys.__stdout__:
        sys.stdout = _lossy(1)
        _guarded[:] = [sys.stdout.buffer.raw]  # type: ignore[attr-defined]
    if sys.stderr is sys.__stderr__:
        sys.stderr = _lossy(2)


def _lossy(number: int) -> io.TextIOWrapper:
    before = sys.__stdout__ if number == 1 else sys.__stderr__
    file = _LossyFile(number, "w", closefd=False)
    return _Output(
        io.BufferedWriter(file),
        encoding=before.encoding if before else "utf-8",
        errors=PLAIN,
        line_buffering=number == 2 or file.isatty(),
    )


def check_output() -> None:
    """For a command whose whole result is on standard output: fails if it did not arrive.

    Raises:
        OutputClosedError: The reader closed the pipe; the command ends with code 141.
        UnwritableError: Standard output can't be written for another reason, such as a full disk.
    """
    sys.stdout.flush()
    for file in _guarded:
        if isinstance(file.failure, BrokenPipeError):
            raise OutputClosedError
        if file.failure is not None:
            raise UnwritableError(f"the output can't be written: {reason(file.failure)}.")


def _complain(name: str, message: str) -> None:
    lines = [shown(line) for line in message.split("\n") if line] or ["failed."]
    if len(lines) == 1:
        typer.echo(f"{name}: {lines[0]}", err=True)
        return
    typer.echo(f"{name}: {len(lines)} faults:", err=True)
    for line in lines:
        typer.echo(f"  {line}", err=True)
