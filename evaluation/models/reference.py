"""What a checkpoint offers once its own library has loaded it, and how it is to be loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from evaluation.errors import EncodingError, ModelError
from evaluation.models.facts import UNLIMITED, CheckpointFacts, TextRole


@dataclass(frozen=True, slots=True)
class ReferenceSettings:
    """How a checkpoint is loaded by its library; None: as it declares."""

    dtype: torch.dtype
    device: str
    pooling: str | None = None
    max_length: int | None = None
    truncate_dim: int | None = None
    trust_remote_code: bool = False


class Reference(Protocol):
    """A loaded checkpoint.

    Attributes:
        name: For messages.
        facts: What the library says of it, under the settings it was loaded with.
    """

    name: str
    facts: CheckpointFacts

    def ids(self, texts: Sequence[str], role: TextRole) -> list[list[int]] | None:
        """Token ids of texts, the prefix in front, cut to the maximum length; None where a model has no such rows."""

    def full_lengths(self, texts: Sequence[str], role: TextRole) -> list[int]:
        """Tokens of texts, the prefix in front, before they are cut."""

    def embed(self, texts: Sequence[str], role: TextRole) -> torch.Tensor:
        """(B, D) float32 vectors of texts as one batch, on the model's device."""


def reason_of(error: BaseException) -> str:
    """Returns the first line of an error as the end of a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}." if lines else f"{type(error).__name__}."


def count_positions(model: torch.nn.Module) -> int:
    """Returns how many tokens a loaded model can take; RoBERTa's kind counts positions from after the padding token."""
    found = []
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, torch.nn.Embedding):
            skipped = getattr(module, "padding_idx", None)
            found.append(table.num_embeddings - (skipped + 1 if isinstance(skipped, int) else 0))
    if found:
        return min(found)
    config = getattr(model, "config", None) or getattr(getattr(model, "transformers_model", None), "config", None)
    declared = getattr(config, "max_position_embeddings", None)
    return declared if isinstance(declared, int) and declared > 0 else UNLIMITED


def untruncated_lengths(tokenizer: Any, texts: list[str]) -> list[int]:
    """Returns the tokens of texts before they are cut, special tokens included."""
    if hasattr(tokenizer, "encode_batch"):  # of StaticEmbedding, which adds no special tokens
        return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    return [len(ids) for ids in tokenizer(texts, truncation=False, padding=False, verbose=False)["input_ids"]]


def merge_adapters(model: Any) -> None:
    """Merges the adapters of peft into the weights below them, in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    if not layers:
        raise ModelError(
            "its adapter was not applied by the library; merge it with merge_and_unload and save the model."
        )
    for layer in layers:
        layer.merge()


@contextmanager
def library_errors(name: str, library: str) -> Iterator[None]:
    """Turns what a library raises while it encodes into a sentence."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except IndexError as error:
        raise EncodingError(
            f"{name} can't be run by {library}: its tokenizer gives ids, or more tokens, than it has embeddings for."
        ) from error
    except Exception as error:
        raise EncodingError(f"{name} can't be run by {library}: {reason_of(error)}") from error
