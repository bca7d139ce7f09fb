"""Makes models that are in memory rows of a run.

A model that can be saved gets a folder for the time of the run, so that it runs, and is identified, as any folder: by
weights, tokenizer and modules. Any other embeds by its own `encode`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR
from typing import Any, NamedTuple

from pydantic import ValidationError

from evaluation.config.model_config import ModelConfig
from evaluation.config.run_config import RunConfig, name_problems
from evaluation.errors import UsageError
from evaluation.models.names import IN_MEMORY, TEMPORARY_NAME, TEMPORARY_PREFIX
from evaluation.models.own_encoder import OwnEncoder, own_encoder
from evaluation.system.atomic_files import make_folder, reason
from evaluation.system.cache_folder import user_cache_dir
from evaluation.system.file_locks import open_lock

_LOCK = "lock"
_READ = ("label", "model", "series", "step")
_FRESH_S = 24 * 3600.0
"""A folder younger than this may not be locked yet by the process that has just made it."""


class WithModels(NamedTuple):
    """A config with models in memory.

    Attributes:
        config: The config with a row for each of them.
        own: Label -> model, for those that embed by their own `encode`.
    """

    config: RunConfig
    own: Mapping[str, OwnEncoder]


@contextmanager
def in_memory(config: RunConfig, models: Mapping[str, object]) -> Iterator[WithModels]:
    """Saves models below the user's cache folder, and removes them at the end.

    Args:
        models: Label -> SentenceTransformer, pair of a transformers model and its tokenizer, or object with mteb's
            `encode`. A label of the config keeps that row's options; others become new rows.

    Raises:
        UsageError: A model is of another kind, can't be saved or can't be identified, or a label is not valid.
    """
    own = {label: own_encoder(label, model) for label, model in models.items() if not _can_be_saved(model)}
    parent = user_cache_dir() / IN_MEMORY
    make_folder(parent)
    _sweep(parent)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=parent) as place, open_lock(Path(place) / _LOCK):
        saved = [label for label in models if label not in own]
        changes = {
            label: _saved(label, models[label], Path(place) / str(number) / IN_MEMORY)
            for number, label in enumerate(saved)
        }
        changes |= {label: {"model": IN_MEMORY} for label in own}
        yield WithModels(_with_rows(config, changes), own)


def _sweep(parent: Path) -> None:
    """Removes the models of processes that were killed: by their own names only, never through a link."""
    for folder in parent.iterdir():
        with suppress(OSError):  # a Timeout, of a folder in use, is one
            found = folder.lstat()
            is_old = found.st_mtime < time.time() - _FRESH_S
            if is_old and S_ISDIR(found.st_mode) and TEMPORARY_NAME.fullmatch(folder.name):
                with open_lock(folder / _LOCK).acquire(timeout=0):
                    shutil.rmtree(folder)


def _can_be_saved(model: object) -> bool:
    """Whether a model is a SentenceTransformer, or a transformers model with its tokenizer."""
    if isinstance(model, tuple):
        return len(model) == 2 and all(callable(getattr(part, "save_pretrained", None)) for part in model)
    library = sys.modules.get("sentence_transformers")  # whoever holds one of its models has imported it
    return library is not None and isinstance(model, library.SentenceTransformer)


def _saved(label: str, model: Any, folder: Path) -> dict[str, Any]:
    """Saves a model; returns what its row says of it."""
    try:
        if isinstance(model, tuple):
            for part in model:
                part.save_pretrained(str(folder))
        else:
            model.save(str(folder), create_model_card=False)
    except OSError as error:
        raise UsageError(f"models[{label!r}] can't be saved in {folder.parent.parent}: {reason(error)}.") from error
    cut = getattr(model, "truncate_dim", None)  # which a saved folder does not say
    return {"model": str(folder), "revision": None} | ({} if cut is None else {"truncate_dim": int(cut)})


def _with_rows(config: RunConfig, changes: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    rows = {model.label: model for model in config.models}
    for label, change in changes.items():
        try:
            plain = rows.get(label) or ModelConfig.model_validate({"label": label, "model": change["model"]})
        except ValidationError as error:
            raise UsageError(f"models[{label!r}]: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from None
        if plain.endpoint is not None:
            raise UsageError(f"models[{label!r}]: the config's row of this label is a server; choose another label.")
        if change["model"] == IN_MEMORY:
            _refuse_options(plain)
        found = dict(change) if plain.truncate_dim is None else {**change, "truncate_dim": plain.truncate_dim}
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


def _refuse_options(row: ModelConfig) -> None:
    """Refuses options of a row that its model's own `encode` does not read."""
    fields = type(row).model_fields.items()
    idle = [name for name, field in fields if name not in _READ and getattr(row, name) != field.default]
    if idle:
        raise UsageError(
            f"models[{row.label!r}] embeds by its own encode, which does not read {', '.join(idle)} of the config's "
            "row; remove that, or choose another label."
        )
