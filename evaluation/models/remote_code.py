"""Finds the code of other repositories that a checkpoint names (`auto_map: other/repo--module.Class`), and fetches it.

A library would run whatever the newest commit of such a repository holds. Here its *.py are fetched once, belong to the
checkpoint's identity and to the lock, and change only when fetch-data is run again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluation.errors import ModelError
from evaluation.hub.cache import HubError, is_offline, snapshot_folder
from evaluation.hub.client import fetch
from evaluation.system.limited_reading import parse_json

CODE_FILES = ("*.py",)
_CONFIGS = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
_LISTS = ("modules.json", "router_config.json")
_REFERENCE = re.compile(r"([\w.-]+(?:/[\w.-]+)?)--[\w.]+")


def code_repositories(folder: Path) -> tuple[str, ...]:
    """The repositories, other than its own, whose code a checkpoint wants to run; sorted."""
    found: set[str] = set()
    for file in [*folder.glob("*.json"), *folder.glob("*/*.json")]:
        if file.name in (*_CONFIGS, *_LISTS):
            try:
                content = parse_json(file.read_bytes())
            except (OSError, json.JSONDecodeError, UnicodeDecodeError):
                continue  # whoever reads the checkpoint says what is wrong with the file
            except ValueError as error:  # a library may read it all the same
                raise ModelError(f"{file} can't be read as JSON: {error}.") from error
            if file.name in _CONFIGS:
                content = content.get("auto_map") if isinstance(content, dict) else None
            found |= {match[1] for text in _texts(content) if (match := _REFERENCE.fullmatch(text))}
    return tuple(sorted(found))


def code_folders(folder: Path) -> dict[str, Path]:
    """The snapshot of each repository whose code a checkpoint wants to run, fetched where it is not in the cache.

    Raises:
        ModelError: One of them can't be had.
    """
    folders = {}
    for repository in code_repositories(folder):
        try:
            there = snapshot_folder("model", repository, None)
            if (there is None or not any(there.rglob("*.py"))) and not is_offline():
                there = fetch("model", repository, None, CODE_FILES)
        except HubError as error:
            raise ModelError(str(error)) from error
        if there is None:
            raise ModelError(
                f"{folder} runs code of {repository}, which is not in the local Hub cache; run fetch-data where "
                "there is a network."
            )
        folders[repository] = there
    return folders


def check_code(folders: Mapping[str, Path]) -> None:
    """Check, after a model was loaded, that the code of other repositories is still at the commit that was hashed.

    Raises:
        ModelError: The loading library fetched a newer commit.
    """
    for repository, folder in folders.items():
        now = snapshot_folder("model", repository, None)
        if now is None or now.name != folder.name:
            raise ModelError(
                f"the code of {repository} moved from commit {folder.name} to {now.name if now else 'none'} while the "
                "model was loaded; nothing of it is stored. Run fetch-data, then start again with HF_HUB_OFFLINE=1."
            )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
