"""Finds what is wrong with a model folder before anything is loaded, so that a plan names it and no run starts for it.

Reads small files and the headers of weights; hashes nothing and imports no library of models.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from evaluation.errors import ModelError
from evaluation.models.content import INERT_FOLDERS, is_vocabulary
from evaluation.models.refusals import check_files, check_kind, read_json
from evaluation.models.weight_headers import read_weight_header

_INDEX = "model.safetensors.index.json"


def check_model_folder(folder: Path, name: str) -> None:
    """Checks a checkpoint's files as far as that needs no library.

    Args:
        folder: The checkpoint.
        name: The model as the config has it, for messages.

    Raises:
        ModelError: A git-lfs pointer, a file that is missing or cut short, JSON that can't be read, or a model that is
            not a dense sentence encoder.
    """
    check_files(folder, name)
    check_kind(folder, name)
    files = {path: folder / path for path in _paths(folder)}
    for file in files.values():
        if file.name in {"config.json", "modules.json", "tokenizer.json", "tokenizer_config.json"}:
            read_json(file)
    if not any(is_vocabulary(file) for file in files):
        raise ModelError(f"{name}: {folder} holds no tokenizer (tokenizer.json, vocab.txt, sentencepiece.bpe.model).")
    for index in (file for file in files.values() if file.name == _INDEX):
        shards = sorted(set(_mapping(_mapping(read_json(index)).get("weight_map")).values()))
        missing = [shard for shard in shards if not (index.parent / str(shard)).is_file()]
        if missing:
            raise ModelError(
                f"{name}: {index} names {', '.join(map(str, missing))}, which {index.parent} does not hold."
            )
    for file in files.values():
        if file.suffix == ".safetensors":
            _check_weights(file, name)


def _paths(folder: Path) -> list[str]:
    """Returns the files of a checkpoint by their path in it, without folders that no library reads."""
    paths = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return [
        path.as_posix()
        for path in paths
        if not any(fnmatchcase(part, pattern) for part in path.parts[:-1] for pattern in INERT_FOLDERS)
    ]


def _check_weights(file: Path, name: str) -> None:
    """Refuses a weights file that is cut short, or is something else."""
    size = file.stat().st_size
    try:
        header = read_weight_header(file)
        expected = header.data_start + max((entry["data_offsets"][1] for entry in header.tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ModelError(f"{name}: {file} is not a safetensors file; copy or download it again.") from error
    if size < expected:
        raise ModelError(f"{name}: {file} is cut short ({size:,} of {expected:,} bytes); copy or download it again.")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
