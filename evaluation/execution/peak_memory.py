"""Measures the most memory that a span of work took: of this process, or on the GPU that it used."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from evaluation.records.job_record import PeakMemory

_STATUS: Final = Path("/proc/self/status")


def watch_memory(device: str) -> Callable[[], PeakMemory | None]:
    """Starts to watch; what it returns gives the peak since then, or None where the system does not tell.

    The system keeps the highest resident memory of a process since it started and no lower one, so that the peak of
    this span is known exactly only if it is higher than all before.

    Args:
        device: Where the model runs.
    """
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return lambda: PeakMemory(where="gpu", bytes=torch.cuda.max_memory_allocated(device))
    before = _highest_so_far()

    def peak() -> PeakMemory | None:
        found = _highest_so_far()
        return None if found is None else PeakMemory(where="process", bytes=found, at_most=found == before)

    return peak


def _highest_so_far() -> int | None:
    """Bytes of this process's highest resident memory; `getrusage` would count that of a process that started it."""
    try:
        found = re.search(rb"VmHWM:\s*(\d+) kB", _STATUS.read_bytes())
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
