"""Builds mteb's ModelMeta of a model: from its registry, or our own for the E5 models that the registry lacks."""

from __future__ import annotations

from typing import Any

import mteb
from mteb.models.model_meta import ModelMeta

from evaluation.config.model_config import ModelConfig
from evaluation.models.checkpoint import Checkpoint
from evaluation.models.names import original_name

_E5_SIZES = {  # parameters, dimensions: model cards of intfloat/e5-{small,base,large}-unsupervised
    "small": (33_360_000, 384),
    "base": (109_482_240, 768),
    "large": (335_141_888, 1024),
}
_E5_CITATION = "arXiv:2212.03533"
_CONTRASTIVE_ONLY: set[str] = set()  # CCPairs: web pairs, no labelled dataset (arXiv 2212.03533, section 3.1)


def model_meta(checkpoint: Checkpoint, declared: ModelConfig, protocol: str) -> ModelMeta:
    """Returns metadata that names weights, revision and, in experiment_kwargs, all that departs from mteb's own run.

    Args:
        checkpoint: What was loaded.
        declared: How the config wants it run.
        protocol: The protocol's name; `mteb` with the checkpoint's own settings is no experiment.
    """
    known = _known(checkpoint.name)
    changes: dict[str, Any] = {
        "name": checkpoint.name,
        "revision": checkpoint.revision,
        "experiment_kwargs": experiment_kwargs(checkpoint, declared, protocol),
        "embed_dim": known.embed_dim or checkpoint.embedding_dim,
        "max_tokens": checkpoint.max_length,
    }
    return known.model_copy(update=changes)


def experiment_kwargs(checkpoint: Checkpoint, declared: ModelConfig, protocol: str) -> dict[str, Any] | None:
    """Returns the protocol and settings that set a run apart from mteb's; None where nothing does.

    Two rows of a config that differ in any of them get folders of their own. A precision that `auto` chose does not
    count.
    """
    usual = {
        "max_length": (None, checkpoint.max_length),
        "pooling": (None, checkpoint.pooling),
        "dtype": ("auto", "float32"),
        "backend": ("transformers",),
    }
    departures = {
        name: getattr(declared, name) for name, values in usual.items() if getattr(declared, name) not in values
    }
    if declared.form is not None:
        departures["stored"] = declared.form.name
    if protocol == "mteb" and not departures:
        return None
    return {"protocol": protocol, **departures}


def _known(name: str) -> ModelMeta:
    registered = original_name(name)
    if registered.startswith("intfloat/e5-") and registered.endswith("-unsupervised"):
        return _unsupervised_e5(registered)
    try:
        return mteb.get_model_meta(registered, fetch_from_hf=False)
    except (KeyError, TypeError, ValueError):
        return ModelMeta.create_empty(overwrites={"name": name})


def _unsupervised_e5(name: str) -> ModelMeta:
    size = name.removeprefix("intfloat/e5-").removesuffix("-unsupervised")
    parameters, dimensions = _E5_SIZES.get(size, (None, None))
    return ModelMeta.create_empty(
        overwrites={
            "name": name,
            "languages": ["eng-Latn"],
            "release_date": "2023-01-31",
            "n_parameters": parameters,
            "embed_dim": dimensions,
            "max_tokens": 512,
            "license": "mit",
            "open_weights": True,
            "reference": f"https://huggingface.co/{name}",
            "similarity_fn_name": "cosine",
            "framework": ["Sentence Transformers", "PyTorch", "safetensors"],
            "use_instructions": True,
            "training_datasets": _CONTRASTIVE_ONLY,
            "citation": _E5_CITATION,
        }
    )
