"""How a model is run, with every `auto` resolved: device, precision, token budget. Loads no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch

from evaluation.config.models import Pooling
from evaluation.errors import ModelError

DtypeName = Literal["float32", "bfloat16", "float16"]
_CPU_TOKENS, _CUDA_TOKENS = 2_048, 131_072
_USUAL_WIDTH = 1_024  # of a model whose config does not say


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """Everything that decides an embedding beside the weights, resolved: no `auto` left."""

    backend: Literal["transformers", "sentence-transformers", "openai"]
    pooling: Pooling
    max_length: int
    dtype: DtypeName
    device: str
    max_tokens: int
    trust_remote_code: bool = False

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of weights and activations; pooling is always float32."""
        return cast(torch.dtype, getattr(torch, self.dtype))


def resolve_device(device: str) -> str:
    """`auto`: cuda where there is one, else mps, else cpu.

    Raises:
        ModelError: A device that this machine does not have.
    """
    cuda = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if cuda else "mps" if torch.backends.mps.is_available() else "cpu"
    if device.startswith("cuda") and not cuda:
        raise ModelError(f"device {device!r} was asked for, but torch finds no CUDA device here.")
    if device.startswith("cuda:") and int(device[5:]) >= torch.cuda.device_count():
        raise ModelError(f"device {device!r} was asked for, but this machine has {torch.cuda.device_count()} of them.")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ModelError("device 'mps' was asked for, but torch finds none here.")
    return device


def resolve_dtype(dtype: str, device: str) -> DtypeName:
    """`auto`: float16 on CUDA, bfloat16 on processors with such instructions, float32 elsewhere."""
    if dtype != "auto":
        return dtype  # type: ignore[return-value]  # the config admits only DtypeName and auto
    if device.startswith("cuda"):
        return "float16"
    return "bfloat16" if device == "cpu" and _cpu_has_bfloat16() else "float32"


def resolve_max_tokens(max_tokens: int | str, device: str, embedding_dim: int) -> int:
    """`auto`: what measured best on processors; on CUDA what a quarter of the memory holds of activations."""
    if isinstance(max_tokens, int):
        return max_tokens
    if not device.startswith("cuda"):
        return _CPU_TOKENS
    width = embedding_dim or _USUAL_WIDTH
    bytes_a_token = 2 * 16 * width  # half precision; projections and feed-forward, about 16 widths
    fitting = torch.cuda.get_device_properties(device).total_memory // 4 // bytes_a_token
    return int(max(_CPU_TOKENS, min(_CUDA_TOKENS, fitting)))


def _cpu_has_bfloat16() -> bool:
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in names)
