"""Finds a declared model: its files, or what is known of one behind an address. Loads no weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

from evaluation.config.model_config import ModelConfig
from evaluation.config.run_config import RunConfig
from evaluation.models.checkpoint import Checkpoint, locate
from evaluation.models.facts import SERVER_POOLING, UNLIMITED
from evaluation.models.names import public_endpoint


def find_checkpoint(config: RunConfig, model: ModelConfig) -> Checkpoint:
    """Finds where a model lies, or what is known of one behind an address.

    Raises:
        EvaluationError: It can't be found.
    """
    if model.backend == "openai":
        return endpoint_checkpoint(model)
    trust = model.trust_remote_code
    return locate(model.model, model.revision, config.base_dir, trust_remote_code=trust)


def endpoint_checkpoint(model: ModelConfig) -> Checkpoint:
    """Returns what is known of a served model: its name and how requests are made; nothing about its weights."""
    assert model.endpoint is not None, "checked with the config"
    changes = [name for name in ("max_characters", "empty_text") if getattr(model.endpoint, name) is not None]
    parts = [model.endpoint.url, model.model, model.endpoint.prefix]
    parts += [f"{name}={getattr(model.endpoint, name)!r}" for name in changes]
    identity = hashlib.sha256(" ".join(parts).encode()).hexdigest()
    return Checkpoint(
        folder=Path(),
        name=public_endpoint(model.model),
        revision=identity[:40],
        pooling=SERVER_POOLING,
        max_length=UNLIMITED,
        max_positions=UNLIMITED,
        normalize=False,
        similarity="cosine",
        other_modules=(),
        weights_hash=identity,
        tokenizer_hash=identity,
        embedding_dim=0,
    )
