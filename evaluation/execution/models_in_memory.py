"""Gives models that are in memory a folder for the time of a run, so that they run, and are identified, as any folder.

The folder is what the model's own `save` writes, so its content is the model's identity: weights, tokenizer, modules.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from pydantic import ValidationError

from evaluation.config.model_config import ModelConfig
from evaluation.config.run_config import RunConfig, name_problems
from evaluation.errors import UsageError
from evaluation.system.atomic_files import make_folder, reason
from evaluation.system.cache_folder import user_cache_dir
from evaluation.system.file_locks import open_lock

_PREFIX, _LOCK = "models-", "lock"
_OWN_NAME = re.compile(_PREFIX + r"\w{8}")
_FRESH_S = 24 * 3600.0
"""A folder younger than this may not be locked yet by the process that has just made it."""


@contextmanager
def saved(config: RunConfig, models: Mapping[str, object]) -> Iterator[RunConfig]:
    """Saves models below the user's cache folder, and removes them at the end.

    Args:
        config: The config that will run.
        models: Label -> SentenceTransformer. A label of the config keeps that row's options; others become new rows.

    Yields:
        The config with these rows on the saved folders.

    Raises:
        UsageError: A model is not a SentenceTransformer or can't be saved, or a label is not valid.
    """
    for label, model in models.items():
        _refuse_others(label, model)
    parent = user_cache_dir() / "in-memory"
    make_folder(parent)
    _sweep(parent)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent) as place, open_lock(Path(place) / _LOCK):
        folders = {label: Path(place) / str(number) / "in-memory" for number, label in enumerate(models)}
        for label, model in models.items():
            _save(label, model, folders[label])
        yield _with_folders(config, folders, {label: _cut(model) for label, model in models.items()})


def _sweep(parent: Path) -> None:
    """Removes the models of processes that were killed: by their own names only, never through a link."""
    for folder in parent.iterdir():
        with suppress(OSError):  # a Timeout, of a folder in use, is one
            found = folder.lstat()
            if _OWN_NAME.fullmatch(folder.name) and S_ISDIR(found.st_mode) and found.st_mtime < time.time() - _FRESH_S:
                with open_lock(folder / _LOCK).acquire(timeout=0):
                    shutil.rmtree(folder)


def _refuse_others(label: str, model: object) -> None:
    library = sys.modules.get("sentence_transformers")  # whoever holds one of its models has imported it
    if library is None or not isinstance(model, library.SentenceTransformer):
        raise UsageError(
            f"models[{label!r}] is a {type(model).__name__}; a model in memory must be a SentenceTransformer, "
            "whose state can be saved and identified. Save other models as a folder and name it in the config."
        )


def _save(label: str, model: Any, folder: Path) -> None:
    try:
        model.save(str(folder), create_model_card=False)
    except OSError as error:
        raise UsageError(f"models[{label!r}] can't be saved in {folder.parent.parent}: {reason(error)}.") from error


def _cut(model: Any) -> int | None:
    """The dimensions that the model keeps of a vector, which its saved folder does not say."""
    kept = getattr(model, "truncate_dim", None)
    return None if kept is None else int(kept)


def _with_folders(config: RunConfig, folders: Mapping[str, Path], cuts: Mapping[str, int | None]) -> RunConfig:
    rows = {model.label: model for model in config.models}
    for label, folder in folders.items():
        try:
            plain = rows.get(label) or ModelConfig.model_validate({"label": label, "model": str(folder)})
        except ValidationError as error:
            raise UsageError(f"models[{label!r}]: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from None
        if plain.endpoint is not None:
            raise UsageError(f"models[{label!r}]: the config's row of this label is a server; choose another label.")
        cut = cuts[label] if plain.truncate_dim is None else plain.truncate_dim
        found = {"model": str(folder), "revision": None, "truncate_dim": cut}
        rows[label] = plain.model_copy(update=found)
        rows |= {
            row.label: row.model_copy(update=found) for row in config.models if row.base_label == label != row.label
        }
    problems = name_problems(
        [(at, row.label, row.protocol) for at, row in enumerate(rows.values())], list(config.protocols)
    )
    if problems:
        raise UsageError(f"models: {problems[0][1]}.")
    return config.with_models(tuple(rows.values()))
