"""Defines a chosen task, with everything that can move its score, and reads the local folder that it names.

`evaluation.tasks.choosing` makes it from a config entry. Imports neither mteb nor torch, and knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from evaluation.errors import DataError
from evaluation.protocols import TaskRules
from evaluation.tasks.local.folders import LocalData, read_local_data, subfolders


@dataclass(frozen=True, slots=True)
class TaskChoice:
    """A task with everything chosen that can move its score.

    Attributes:
        name: The task's name in tables and folders.
        via: mteb (its own task class on the Hub's or local data), beir, or local (a new task on local data).
        source: mteb's name of the task whose class, data or metadata is used; None for local tasks.
        dataset, dataset_revision: Hub repository and pinned commit, or local/<name> and local-<content hash>.
        language: ISO 639-3 code of a local task's language, which only BM25 reads; None: as mteb's metadata says.
        aggregate: The task of which this one is a part, such as CQADupstackRetrieval.
    """

    name: str
    type: str
    via: Literal["mteb", "beir", "local"]
    source: str | None
    data: Path | None
    dataset: str
    dataset_revision: str
    splits: tuple[str, ...]
    subsets: tuple[str, ...]
    main_score: str
    options: Mapping[str, Any] = field(default_factory=dict)
    aggregate: str | None = None
    languages: tuple[str, ...] = ()
    language: str | None = None


class RuledTask(NamedTuple):
    """A chosen task and a protocol's rules for it."""

    task: TaskChoice
    rules: TaskRules


def read_choice(choice: TaskChoice, *, train_split: str | None = None) -> LocalData:
    """Reads a task's local folder, which must still hold what it held when the run was planned.

    Raises:
        DataError: The folder's content changed.
    """
    assert choice.data is not None, choice.name
    subsets = None if choice.subsets == ("default",) or len(choice.subsets) == 0 else choice.subsets
    if subsets is not None and not set(subsets) <= subfolders(choice.data):
        subsets = None  # a task with one named subset on a folder without subfolders
    data = read_local_data(
        choice.data,
        choice.type,
        splits=choice.splits,
        subsets=subsets,
        needs_train=train_split,
        linked=None,  # checked when the run was planned; the content hash holds the bytes to what was allowed then
    )
    if f"local-{data.content_hash}" != choice.dataset_revision:
        raise DataError([f"{choice.data} changed while the run was going on; start again."])
    return data
