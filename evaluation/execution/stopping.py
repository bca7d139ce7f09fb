"""Ctrl-C and SIGTERM while a run goes on: they stop work at once, but never a write in hand."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Takes both signals for the time of a `with` block and turns them into KeyboardInterrupt.

    It is raised at once inside `allowed()`; one that comes elsewhere is kept until the next `allowed()` or the end of
    the block. Outside the main thread, where Python delivers no signals, nothing is changed.

    Attributes:
        came: Whether one came, be it that a library swallowed the exception.
    """

    def __init__(self) -> None:
        self.came = False
        self._allowed = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._take) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.came and kind is None:
            raise KeyboardInterrupt

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Work that may be stopped anywhere."""
        self._allowed = True
        try:
            if self.came:
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        if self._allowed:
            raise KeyboardInterrupt
