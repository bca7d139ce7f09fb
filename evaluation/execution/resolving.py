"""A declared model -> its files, with every `auto` of its settings resolved on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from evaluation.config.models import ModelConfig, RunConfig
from evaluation.encoding.endpoint import endpoint_checkpoint
from evaluation.encoding.precision import measured_dtype
from evaluation.encoding.settings import EncoderSettings, resolve_device, resolve_dtype, resolve_max_tokens
from evaluation.models.checkpoint import Checkpoint, locate


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model whose files were found, with no `auto` left in its settings."""

    checkpoint: Checkpoint
    settings: EncoderSettings

    @property
    def identity(self) -> dict[str, Any]:
        """What of the model can move a vector."""
        settings = asdict(self.settings)
        parts = {key: settings[key] for key in ("backend", "pooling", "max_length", "dtype", "trust_remote_code")}
        return {"weights": self.checkpoint.weights_hash, "tokenizer": self.checkpoint.tokenizer_hash, **parts}

    @property
    def scoring_identity(self) -> dict[str, Any]:
        """What of the model can move a number: how vectors are used, where the protocol leaves it to the checkpoint."""
        return {
            **self.identity,
            "normalize": self.checkpoint.normalize,
            "similarity": self.checkpoint.similarity,
        }


def resolve_model(config: RunConfig, model: ModelConfig) -> ResolvedModel:
    """Find a model and decide how it runs here.

    Raises:
        EvaluationError: It can't be found, or this machine lacks the device.
    """
    checkpoint = find_checkpoint(config, model)
    device = resolve_device(config.runtime.device)
    is_remote = model.backend == "openai"
    settings = EncoderSettings(
        backend=model.backend,
        pooling=model.pooling or checkpoint.pooling,
        max_length=model.max_length or checkpoint.max_length,
        dtype="float32" if is_remote else resolve_dtype(model.dtype, device),
        device=device,
        max_tokens=resolve_max_tokens(config.runtime.max_tokens, device, checkpoint.embedding_dim),
        trust_remote_code=model.trust_remote_code,
    )
    if model.dtype == "auto" and (device, settings.dtype) == ("cpu", "bfloat16"):
        settings = replace(settings, dtype=measured_dtype(checkpoint, settings))
    return ResolvedModel(checkpoint, settings)


def find_checkpoint(config: RunConfig, model: ModelConfig) -> Checkpoint:
    """Where a model lies, or what is known of one behind an address.

    Raises:
        EvaluationError: It can't be found.
    """
    if model.backend == "openai":
        return endpoint_checkpoint(model)
    return locate(model.model, model.revision, config.base_dir, trust_remote_code=model.trust_remote_code)
