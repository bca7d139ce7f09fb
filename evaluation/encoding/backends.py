"""The forward pass: token ids -> raw pooled vectors. Three ways, one result.

`transformers`: padding-free for the BERT family (packed_bert), the model class of transformers for all else.
`sentence-transformers`: the checkpoint's own modules; a Normalize module is detached, normalising is the protocol's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from safetensors import SafetensorError

from evaluation.encoding.packed_bert import PackedBert, UnsupportedArchitecture
from evaluation.encoding.pooling import pool
from evaluation.encoding.settings import EncoderSettings
from evaluation.errors import ModelError
from evaluation.models.checkpoint import Checkpoint

_LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)

Rows = Sequence[Sequence[int]]
Forward = Callable[[Rows], torch.Tensor]
"""B sequences of token ids, special tokens included -> (B, D) float32 raw pooled vectors on the model's device."""


def load_forward(checkpoint: Checkpoint, settings: EncoderSettings, pad_id: int) -> Forward:
    """Load a model.

    Args:
        checkpoint: Its files.
        settings: How it is run.
        pad_id: Token that fills rows up where the forward pass wants padding; it is masked out.

    Raises:
        ModelError: It can't be loaded, or the backend does not do what the checkpoint declares.
    """
    if settings.backend == "sentence-transformers":
        return _sentence_transformers(checkpoint, settings, pad_id)
    if checkpoint.other_modules:
        extra = ", ".join(checkpoint.other_modules)
        raise ModelError(
            f"{checkpoint.name} declares modules after pooling ({extra}), which the transformers backend does not run; "
            "use backend: sentence-transformers."
        )
    try:
        packed = PackedBert.load(
            checkpoint.folder, dtype=settings.torch_dtype, device=torch.device(settings.device)
        ).eval()
    except UnsupportedArchitecture:
        return _transformers(checkpoint, settings, pad_id)
    return lambda rows: packed(rows, settings.pooling)


def _transformers(checkpoint: Checkpoint, settings: EncoderSettings, pad_id: int) -> Forward:
    model = _load_transformer(checkpoint, settings).to(settings.device).eval()

    @torch.inference_mode()
    def forward(rows: Rows) -> torch.Tensor:
        ids, mask = _padded(rows, pad_id, settings.device)
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, T, D)
        return pool(hidden, mask, settings.pooling)

    return forward


def _load_transformer(checkpoint: Checkpoint, settings: EncoderSettings) -> Any:
    """The model class of transformers, refused where it would fill missing weights in with random numbers."""
    from transformers import AutoModel

    try:
        model, report = AutoModel.from_pretrained(
            str(checkpoint.folder),
            dtype=settings.torch_dtype,
            use_safetensors=True,
            trust_remote_code=settings.trust_remote_code,
            code_revision=checkpoint.code_revision,
            output_loading_info=True,
        )
    except _LOADING_ERRORS as error:
        raise ModelError(f"{checkpoint.name} can't be loaded from {checkpoint.folder}: {error}") from error
    missing = sorted(name for name in report["missing_keys"] if "pooler." not in name)  # BERT's own pooler is not used
    if missing:
        raise ModelError(
            f"{checkpoint.name} can't be loaded from {checkpoint.folder}: {len(missing)} weights are missing from its "
            f"files, {missing[0]} among them."
        )
    return model


def _sentence_transformers(checkpoint: Checkpoint, settings: EncoderSettings, pad_id: int) -> Forward:
    from sentence_transformers import SentenceTransformer

    if settings.pooling != checkpoint.pooling:
        raise ModelError(
            f"pooling {settings.pooling!r} differs from the {checkpoint.pooling!r} {checkpoint.name} declares; "
            "the sentence-transformers backend runs the declared one: use backend: transformers."
        )
    _load_transformer(checkpoint, settings)  # sentence-transformers does not say which weights it made up
    code = {"code_revision": checkpoint.code_revision} if checkpoint.code_revision else {}
    try:
        model = SentenceTransformer(
            str(checkpoint.folder),
            device=settings.device,
            trust_remote_code=settings.trust_remote_code,
            model_kwargs={"dtype": settings.torch_dtype, "use_safetensors": True, **code},
            config_kwargs=code,
        )
    except _LOADING_ERRORS as error:
        raise ModelError(f"{checkpoint.name} can't be loaded from {checkpoint.folder}: {error}") from error
    modules = [module for module in model.eval() if type(module).__name__ != "Normalize"]

    @torch.inference_mode()
    def forward(rows: Rows) -> torch.Tensor:
        ids, mask = _padded(rows, pad_id, settings.device)
        features: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        for module in modules:
            features = module(features)
        return cast(torch.Tensor, features["sentence_embedding"]).float()  # (B, D)

    return forward


def _padded(rows: Rows, pad_id: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) int64 ids, right-padded, and (B, T) int64 mask."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(width) < lengths[:, None]).long()
    return ids.to(device), mask.to(device)
