"""Hashes the rows that a task loaded, and refuses rows that differ from those loaded before under the same revision.

A note of each hash lies in the user's cache folder, one small file per task, revision, splits, subsets and limit. So a
copy that was cut or edited is noticed even where the Hub's cache keeps no hash of its files; the hash is in the record
too, for comparisons between machines.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets import Dataset

from evaluation.config.limit import Limit
from evaluation.errors import DataError, StoreError
from evaluation.system.atomic_files import read_sealed_json, write_sealed_json
from evaluation.system.cache_folder import user_cache_dir
from evaluation.tasks.selection import TaskChoice

_BATCH = 10_000
_LIBRARIES = ("mteb", "datasets")
"""What turns files into rows: another version may give other rows for good reasons."""


def hash_rows(rows: Any) -> str:
    """sha256 of loaded data, 64 hex digits: nested mappings of `datasets` tables, lists and plain values."""
    digest = hashlib.sha256()
    _feed(rows, digest.update)
    return digest.hexdigest()


def check_rows(rows: Any, choice: TaskChoice, limit: Limit | None, seed: int) -> str:
    """Hash the rows of a task and compare them with those that were loaded before.

    Returns:
        The hash, for the record.

    Raises:
        DataError: Other rows were loaded before under the same revision.
    """
    content, file = hash_rows(rows), _note(choice, limit, seed)
    if choice.data is not None:
        return content  # a folder's revision is the hash of its content already
    try:
        before = str(read_sealed_json(file).get("content"))
    except (FileNotFoundError, StoreError):
        with contextlib.suppress(StoreError):  # a cache that can't be written notices nothing, and stops nothing
            write_sealed_json(file, {"task": choice.name, "dataset": choice.dataset, "content": content})
        return content
    if before != content:
        raise DataError(
            [
                f"{choice.name}: the rows of {choice.dataset} (revision {choice.dataset_revision}) are not those that "
                f"were loaded before (content {content[:12]}, before {before[:12]}). Delete the dataset from the Hub "
                f"cache and run fetch-data; if the copy used before was the damaged one, delete {file} as well."
            ]
        )
    return content


def _note(choice: TaskChoice, limit: Limit | None, seed: int) -> Path:
    chosen = {name: value for name, value in asdict(choice).items() if name not in {"data", "aggregate", "languages"}}
    libraries = {name: version(name) for name in _LIBRARIES}
    what = [chosen, limit.model_dump() if limit else None, seed, libraries]
    name = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:24]
    return user_cache_dir() / "loaded-rows" / f"{name}.json"


def _feed(value: Any, update: Callable[[bytes], object]) -> None:
    if isinstance(value, Dataset):
        update(json.dumps(["table", len(value), sorted(value.column_names)]).encode())
        plain = value.with_format(None)
        for start in range(0, len(value), _BATCH):
            update(_text(plain[start : start + _BATCH]))
    elif isinstance(value, Mapping):
        update(json.dumps(["mapping", len(value)]).encode())
        if any(isinstance(item, Mapping | Dataset) for item in value.values()):
            for key in sorted(value, key=str):
                update(_text(str(key)))
                _feed(value[key], update)
        else:
            update(_text({str(key): item for key, item in value.items()}))
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        update(_text(list(value)))
    else:
        update(_text(value))


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()
