"""What this machine is called, so that measurements of it are found again. Imports nothing of ours and no torch."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_DEVICE_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ATEN_CPU_CAPABILITY")


def processor_name() -> str:
    """What the processor calls itself."""
    return _value_of(Path("/proc/cpuinfo"), "model name") or platform.processor()


def place_name(device: str) -> str:
    """This machine, its threads and cards, and the device that a run asks for."""
    cards = [_value_of(card, "Model") for card in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    threads = os.environ.get("OMP_NUM_THREADS") or os.cpu_count()
    return ", ".join([f"{processor_name()} x{threads}", *filter(None, cards), device])


def devices_here() -> str:
    """Returns what decides which devices a library finds here, as far as files and the environment say it."""
    files = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("dxg"), *Path("/dev").glob("kfd")]
    chosen = [f"{name}={os.environ[name]}" for name in _DEVICE_VARIABLES if name in os.environ]
    driver = _value_of(Path("/proc/driver/nvidia/version"), "NVRM version")
    return ", ".join([*sorted(map(str, files)), *filter(None, [driver]), *chosen])


def _value_of(file: Path, name: str) -> str:
    """The first `name: value` of a file of the system; empty where there is none."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
