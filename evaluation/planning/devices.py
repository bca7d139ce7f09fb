"""Peak speeds of well-known GPUs, and the time that encoding takes on them."""

from __future__ import annotations

from collections.abc import Mapping

DEVICES: Mapping[str, float] = {
    "t4": 65,
    "v100": 125,
    "a10g": 70,
    "l4": 121,
    "l40s": 362,
    "a100": 312,
    "h100": 989,
    "h200": 989,
    "rtx-3090": 71,
    "rtx-4090": 165,
}
"""Dense half-precision TFLOP/s, from NVIDIA's data sheets (without sparsity)."""
UTILISATION = 0.3
"""Share of its peak that a GPU is assumed to reach with an encoder of these sizes."""


def seconds_on(device: str, flops: float) -> float:
    """Returns the seconds that operations take on a GPU of `DEVICES`.

    >>> round(seconds_on("a100", 0.3 * 312e12))
    1
    """
    return flops / (DEVICES[device] * 1e12 * UTILISATION)
