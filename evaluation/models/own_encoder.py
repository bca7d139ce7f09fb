"""Identifies a model in memory that has mteb's `encode`: by the content of its state, or as its user says.

Knows nothing of tasks; how such a model is scored is in `adapters/own_encoder.py`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from evaluation.errors import UsageError
from evaluation.models.names import IN_MEMORY
from evaluation.system.limited_reading import parse_json

_PLAIN: Final = (str, int, float, bool, type(None))
_META: Final = "mteb_model_meta"
_DIGITS: Final = 12
_OF_TORCH: Final = frozenset(vars(nn.Module()))


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model in memory under an identity that its user vouches for.

    Attributes:
        model: An object with mteb's `encode`.
        identity: Any text that changes whenever the model's vectors change; scores stored under it are not made again.

    Example:
        >>> run(config, models={"mine": NamedModel(my_encoder, identity="my-encoder 3")})  # doctest: +SKIP
    """

    model: object
    identity: str


@dataclass(frozen=True, slots=True)
class OwnEncoder:
    """A model that turns texts into vectors by its own `encode`.

    Attributes:
        model: An object with mteb's `encode`.
        identity: What its user says, or a hash of its state; one of them under another label is the same model.
    """

    model: Any
    identity: str

    @property
    def scoring_identity(self) -> dict[str, Any]:
        """Everything about the model that can move a score."""
        return {"own_encode": self.identity}

    @property
    def sha256(self) -> str:
        """Hash of the identity."""
        return hashlib.sha256(self.identity.encode()).hexdigest()

    @property
    def revision(self) -> str:
        """A revision that no published model has, and that changes with the identity."""
        return f"{self.sha256[:_DIGITS]}-{IN_MEMORY}"


def own_encoder(label: str, given: object) -> OwnEncoder:
    """Returns a model in memory with its identity.

    Args:
        label: The row of the model, for messages.
        given: The model, or a `NamedModel` of it.

    Raises:
        UsageError: It has not mteb's `encode`, or its state can't be identified and no identity is given.
    """
    named = given if isinstance(given, NamedModel) else None
    model = given if named is None else named.model
    if not _takes_task_metadata(getattr(model, "encode", None)):
        raise UsageError(
            f"models[{label!r}] is a {type(model).__name__}; a model in memory must be a SentenceTransformer, a pair "
            "of a transformers model and its tokenizer, or an object with mteb's encode(inputs, *, task_metadata, "
            "hf_split, hf_subset, prompt_type)."
        )
    if named is not None:
        if not named.identity:
            raise UsageError(f"models[{label!r}]: identity is empty; give a text that changes with the model.")
        return OwnEncoder(model, named.identity)
    try:
        return OwnEncoder(model, _hash_of_state(model))
    except _UnidentifiedError as error:
        raise UsageError(
            f"models[{label!r}] can't be identified by its state, because {error}; give it an identity that changes "
            "with the model: NamedModel(model, identity='my-encoder 3'), from evaluation import NamedModel."
        ) from None


def _takes_task_metadata(encode: Any) -> bool:
    if not callable(encode):
        return False
    try:
        parameters = inspect.signature(encode).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(one.name == "task_metadata" or one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)


class _UnidentifiedError(Exception):
    """Why a state is not fully known, as the end of a sentence."""


def _hash_of_state(model: Any) -> str:
    """Returns a hash of weights, tokenizer, settings and the source of its classes.

    Raises:
        _UnidentifiedError: Some attribute is of a kind whose content is not known here, or there are no weights.
    """
    try:
        source = [inspect.getsource(kind) for kind in type(model).__mro__ if kind is not object]
    except (OSError, TypeError):
        raise _UnidentifiedError(f"the source of {type(model).__name__} can't be read") from None
    similarity = getattr(getattr(model, _META, None), "similarity_fn_name", None)
    weights = _Weights()
    own = {name: value for name, value in vars(model).items() if name != _META and name not in _OF_TORCH}
    state: list[Any] = [source, str(similarity), {name: _content(value, name, weights) for name, value in own.items()}]
    state += [_module(model, weights)] if isinstance(model, nn.Module) else []
    if not weights.n_arrays:
        raise _UnidentifiedError("it has neither a state_dict nor arrays")
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


class _Weights:
    """Hashes arrays, and counts them."""

    def __init__(self) -> None:
        self.n_arrays = 0

    def hash(self, array: Any) -> list[Any]:
        """Returns type, shape and hash of a numpy array or tensor."""
        self.n_arrays += 1
        kind, shape = str(array.dtype), list(array.shape)
        if isinstance(array, torch.Tensor):
            array = array.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return [kind, shape, hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()]


def _content(value: Any, name: str, weights: _Weights) -> Any:
    """Returns plain data that changes with a value's content."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        return {str(key): _content(part, f"{name}[{key!r}]", weights) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_content(part, f"{name}[{at}]", weights) for at, part in enumerate(value)]
    if isinstance(value, torch.Tensor) or (isinstance(value, np.ndarray) and value.dtype != object):
        return weights.hash(value)
    if isinstance(value, torch.device):
        return None  # another device changes the rounding only
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, nn.Module):
        return _module(value, weights)
    if hasattr(value, "backend_tokenizer"):
        return _tokenizer(value)
    raise _UnidentifiedError(f"what its attribute {name} (a {type(value).__name__}) holds is not known")


def _module(module: nn.Module, weights: _Weights) -> Any:
    """Returns the weights of a module, its architecture, and the settings and tokenizers that its parts hold."""
    settings: list[Any] = []
    for part in module.modules():
        for name, value in sorted(vars(part).items()):
            if name not in _OF_TORCH and (isinstance(value, _PLAIN) or _is_plain_mapping(value)):
                settings.append([name, value])
            elif hasattr(value, "backend_tokenizer"):
                settings.append([name, _tokenizer(value)])
            elif callable(to_dict := getattr(value, "to_dict", None)):
                settings.append([name, json.dumps(to_dict(), sort_keys=True, default=str)])
    state: dict[str, Any] = module.state_dict()
    return [repr(module), settings, {name: weights.hash(tensor) for name, tensor in state.items()}]


def _is_plain_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(part, _PLAIN) for part in chain(value, value.values()))


def _tokenizer(tokenizer: Any) -> Any:
    """Returns all of a tokenizer but the truncation and padding of its last call."""
    to_text: Callable[[], str] = tokenizer.backend_tokenizer.to_str
    state = parse_json(to_text()) | {"truncation": None, "padding": None}
    return [state, str(tokenizer.model_max_length), tokenizer.padding_side, tokenizer.truncation_side]
