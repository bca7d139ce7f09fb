"""Output streams without secrets, whose loss does not matter: a closed pipe or a full disk never stops work."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Any, TextIO, cast

from evaluation.system.plain_output import PLAIN
from evaluation.system.redaction import hide


class LosableStream:
    """A text stream that hides secrets, and drops what it can't write.

    Args:
        stream: The stream to write to.

    Attributes:
        fault: The error of the write that failed; None before.

    >>> LosableStream(open("/dev/full", "w")).write("lost")  # doctest: +SKIP
    4
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.fault: Exception | None = None

    def write(self, text: str) -> int:
        """Writes text, or drops it once a write has failed."""
        if self.fault is None:
            try:
                self._stream.write(hide(text))
            except (OSError, ValueError) as error:  # ValueError: the stream is closed
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Writes what is buffered, or drops it."""
        if self.fault is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def _lose(self, error: Exception) -> None:
        """Points a standard stream to the null device, so that Python's last flush does not fail either."""
        self.fault = error
        if self._stream in (sys.__stdout__, sys.__stderr__) and not self._stream.closed:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def protect_display() -> None:
    """Makes standard error losable, and keeps the numbers of closed standard streams from going to other files."""
    take_closed_descriptors()
    sys.stdout = sys.stdout or _null_stream()  # None where it was closed before Python started
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=PLAIN)
    sys.stderr = cast(TextIO, LosableStream(sys.stderr or _null_stream()))


def take_closed_descriptors() -> None:
    """Points standard streams that were closed (`>&-`) to the null device.

    Otherwise the next file to be opened would get their number, and a library's output with it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one


def _null_stream() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - lives as long as the process
