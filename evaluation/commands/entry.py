"""The entry points of the installed commands, which handle Ctrl-C from the start, while libraries still load.

Until a run begins there is nothing to lose, so the process ends at once: an exception would pass through the imports of
libraries, some of which swallow it or abort. `execution/stopping.py` takes over once there is work.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module

from evaluation.commands.display import protect_display

_INTERRUPTED = 130


def _entry(module: str, name: str) -> Callable[[], None]:
    """Returns the entry point of a command, which imports the command when it is called."""

    def leave(number: int, frame: object) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"{name}: interrupted; stored results stay. Run the same command again to continue.\n".encode())
        os._exit(_INTERRUPTED)

    def main() -> None:
        protect_display()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, leave)
        try:
            import_module(f"evaluation.commands.{module}").main()
        except SystemExit as stop:
            if stop.code != _INTERRUPTED:
                raise
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(_INTERRUPTED)  # libraries' threads may be at work, and would crash in an orderly exit

    return main


run_benchmark = _entry("run_benchmark.command", "run-benchmark")
fetch_data = _entry("fetch_data.command", "fetch-data")
export_results = _entry("export_results", "export-results")
compare_results = _entry("compare_results", "compare-results")
check_regression = _entry("check_regression.command", "check-regression")
embedding_cache = _entry("embedding_cache", "embedding-cache")
write_report = _entry("write_report", "write-report")
