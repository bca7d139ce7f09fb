"""Refuses, by name and from its files alone, whatever is not a dense sentence encoder. Loads no weights.

It is about models that libraries would load all the same and turn into plausible vectors: a cross-encoder loses its
head, a sparse or late-interaction model its way of scoring, an adapter goes unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evaluation.errors import ModelError
from evaluation.system.limited_reading import parse_json

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_LFS_SIZE = 1_024
_ADAPTER_FILE = "adapter_config.json"
_HEADS = {
    "SequenceClassification": "a sequence-classification head (a cross-encoder or classifier)",
    "TokenClassification": "a token-classification head",
    "QuestionAnswering": "a question-answering head",
    "MultipleChoice": "a multiple-choice head",
    "NextSentencePrediction": "a next-sentence head",
}
_OTHER_KINDS = {
    "CrossEncoder": "a CrossEncoder, which scores pairs of texts",
    "SparseEncoder": "a SparseEncoder (SPLADE), whose vectors are sparse",
    "MultiVectorEncoder": "a late-interaction model (ColBERT), which has a vector for each token",
    "ColBERT": "a late-interaction model (ColBERT), which has a vector for each token",
}
_MODULE_KINDS = (
    (re.compile(r"Splade|Sparse|MLMTransformer|CSR"), "SparseEncoder"),
    (re.compile(r"pylate|colbert|multi_vector|MultiVector", re.IGNORECASE), "ColBERT"),
)
_TRUSTED_PACKAGES = ("sentence_transformers.", "torch.nn.")
_ASK = "this harness evaluates dense sentence encoders: choose one"


def check_dense_encoder(folder: Path, name: str, *, pooling: str | None = None) -> None:
    """Refuse a checkpoint that can't be run as a dense sentence encoder.

    Args:
        pooling: As the config sets it; a generative model without a pooling of its own needs one.

    Raises:
        ModelError: What it is, and what to do.
    """
    check_kind(folder, name)
    if adapter_folder(folder) is not None and find_spec("peft") is None:
        raise ModelError(
            f"{name} holds an adapter ({_ADAPTER_FILE}), which needs the package peft; "
            "install it with: pip install 'e5-evaluation[peft]'"
        )
    if not (folder / "modules.json").is_file():
        _check_head(folder, name, pooling)


def check_kind(folder: Path, name: str) -> None:
    """Refuse a model that declares another kind than a dense encoder, such as a CrossEncoder.

    Raises:
        ModelError: What it is, and what to do.
    """
    kind = _other_kind(folder)
    if kind is not None:
        raise ModelError(f"{name} is {_OTHER_KINDS[kind]}; {_ASK}.")


def adapter_folder(folder: Path) -> Path | None:
    """Where a checkpoint holds a PEFT adapter, if it does."""
    return next((file.parent for file in sorted(folder.rglob(_ADAPTER_FILE))), None)


def module_entries(folder: Path) -> list[tuple[str, str]]:
    """Type and subfolder of each module that modules.json lists; empty for a plain transformers folder.

    Raises:
        ModelError: modules.json is not understood.
    """
    file = folder / "modules.json"
    if not file.is_file():
        return []
    modules = read_json(file)
    if not isinstance(modules, list) or not all(isinstance(module, dict) and "type" in module for module in modules):
        raise ModelError(f"{file} is not a list of modules with a type each.")
    return [(str(module["type"]), str(module.get("path", ""))) for module in modules]


def read_json(file: Path) -> Any:
    """The content of a JSON file, None where there is no such file.

    Raises:
        ModelError: It can't be read.
    """
    try:
        return parse_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise ModelError(f"{file} can't be read as JSON: {error}.") from error


def check_trusted_classes(folder: Path, name: str) -> None:
    """Refuse a checkpoint whose files name Python classes outside the libraries; for models that are not trusted.

    sentence-transformers 5 imports such classes from the folder itself, or from wherever Python finds them, before it
    asks for trust.

    Raises:
        ModelError: The class, and what to do.
    """
    configs = [file for file in sorted(folder.rglob("*.json")) if file.name.endswith(("config.json", "modules.json"))]
    for file in configs:
        for class_name in _class_names(read_json(file), file.name):
            if not class_name.startswith(_TRUSTED_PACKAGES):
                raise ModelError(
                    f"{name} has Python code of its own ({class_name} in {file.relative_to(folder)}), which runs only "
                    "with trust_remote_code: true; read it first."
                )


def _class_names(content: Any, file: str) -> Iterator[str]:
    """Yields the dotted class names that sentence-transformers would import from one of a checkpoint's JSON files."""
    if file == "modules.json" and isinstance(content, list):
        yield from (str(module.get("type", "")) for module in content if isinstance(module, dict))
    elif isinstance(content, dict):
        types = content.get("types")  # of a Router: module -> class
        named = [*(types.values() if isinstance(types, dict) else ()), content.get("activation_function")]
        named.append(content.get("tokenizer_class"))
        yield from (value for value in named if isinstance(value, str) and "." in value)


