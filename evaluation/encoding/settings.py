"""How a model is run, with every `auto` resolved: device, precision, token budget. Loads no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch

from evaluation.errors import ModelError

DtypeName = Literal["float32", "bfloat16", "float16"]
ForwardPath = Literal["ours", "library"]
_CPU_TOKENS, _CUDA_TOKENS = 2_048, 131_072
_USUAL_WIDTH = 1_024  # of a model whose config does not say


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """Everything that decides an embedding besides the weights, with no `auto` left.

    Attributes:
        pooling: mean, cls or last; where the library runs the model, also sentence-transformers' other modes.
        forward: Our own forward pass, or that of the checkpoint's library.
        truncate_dim: Dimensions kept of a vector; None keeps all.
        unit_before_cut: Whether vectors are normalised before they are cut: the checkpoint's last module does that.
        include_prompt: Whether the tokens of a prefix are pooled.
        routed: Whether queries and documents take different ways through the model.
    """

    backend: Literal["transformers", "sentence-transformers", "openai"]
    pooling: str
    max_length: int
    dtype: DtypeName
    device: str
    max_tokens: int
    trust_remote_code: bool = False
    forward: ForwardPath = "ours"
    truncate_dim: int | None = None
    unit_before_cut: bool = False
    include_prompt: bool = True
    routed: bool = False

    @property
    def torch_dtype(self) -> torch.dtype:
        """Precision of weights and activations; pooling is always float32."""
        return cast(torch.dtype, getattr(torch, self.dtype))


def resolve_device(device: str) -> str:
    """Turn `auto` into cuda if there is one, else mps, else cpu.

    Raises:
        ModelError: This machine does not have the device.
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


def resolve_dtype(dtype: str, device: str, declared: str | None = None) -> DtypeName:
    """Turn `auto` into a precision that depends on the device and the checkpoint alone, never on a measurement.

    Args:
        dtype: As the config sets it.
        device: From `resolve_device`.
        declared: The precision in the checkpoint's config.json. On CUDA, `auto` is bfloat16 where that is bfloat16,
            else float16, as in the E5 authors' scripts; on all other devices it is float32.
    """
    if dtype != "auto":
        return cast(DtypeName, dtype)  # the config admits no other
    if not device.startswith("cuda"):
        return "float32"
    return "bfloat16" if declared == "bfloat16" else "float16"


def resolve_max_tokens(max_tokens: int | str, device: str, embedding_dim: int) -> int:
    """Turn `auto` into the best budget measured on processors; on CUDA, into what a quarter of the memory holds."""
    if isinstance(max_tokens, int):
        return max_tokens
    if not device.startswith("cuda"):
        return _CPU_TOKENS
    width = embedding_dim or _USUAL_WIDTH
    bytes_per_token = 2 * 16 * width  # half precision; projections and feed-forward, about 16 widths
    fitting = torch.cuda.get_device_properties(device).total_memory // 4 // bytes_per_token
    return int(max(_CPU_TOKENS, min(_CUDA_TOKENS, fitting)))
