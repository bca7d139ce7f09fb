"""Token vectors -> one vector a text, in float32 whatever the model's precision. Pure functions on tensors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.config.grid import Pooling


def pool(hidden: torch.Tensor, attention_mask: torch.Tensor, how: Pooling) -> torch.Tensor:
    """Pool right-padded token vectors.

    Args:
        hidden: (B, T, D) last hidden states, any float dtype.
        attention_mask: (B, T) 1 for tokens, 0 for padding; each row has at least one token.
        how: mean over tokens (E5: arXiv 2212.03533, section 3.2), first token, or last token.

    Returns:
        (B, D) float32 on the device of `hidden`.
    """
    match how:
        case "cls":
            return hidden[:, 0].float()  # (B, D)
        case "last":
            last = attention_mask.sum(dim=1) - 1  # (B,)
            return hidden[torch.arange(len(hidden), device=hidden.device), last].float()  # (B, D)
        case "mean":
            weights = attention_mask.to(torch.float32).unsqueeze(1)  # (B, 1, T)
            summed = torch.bmm(weights, hidden.float()).squeeze(1)  # (B, D)
            return summed / weights.sum(dim=2)


def l2_normalize(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of unit length; (N, D) float32 -> (N, D) float32, a zero row stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(norms, np.float32(1e-12))
    return unit
