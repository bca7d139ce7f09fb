"""The vectors of a shard on their way back from the device: put in order and checked there, and copied once.

On an accelerator nothing here waits for it except `arrived`, so that the next shard's batches are already under way.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.encoding.vector_checks import TINY_NORM

_SURE_NORM = 100 * TINY_NORM
"""Rounding, or a device that flushes small squares to zero, makes no usable vector of a norm that seems this long."""


class ShardVectors:
    """Collects the batches of a shard of N texts; made by the first of them."""

    def __init__(self, n_texts: int, first: torch.Tensor) -> None:
        shape = (n_texts, first.shape[1])
        self._on_device = (
            torch.from_numpy(np.empty(shape, np.float32))  # in huge pages, which is twice as fast to fill
            if first.device.type == "cpu"
            else torch.empty(shape, dtype=torch.float32, device=first.device)
        )
        self._are_usable = torch.ones((), dtype=torch.bool, device=first.device)
        self._copied: torch.cuda.Event | None = None

    def add(self, pooled: torch.Tensor, rows: NDArray[np.int64]) -> None:
        """Puts the (B, D) vectors of a batch where their texts are in the shard, and looks at their norms."""
        device = pooled.device
        places = torch.from_numpy(rows)
        if device.type == "cuda":
            places = places.pin_memory()
        norms = torch.linalg.vector_norm(pooled, dim=1)  # (B,); infinite or NaN where a value or the norm is
        self._are_usable &= ((norms > _SURE_NORM) & (norms < torch.inf)).all()
        self._on_device.index_copy_(0, places.to(device, non_blocking=True), pooled)

    def send(self) -> None:
        """Starts the one copy to the host, once all batches were added."""
        if self._on_device.device.type == "cuda":
            self._on_device = _pinned_copy(self._on_device)
            self._are_usable = _pinned_copy(self._are_usable)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()

    def arrived(self) -> tuple[NDArray[np.float32], bool]:
        """Waits for the copy; returns the (N, D) float32 vectors, and whether all of them are usable for certain."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._on_device.cpu().numpy(), bool(self._are_usable)


def _pinned_copy(tensor: torch.Tensor) -> torch.Tensor:
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
