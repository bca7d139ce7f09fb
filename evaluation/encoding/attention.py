"""Attention within each of the sequences that lie packed one after another: a kernel per kind of device."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F


class Segments(NamedTuple):
    """Where each of B sequences lies among N packed tokens.

    Attributes:
        lengths: Tokens of each sequence, at least 1, on the host.
        bounds: (B + 1,) int32 on the model's device: 0, then the end of each sequence.
    """

    lengths: list[int]
    bounds: torch.Tensor


AttentionKernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Segments], torch.Tensor]
"""(N, H, d) queries, keys and values, perhaps strided -> (N, H, d): softmax(q k' / sqrt(d)) v within each sequence."""


def attend_each(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments) -> torch.Tensor:
    """Attend one sequence at a time, as the formula says: the reference for the other kernels."""
    mixed = []
    end = 0
    for length in segments.lengths:
        start, end = end, end + length
        q, k, v = query[start:end], key[start:end], value[start:end]  # (T, H, d)
        scores = torch.einsum("qhd,khd->hqk", q, k) * q.shape[2] ** -0.5  # (H, T, T)
        mixed.append(torch.einsum("hqk,khd->qhd", scores.softmax(dim=2, dtype=torch.float32).to(v.dtype), v))
    return torch.cat(mixed)


def attend_by_length(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments) -> torch.Tensor:
    """Attend with torch's fused kernel, once per run of neighbours of one length: batches are sorted by length."""
    mixed = []
    end = 0
    for length, run in groupby(segments.lengths):
        count = sum(1 for _ in run)
        start, end = end, end + count * length
        stacked = (tensor[start:end].view(count, length, *tensor.shape[1:]) for tensor in (query, key, value))
        q, k, v = (tensor.transpose(1, 2) for tensor in stacked)  # (count, H, T, d)
        mixed.append(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1))  # (count * T, H, d)
    return torch.cat(mixed)


def attend_varlen(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments) -> torch.Tensor:
    """Attend with the variable-length flash attention of torch (CUDA, half precision): one launch per batch."""
    from torch.nn.attention.varlen import varlen_attn

    longest = max(segments.lengths)
    mixed = varlen_attn(query, key, value, segments.bounds, segments.bounds, longest, longest)
    return cast(torch.Tensor, mixed)  # a tuple only where more is asked for


def choose_attention(device: torch.device, dtype: torch.dtype, head_dim: int) -> AttentionKernel:
    """Choose the fastest kernel for a device and a precision.

    Flash attention needs Ampere or later, half precision, and head widths that are multiples of 8 up to 256
    (https://github.com/Dao-AILab/flash-attention).
    """
    flash = (
        device.type == "cuda"
        and dtype in {torch.float16, torch.bfloat16}
        and head_dim % 8 == 0
        and head_dim <= 256
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )
    return attend_varlen if flash else attend_by_length
