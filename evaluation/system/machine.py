"""What this machine is called, so that measurements of it are found again. Imports nothing of ours and no torch."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def processor_name() -> str:
    """What the processor calls itself."""
    return _value_of(Path("/proc/cpuinfo"), "model name") or platform.processor()


def place_name(device: str) -> str:
    """This machine, its threads and cards, and the device that a run asks for."""
    cards = [_value_of(card, "Model") for card in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    threads = os.environ.get("OMP_NUM_THREADS") or os.cpu_count()
    return ", ".join([f"{processor_name()} x{threads}", *filter(None, cards), device])


def _value_of(file: Path, name: str) -> str:
    """The first `name: value` of a file of the system; empty where there is none."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
