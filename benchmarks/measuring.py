"""What the benchmarks share: alternating pairs, medians, the machine's ceiling, the last line."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def alternate(rival: Callable[[], Any], ours: Callable[[], Any], pairs: int) -> tuple[list[float], list[float]]:
    """Seconds of `pairs` runs of each, taken in turn, the order swapped every time, after one warm-up of each."""
    rival()
    ours()
    seconds: dict[str, list[float]] = {"rival": [], "ours": []}
    for pair in range(pairs):
        order = [("rival", rival), ("ours", ours)]
        for name, work in order if pair % 2 == 0 else reversed(order):
            synchronize()
            started = time.perf_counter()
            work()
            synchronize()
            seconds[name].append(time.perf_counter() - started)
    return seconds["rival"], seconds["ours"]


def ratio(rival: list[float], ours: list[float]) -> float:
    """Median over pairs of rival's seconds over ours."""
    return statistics.median(a / b for a, b in zip(rival, ours, strict=True))


def synchronize() -> None:
    """Wait for the accelerator, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matrix_product_gflops(dtype: torch.dtype, device: str, size: int | None = None) -> float:
    """The ceiling: GFLOP/s of a square matrix product in this process, best of five."""
    size = size or (8192 if device.startswith("cuda") else 2048)
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(6):
        synchronize()
        started = time.perf_counter()
        a @ b
        synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e9


def last_line(figures: dict[str, Any]) -> None:
    """One JSON line, last, for machines."""
    print(json.dumps(figures, default=str))