def check_files(folder: Path, name: str) -> None:
    """Refuse a checkpoint without weights, or with git-lfs pointers in the place of its files.

    Raises:
        ModelError: Which file, and what to do.
    """
    for file in _small_files(folder):
        if file.read_bytes().startswith(_LFS_POINTER):
            where = file.relative_to(folder).as_posix()
            raise ModelError(
                f"{name}: {where} is a git-lfs pointer, not the file itself: run git lfs pull in {folder}."
            )
    weights = [file.name for file in folder.rglob("*.safetensors")]
    adapter = adapter_folder(folder)
    if adapter is not None and all(file.startswith("adapter_") for file in weights):
        base = _mapping(adapter / _ADAPTER_FILE).get("base_model_name_or_path")
        raise ModelError(
            f"{name} holds an adapter without its base model ({base}); merge the two with peft's merge_and_unload and "
            "save the whole model."
        )
    if adapter is not None and not (adapter / "config.json").is_file():
        raise ModelError(
            f"{name}: {adapter} holds an adapter without a config.json, so a library would load the base model from "
            "elsewhere; merge the two with peft's merge_and_unload and save the whole model."
        )
    if not weights:
        hint = " (pickled *.bin weights are not read)" if any(folder.rglob("*.bin")) else ""
        raise ModelError(f"{name}: {folder} holds no *.safetensors file{hint}; save it again with save_pretrained.")


def _small_files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.stat().st_size < _LFS_SIZE:
            yield file


def _other_kind(folder: Path) -> str | None:
    """The key of `_OTHER_KINDS` that a checkpoint declares, if any."""
    declared = _mapping(folder / "config_sentence_transformers.json").get("model_type")
    if declared in _OTHER_KINDS:
        return str(declared)
    for type_name, _ in module_entries(folder):
        for pattern, kind in _MODULE_KINDS:
            if pattern.search(type_name):
                return kind
    architectures = _architectures(folder)
    if (folder / "artifact.metadata").is_file() or any(
        "ColBERT" in name or "ForRetrieval" in name for name in architectures
    ):
        return "ColBERT"  # the layout of Stanford's ColBERT; the ColPali family of transformers
    return None


def _check_head(folder: Path, name: str, pooling: str | None) -> None:
    """A plain transformers folder has a bare encoder, or one that was trained to fill masks."""
    architectures = _architectures(folder)
    for architecture in architectures:
        head = architecture.rpartition("For")[2]
        if head in _HEADS:
            raise ModelError(
                f"{name} has {_HEADS[head]}: {architecture}. Its encoder alone is not what was trained; {_ASK}."
            )
    kind = _mapping(folder / "config.json").get("model_type", "")
    if pooling is None and _generates(str(kind), architectures):
        what = architectures[0] if architectures else kind
        raise ModelError(
            f"{name} is a generative model without a pooling module ({what}); "
            "save it with sentence-transformers and the pooling it was trained with, or set pooling: last."
        )


def _generates(kind: str, architectures: list[str]) -> bool:
    """Whether a model is a decoder or has a language-model head that continues text."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL,
    )
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED,
    )

    headed = any(name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in architectures)
    return headed or (kind in CAUSAL and kind not in MASKED)


def _architectures(folder: Path) -> list[str]:
    declared = _mapping(folder / "config.json").get("architectures") or []
    return [str(name) for name in declared]


def _mapping(file: Path) -> dict[str, Any]:
    content = read_json(file)
    return content if isinstance(content, dict) else {}
