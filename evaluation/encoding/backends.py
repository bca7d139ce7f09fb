"""The forward pass: token ids -> raw pooled vectors, by transformers or by sentence-transformers.

Both return the same vectors: a checkpoint's Normalize module is detached, because normalising belongs to the protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch

from evaluation.encoding.checkpoint import Checkpoint
from evaluation.encoding.pooling import PoolingName, pool
from evaluation.errors import ModelError

Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(B, T) int64 ids and (B, T) int64 mask, on the model's device -> (B, D) float32 raw pooled vectors there."""


def transformers_forward(
    checkpoint: Checkpoint, pooling: PoolingName, dtype: torch.dtype, device: torch.device, *, trust_remote_code: bool
) -> Forward:
    """A transformers encoder with our pooling in float32.

    Raises:
        ModelError: The weights can't be loaded, or the checkpoint has layers after pooling.
    """
    from transformers import AutoModel

    if checkpoint.other_modules:
        extra = ", ".join(checkpoint.other_modules)
        raise ModelError(
            f"{checkpoint.name} declares modules after pooling ({extra}), which the transformers backend does not run; "
            "use backend: sentence-transformers."
        )
    try:
        model = AutoModel.from_pretrained(
            str(checkpoint.folder), dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{checkpoint.name} can't be loaded from {checkpoint.folder}: {error}") from error
    model = model.to(device).eval()

    def forward(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        whole = bool(mask.all())  # no padding: attention needs no mask
        hidden = model(input_ids=ids, attention_mask=None if whole else mask).last_hidden_state  # (B, T, D)
        return pool(hidden, mask, pooling)

    return forward


def sentence_transformers_forward(
    checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device, *, trust_remote_code: bool
) -> Forward:
    """All modules of a sentence-transformers checkpoint but Normalize, fed with token ids.

    Raises:
        ModelError: The checkpoint can't be loaded.
    """
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(
            str(checkpoint.folder),
            device=str(device),
            trust_remote_code=trust_remote_code,
            model_kwargs={"dtype": dtype, "use_safetensors": True},
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{checkpoint.name} can't be loaded from {checkpoint.folder}: {error}") from error
    modules = [module for module in model.eval() if type(module).__name__ != "Normalize"]

    def forward(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        features: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        for module in modules:
            features = module(features)
        return cast(torch.Tensor, features["sentence_embedding"]).float()  # (B, D)

    return forward
