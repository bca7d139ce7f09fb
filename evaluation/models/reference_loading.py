"""Loads a checkpoint by its own library: sentence-transformers where the folder has modules.json, else transformers.

This is the truth that our own forward pass is compared with, and what runs where that one cannot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evaluation.errors import EvaluationError, ModelError
from evaluation.models.reference import Reference, ReferenceSettings, reason_of
from evaluation.models.reference_libraries import SentenceTransformersReference, TransformersReference
from evaluation.models.refusals import check_dense_encoder, check_trusted_classes


def load_reference(folder: Path, name: str, settings: ReferenceSettings) -> Reference:
    """Load a checkpoint by its own library.

    Raises:
        ModelError: It is not a dense sentence encoder, or the library can't load it.
    """
    check_dense_encoder(folder, name, pooling=settings.pooling)
    if not settings.trust_remote_code:
        check_trusted_classes(folder, name)
    own = (folder / "modules.json").is_file()
    kind = SentenceTransformersReference if own else TransformersReference
    missing: list[str] = []
    try:
        with _noting_missing_weights(missing):
            model: Reference = kind(folder, name, settings)
    except EvaluationError as error:
        raise ModelError(str(error)) from error
    except Exception as error:  # whatever a library, or a repository's own code, makes of broken files
        if "trust_remote_code" in str(error) and not settings.trust_remote_code:
            raise ModelError(
                f"{name} has Python code of its own, which runs only with trust_remote_code: true; read it first."
            ) from error
        raise ModelError(f"{name} can't be loaded from {folder} by {kind.library}: {reason_of(error)}") from error
    if missing:
        raise ModelError(
            f"{name} can't be loaded from {folder}: {len(missing)} weights are missing from its files, "
            f"{missing[0]} among them."
        )
    if model.facts.max_length > model.facts.max_positions:
        asked, positions = model.facts.max_length, model.facts.max_positions
        raise ModelError(f"max_length {asked} is more than the {positions} positions of {name}; lower it.")
    return model


@contextmanager
def _noting_missing_weights(missing: list[str]) -> Iterator[None]:
    """Collect the names of weights that transformers would fill in with random numbers, of which it only warns."""
    from transformers import PreTrainedModel

    patched: Any = PreTrainedModel
    original = patched.__dict__["from_pretrained"]

    def noting(cls: type[Any], *arguments: Any, **options: Any) -> Any:
        model, report = original.__get__(None, cls)(*arguments, **{**options, "output_loading_info": True})
        missing.extend(sorted(name for name in report["missing_keys"] if "pooler." not in name))
        return model

    patched.from_pretrained = classmethod(noting)
    try:
        yield
    finally:
        patched.from_pretrained = original
