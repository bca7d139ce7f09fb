"""Standard output and error: without secrets, and a closed pipe or a full disk behind them never stops work."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO

from evaluation.system.plain_output import PLAIN
from evaluation.system.redaction import hide


class _LossyFile(io.FileIO):
    """A file descriptor that leads to the null device once a write has failed.

    Attributes:
        failure: The error of the write that failed; None before.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes, or drops the data where that fails."""
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return len(data)


class LossyStream(io.TextIOWrapper):
    """A text stream on a file descriptor that hides secrets, and drops what it can't write.

    Args:
        descriptor: The number of the descriptor, which stays open when the stream is closed.
        encoding: The encoding; characters that it lacks are written plainly.

    >>> stream = LossyStream(os.open("/dev/full", os.O_WRONLY), "utf-8")  # doctest: +SKIP
    >>> stream.write("lost"), stream.failure  # doctest: +SKIP
    (4, OSError(28, 'No space left on device'))
    """

    def __init__(self, descriptor: int, encoding: str) -> None:
        self._file = _LossyFile(descriptor, "w", closefd=False)
        by_line = descriptor == 2 or self._file.isatty()
        super().__init__(io.BufferedWriter(self._file), encoding=encoding, errors=PLAIN, line_buffering=by_line)

    @property
    def failure(self) -> OSError | None:
        """The error of the write that failed; None where everything so far arrived."""
        self.flush()
        return self._file.failure

    def write(self, text: str) -> int:
        """Writes text with its secrets hidden."""
        super().write(hide(text))
        return len(text)


def protect_display() -> None:
    """Makes standard output and error lossy, and keeps the numbers of closed streams from going to other files."""
    _take_closed_descriptors()
    sys.stdout, sys.stderr = _lossy(1, sys.stdout), _lossy(2, sys.stderr)


def output_failure() -> OSError | None:
    """Returns the error that cut standard output off; None where everything so far arrived."""
    sys.stdout.flush()
    return sys.stdout.failure if isinstance(sys.stdout, LossyStream) else None


def _take_closed_descriptors() -> None:
    """Points standard streams that were closed (`>&-`) to the null device.

    Otherwise the next file to be opened would get their number, and a library's output with it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one


def _lossy(number: int, before: TextIO | None) -> LossyStream:
    return LossyStream(number, before.encoding if before else "utf-8")  # None: it was closed before Python started
