"""The two ways from texts to raw pooled vectors: our own forward pass, and that of the checkpoint's library.

Ours is padding-free for the BERT family (packed_bert) and the model class of transformers for all else. Which of the
two a model takes is decided by its proof (models/proof.py), before the encoder is made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError

from evaluation.config.grid import Pooling
from evaluation.encoding.packed_bert import PackedBert, UnsupportedArchitecture
from evaluation.encoding.pooling import pool
from evaluation.encoding.settings import EncoderSettings
from evaluation.encoding.token_rows import TokenRows
from evaluation.encoding.tokenizing import TextTokenizer, Tokenized, encodable
from evaluation.errors import ModelError
from evaluation.models.checkpoint import Checkpoint
from evaluation.models.facts import TextRole
from evaluation.models.reference import ReferenceSettings
from evaluation.models.reference_loading import load_reference

_LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)

Forward = Callable[[TokenRows], torch.Tensor]
"""B sequences of token ids, special tokens included -> (B, D) float32 raw pooled vectors on the model's device."""


class TextModel(Protocol):
    """A loaded model: texts to vectors in two steps, between which batches are planned."""

    def tokenize(self, texts: list[str], role: TextRole) -> Tokenized:
        """Texts that have the role's prefix in front already."""

    def forward(self, tokens: Tokenized, rows: NDArray[np.int64]) -> torch.Tensor:
        """(B, D) float32 raw pooled vectors, on the model's device, of some of the tokenized texts as one batch."""


def load_text_model(checkpoint: Checkpoint, settings: EncoderSettings) -> TextModel:
    """Load a model for the forward path that its settings name.

    Raises:
        ModelError: It can't be loaded.
    """
    if settings.forward == "library" or settings.backend == "sentence-transformers":
        return LibraryModel(checkpoint, settings)
    return OwnModel(checkpoint, settings)


class OwnModel:
    """Our own tokenizing and forward pass."""

    def __init__(self, checkpoint: Checkpoint, settings: EncoderSettings) -> None:
        if settings.max_length > checkpoint.max_positions:
            raise ModelError(
                f"max_length {settings.max_length} is more than the {checkpoint.max_positions} positions "
                f"of {checkpoint.name}; lower it."
            )
        trust = settings.trust_remote_code
        self._tokenizer = TextTokenizer(checkpoint.folder, settings.max_length, trust_remote_code=trust)
        self._forward = load_forward(checkpoint, settings, self._tokenizer.pad_id)

    def tokenize(self, texts: list[str], role: TextRole) -> Tokenized:
        """Token ids; the role does not matter here."""
        return self._tokenizer(texts)

    def forward(self, tokens: Tokenized, rows: NDArray[np.int64]) -> torch.Tensor:
        """Vectors of the ids."""
        return self._forward(tokens.ids.take(rows))


class LibraryModel:
    """The checkpoint's own library, which tokenizes and encodes texts itself, one thread at a time."""

    def __init__(self, checkpoint: Checkpoint, settings: EncoderSettings) -> None:
        self._reference = load_reference(checkpoint.folder, checkpoint.name, reference_settings(settings))
        self._max_length = settings.max_length
        self._turn = threading.Lock()  # a tokenizer of the library changes its truncation from call to call

    def tokenize(self, texts: list[str], role: TextRole) -> Tokenized:
        """Lengths; the ids are made when the texts are encoded."""
        texts = list(map(encodable, texts))
        bare = [text.removeprefix(role.prefix) for text in texts]
        with self._turn:
            full = np.array(self._reference.full_lengths(bare, role), dtype=np.int64)
        return Tokenized(TokenRows.of([]), full, full.clip(max=self._max_length), bare, role)

    def forward(self, tokens: Tokenized, rows: NDArray[np.int64]) -> torch.Tensor:
        """Vectors of the texts."""
        with self._turn:
            return self._reference.embed([tokens.texts[row] for row in rows.tolist()], tokens.role)


def reference_settings(settings: EncoderSettings) -> ReferenceSettings:
    """How the library loads a model that is to be run in a certain way."""
    return ReferenceSettings(
        dtype=settings.torch_dtype,
        device=settings.device,
        pooling=settings.pooling if settings.pooling in {"mean", "cls", "last"} else None,
        max_length=settings.max_length,
        truncate_dim=settings.truncate_dim,
        trust_remote_code=settings.trust_remote_code,
    )


def load_forward(checkpoint: Checkpoint, settings: EncoderSettings, pad_id: int) -> Forward:
    """Load our own forward pass.

    Args:
        pad_id: Token that fills rows up where the forward pass wants padding; it is masked out.

    Raises:
        ModelError: It can't be loaded, or has parts that our forward pass does not run.
    """
    if checkpoint.other_modules:
        extra = ", ".join(checkpoint.other_modules)
        raise ModelError(f"{checkpoint.name} has modules that our forward pass does not run ({extra}).")
    try:
        packed = PackedBert.load(
            checkpoint.folder, dtype=settings.torch_dtype, device=torch.device(settings.device)
        ).eval()
    except UnsupportedArchitecture:
        return _cut(_transformers(checkpoint, settings, pad_id), settings)
    return _cut(lambda rows: packed(rows, cast(Pooling, settings.pooling)), settings)


def _cut(forward: Forward, settings: EncoderSettings) -> Forward:
    """Vectors as long as they are wanted; a module that normalises comes before the cut, as in the library."""
    if settings.truncate_dim is None:
        return forward

    def shortened(rows: TokenRows) -> torch.Tensor:
        vectors = forward(rows)  # (B, D)
        return (F.normalize(vectors, dim=1) if settings.unit_before_cut else vectors)[:, : settings.truncate_dim]

    return shortened


def _transformers(checkpoint: Checkpoint, settings: EncoderSettings, pad_id: int) -> Forward:
    model = _load_transformer(checkpoint, settings).to(settings.device).eval()

    @torch.inference_mode()
    def forward(rows: TokenRows) -> torch.Tensor:
        ids, mask = _padded(rows, pad_id, settings.device)
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, T, D)
        return pool(hidden, mask, cast(Pooling, settings.pooling))

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
            local_files_only=True,
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


def _padded(rows: TokenRows, pad_id: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) int64 ids, right-padded, and (B, T) int64 mask."""
    lengths = rows.lengths
    mask = np.arange(lengths.max()) < lengths[:, None]  # (B, T)
    ids = np.full(mask.shape, pad_id, np.int64)
    ids[mask] = rows.ids
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).long().to(device)
