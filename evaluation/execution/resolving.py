"""Finds a declared model's files, proves its forward pass on this machine, and resolves every `auto` setting.

Decides the maximum length: the config's, else what the library says of the checkpoint (`models.reference_libraries`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.config.model_config import ModelConfig
from evaluation.config.run_config import RunConfig
from evaluation.encoding.backends import reference_settings
from evaluation.encoding.encoder import Encoder
from evaluation.encoding.settings import EncoderSettings, resolve_device, resolve_dtype, resolve_max_tokens
from evaluation.models.checkpoint import Checkpoint
from evaluation.models.facts import CheckpointFacts
from evaluation.models.finding import find_checkpoint
from evaluation.models.proof import prove
from evaluation.models.proof_store import Proof, Proven, library_versions, own_code_hash, read_proof, write_proof
from evaluation.models.reference import ReferenceSettings
from evaluation.system.machine import processor_name

_IDENTITY = (
    "backend",
    "pooling",
    "max_length",
    "dtype",
    "forward",
    "truncate_dim",
    "include_prompt",
    "trust_remote_code",
)


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model whose files were found and proved, with no `auto` left in its settings.

    Attributes:
        checkpoint: Its files, and what its library says of them.
        settings: How it is run.
        proof: How our own forward pass compares with the library's; None for a model behind an address.
    """

    checkpoint: Checkpoint
    settings: EncoderSettings
    proof: Proof | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """Everything about the model that can move a vector."""
        settings = asdict(self.settings)
        parts = {key: settings[key] for key in _IDENTITY}
        return {"weights": self.checkpoint.weights_hash, "tokenizer": self.checkpoint.tokenizer_hash, **parts}

    @property
    def scoring_identity(self) -> dict[str, Any]:
        """Everything about the model that can move a score: its identity, and how its vectors are meant to be used."""
        return {
            **self.identity,
            "normalize": self.checkpoint.normalize,
            "similarity": self.checkpoint.similarity,
        }

    def on_this_machine(self, found: Checkpoint) -> ResolvedModel:
        """Returns the model with the files that were found here, as it was proved elsewhere."""
        here = {
            name: getattr(found, name) for name in ("folder", "revision", "weights_hash", "tokenizer_hash", "content")
        }
        return replace(self, checkpoint=replace(self.checkpoint, **here))


def resolve_model(config: RunConfig, model: ModelConfig) -> ResolvedModel:
    """Find a model, prove it, and decide how it runs here.

    Raises:
        EvaluationError: It can't be found or run, or this machine lacks the device.
    """
    checkpoint = find_checkpoint(config, model)
    device = resolve_device(config.runtime.device)
    wanted = EncoderSettings(
        backend=model.backend,
        pooling=model.pooling or checkpoint.pooling,
        max_length=model.max_length or checkpoint.max_length,
        dtype=resolve_dtype(model.dtype, device, checkpoint.declared_dtype),
        device=device,
        max_tokens=resolve_max_tokens(config.runtime.max_tokens, device, checkpoint.embedding_dim),
        trust_remote_code=model.trust_remote_code,
    )
    if model.backend == "openai":
        return ResolvedModel(checkpoint, replace(wanted, dtype="float32"))
    asked = replace(
        reference_settings(wanted),
        pooling=model.pooling,
        max_length=model.max_length,
        truncate_dim=model.truncate_dim,
    )
    facts, proof = _proven(checkpoint, wanted, asked)
    checkpoint = _as_declared(checkpoint, facts)
    return ResolvedModel(checkpoint, _settings_of(facts, wanted, proof), proof)


def _proven(checkpoint: Checkpoint, wanted: EncoderSettings, asked: ReferenceSettings) -> Proven:
    """The checkpoint's proof on this device: stored, or made now and stored."""
    key = _proof_key(checkpoint, wanted, asked)
    proven = read_proof(key)
    if proven is None:

        def load_fast(facts: CheckpointFacts) -> _FastPath:
            return _FastPath(_as_declared(checkpoint, facts), _settings_of(facts, wanted, None))

        by_library = wanted.backend == "sentence-transformers"
        proven = prove(checkpoint.folder, checkpoint.name, asked, load_fast, library_asked=by_library)
        checkpoint.verify_unchanged()
        write_proof(key, proven)
    return proven


class _FastPath:
    """Our own forward pass, as a run uses it, without a cache."""

    def __init__(self, checkpoint: Checkpoint, settings: EncoderSettings) -> None:
        self._encoder = Encoder(checkpoint, settings)

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        return self._encoder.token_ids(texts)

    def vectors(self, texts: list[str]) -> NDArray[np.float32]:
        return self._encoder.encode(texts).vectors


def _proof_key(checkpoint: Checkpoint, wanted: EncoderSettings, asked: ReferenceSettings) -> Mapping[str, Any]:
    """Everything that the outcome of a proof depends on."""
    return {
        "weights": checkpoint.weights_hash,
        "tokenizer": checkpoint.tokenizer_hash,
        "settings": {**asdict(asked), "dtype": wanted.dtype, "backend": wanted.backend, "tokens": wanted.max_tokens},
        "versions": dict(library_versions()),
        "device": _device_kind(wanted.device),
        "own_code": own_code_hash(),
    }


def _device_kind(device: str) -> str:
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)} {torch.cuda.get_device_capability(device)}"
    return f"{device} {processor_name()} {torch.backends.cpu.get_cpu_capability()}"


def _as_declared(checkpoint: Checkpoint, facts: CheckpointFacts) -> Checkpoint:
    """The checkpoint with what its library says in the place of our own reading of its files."""
    return replace(
        checkpoint,
        pooling=facts.pooling,
        max_length=facts.max_length,
        max_positions=facts.max_positions,
        normalize=facts.normalize,
        similarity=facts.similarity,
        embedding_dim=facts.embedding_dim,
        other_modules=() if facts.plain else facts.modules,
    )


def _settings_of(facts: CheckpointFacts, wanted: EncoderSettings, proof: Proof | None) -> EncoderSettings:
    return replace(
        wanted,
        pooling=facts.pooling,
        max_length=facts.max_length,
        forward="library" if proof is not None and proof.outcome == "library" else "ours",
        truncate_dim=facts.truncate_dim,
        unit_before_cut=facts.truncate_dim is not None and facts.modules[-1:] == ("Normalize",),
        include_prompt=facts.include_prompt,
        routed=facts.routed,
    )
