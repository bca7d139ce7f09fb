"""How much memory a checkpoint's weights need, from the headers of its files, and how much a device has free."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from evaluation.errors import ModelError
from evaluation.models.weight_headers import read_weight_header

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_SPARE = 1.1  # for activations and buffers
_GIB = 2**30


def check_fits(folder: Path, name: str, *, dtype: str, device: str) -> None:
    """Refuse a model whose weights don't fit into the memory that is free.

    Raises:
        ModelError: What it needs, what is there, and the way out.
    """
    if fits(folder, dtype=dtype, device=device):
        return
    way_out = "set dtype: bfloat16, or use a machine with more memory"
    if dtype != "float32":
        way_out = "use a machine with more memory"
    needed, free = needed_bytes(folder, dtype) / _GIB, (free_bytes(device) or 0) / _GIB
    raise ModelError(f"{name} needs {needed:.1f} GiB in {dtype}, but {device} has only {free:.1f} GiB free; {way_out}.")


def fits(folder: Path, *, dtype: str, device: str) -> bool:
    """Whether the weights fit into the memory that is free; true where that is unknown."""
    free = free_bytes(device)
    return free is None or needed_bytes(folder, dtype) <= free


def needed_bytes(folder: Path, dtype: str) -> int:
    """Bytes of all weights below a folder in a precision, and a tenth more."""
    return int(_SPARE * _BYTES[dtype] * sum(_count(file) for file in folder.rglob("*.safetensors")))


def free_bytes(device: str) -> int | None:
    """Bytes that are free on a device; None where that is unknown."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    found = [_number(Path("/sys/fs/cgroup/memory.max"))]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        pass
    return min((number for number in found if number is not None), default=None)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _count(file: Path) -> int:
    """Numbers in a safetensors file; 0 where its header can't be read, which loading reports."""
    try:
        return sum(math.prod(entry["shape"]) for entry in read_weight_header(file).tensors.values())
    except (OSError, ValueError, KeyError, TypeError):
        return 0
