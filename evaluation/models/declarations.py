"""Reads what a checkpoint's small files say about how it wants to be prompted: its prompts and what it was made from.

Reads the files of sentence-transformers, transformers, PEFT and the model card. Loads no weights, needs no network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evaluation.errors import ModelError
from evaluation.protocols import ModelPrompts
from evaluation.system.limited_reading import parse_json
from evaluation.system.limited_yaml import parse_yaml

_MAX_BYTES = 1 << 20  # of a file; real ones are a few KiB
_FRONT_MATTER = re.compile(r"\s*---\r?\n(.*?)\r?\n---", re.DOTALL)
_ORIGIN_KEYS = (("config.json", "_name_or_path"), ("adapter_config.json", "base_model_name_or_path"))


@dataclass(frozen=True, slots=True)
class Declarations:
    """What a checkpoint's small files say.

    Attributes:
        prompts: How it wants to be prompted.
        origins: The models it was made from.
        fills_masks: Whether it is a plain masked language model, without a pooling of its own.
    """

    prompts: ModelPrompts = ModelPrompts()
    origins: tuple[str, ...] = ()
    fills_masks: bool = False


def read_declarations(folder: Path) -> Declarations:
    """Reads a checkpoint folder's prompts and origins; a folder without such files declares nothing.

    Raises:
        ModelError: A file can't be read, or declares prompts in a form that sentence-transformers does not take.
    """
    architectures = _read_json(folder / "config.json").get("architectures") or []
    fills_masks = str(architectures).endswith("ForMaskedLM']") and not (folder / "modules.json").is_file()
    return Declarations(_prompts(folder), tuple(dict.fromkeys(_origins(folder))), fills_masks)


def _prompts(folder: Path) -> ModelPrompts:
    file = folder / "config_sentence_transformers.json"
    content = _read_json(file)
    declared, default = content.get("prompts") or {}, content.get("default_prompt_name")
    if not isinstance(declared, dict) or not all(isinstance(text, str | None) for text in declared.values()):
        raise ModelError(f"{file}: prompts is {declared!r}; it must map names to texts.")
    texts = {"query": "", "document": ""} | {name: text for name, text in declared.items() if text is not None}
    if default is not None and default not in texts:
        raise ModelError(f"{file}: default_prompt_name is {default!r}, but prompts has only {', '.join(texts)}.")
    return ModelPrompts(texts, default)


def _origins(folder: Path) -> Iterator[str]:
    """Yields the names of the models that a checkpoint was made from, as its files give them."""
    base = _model_card(folder / "README.md").get("base_model")
    yield from (name for name in (base if isinstance(base, list) else [base]) if isinstance(name, str))
    for file, key in _ORIGIN_KEYS:
        name = _read_json(folder / file).get(key)
        if isinstance(name, str):
            yield name


def _model_card(file: Path) -> dict[str, Any]:
    """Returns the front matter of a model card; nothing where it has none that can be read, as it decides no vector."""
    try:
        match = _FRONT_MATTER.match(_read(file))
        content = parse_yaml(match[1]) if match else None
    except (OSError, yaml.YAMLError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = parse_json(_read(file))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} can't be read as JSON: {error}.") from error
    return content if isinstance(content, dict) else {}


def _read(file: Path) -> str:
    with file.open("rb") as stream:
        return stream.read(_MAX_BYTES).decode("utf-8", "replace")
