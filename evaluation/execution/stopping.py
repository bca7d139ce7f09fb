"""Handles Ctrl-C and SIGTERM during a run: they stop work at once, but never interrupt a write."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Turns both signals into KeyboardInterrupt within a `with` block.

    The exception is raised at once inside `allowed()`; a signal that arrives elsewhere is kept until the next
    `allowed()` or the end of the block. Outside the main thread, where Python delivers no signals, nothing changes.

    Attributes:
        came: Whether a signal arrived, even if a library swallowed the exception.

    >>> with StopSignals() as signals:
    ...     with signals.allowed():
    ...         pass  # work that may be interrupted anywhere
    """

    def __init__(self) -> None:
        self.came = False
        self._allowed = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
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
        """Marks work that may be interrupted anywhere."""
        self._allowed = True
        try:
            if self.came:
                raise KeyboardInterrupt
            yield
        finally:
            self._allowed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        if self._allowed:
            raise KeyboardInterrupt
