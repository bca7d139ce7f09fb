"""Lists which files of a dataset's repository a task reads, and finds the folder that holds them. Imports mteb.

mteb loads a dataset by configs (corpus, queries, qrels ...; or a subset's name); a repository's card says which files
a config has. Without such a card every file is wanted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.text.reranking import OLD_FORMAT_RERANKING_TASKS, AbsTaskReranking

from evaluation.errors import DataError
from evaluation.hub.cache import (
    CARD_FILES,
    HubError,
    IncompleteSnapshotError,
    check_complete,
    check_content,
    hub_cache,
    is_offline,
    snapshot_folder,
)
from evaluation.hub.client import fetch
from evaluation.system.limited_yaml import parse_yaml
from evaluation.tasks.selection import TaskChoice
from evaluation.tasks.types import RERANKING_TYPES

_LOG = logging.getLogger(__name__)
ALL_FILES = ("*",)
_SUFFIXES = ("parquet", "jsonl", "json", "csv", "tsv", "txt", "arrow", "gz", "bz2", "xz", "zst", "lz4", "zip", "tar")
DATA_FILES = (*CARD_FILES[:1], *(f"*.{suffix}" for suffix in _SUFFIXES))
"""What `datasets` opens in a repository whose card declares no configs."""
_KNOWN_ARGUMENTS = frozenset({"path", "revision", "name", "split", "trust_remote_code"})


class Config(NamedTuple):
    """A config of a repository that a task reads: its possible names, and whether the task can do without."""

    names: tuple[str, ...]
    optional: bool = False


def wanted_configs(task: AbsTask, choice: TaskChoice) -> list[Config] | None:
    """The configs that mteb will ask for; None where the task's class loads in a way of its own.

    Follows `RetrievalDatasetLoader`, `AbsTask.load_data` and `fast_load` of mteb 2.26.
    """
    loader = type(task).load_data
    if set(task.metadata.dataset) - _KNOWN_ARGUMENTS:
        return None
    if isinstance(task, AbsTaskRetrieval):
        if loader not in {AbsTaskRetrieval.load_data, AbsTaskReranking.load_data}:
            return None
        if task.metadata.name in OLD_FORMAT_RERANKING_TASKS:
            return None
        subsets = list(task.hf_subsets) if task.metadata.is_multilingual else ["default"]
        return [config for subset in subsets for config in _retrieval_configs(subset, choice.type)]
    if loader is not AbsTask.load_data:
        return None
    named = task.metadata.dataset.get("name")
    if task.metadata.is_multilingual and not task.fast_loading:
        return [Config((subset,)) for subset in task.hf_subsets]
    return [Config((str(named),) if named else ("default",))]


def _retrieval_configs(subset: str, task_type: str) -> list[Config]:
    before = "" if subset == "default" else f"{subset}-"
    qrels = ("default", "qrels") if subset == "default" else (f"{subset}-qrels",)
    return [
        Config((f"{before}corpus",)),
        Config(("query", f"{before}queries")),
        Config(qrels),
        Config((f"{before}top_ranked",), optional=task_type not in RERANKING_TYPES),
        Config((f"{before}instruction",), optional=task_type != "InstructionReranking"),
    ]


def file_patterns(card: Mapping[str, Any], wanted: Sequence[Config] | None, choice: TaskChoice) -> tuple[str, ...]:
    """Patterns of the files that are read, the card's own among them.

    Args:
        card: The YAML header of the repository's README.
        wanted: From `wanted_configs`.
        choice: For messages.

    Raises:
        DataError: The repository has no config that the task can't do without.
    """
    declared = {str(config.get("config_name")): config for config in card.get("configs") or ()}
    if wanted is None:
        return ALL_FILES
    if not declared:
        _check_needed_config(wanted, choice)
        return DATA_FILES
    single = len(declared) == 1 or any(config.get("default") for config in declared.values())
    patterns: list[str] = [*CARD_FILES[:1]]
    for config in wanted:
        name = next((name for name in config.names if name in declared), None)
        if name is None and config.names == ("default",) and single:
            name = next((key for key, value in declared.items() if value.get("default")), next(iter(declared)))
        if name is not None:
            patterns += _patterns_of(declared[name])
        elif not config.optional:
            there = ", ".join(list(declared)[:10])
            what = "candidates" if "top_ranked" in config.names[0] else config.names[-1]
            raise DataError(
                [
                    f"{choice.name}: {choice.dataset} (revision {choice.dataset_revision}) declares no config "
                    f"{config.names[-1]!r}, so its {what} would be missing (it has: {there})."
                ]
            )
    patterns += _patterns_of(next(iter(declared.values())))  # datasets opens the first config whichever is asked for
    return tuple(dict.fromkeys(patterns))


def _check_needed_config(wanted: Sequence[Config], choice: TaskChoice) -> None:
    """A repository without a card can't hold the several tables of a retrieval task."""
    if len(wanted) > 1 and any("corpus" in config.names[0] for config in wanted):
        where = f"{choice.dataset} (revision {choice.dataset_revision})"
        raise DataError(
            [
                f"{choice.name}: the card of {where} declares no configs, so corpus, queries and candidates can't be "
                "told apart; fetch the repository with its README.md."
            ]
        )


def _patterns_of(config: Mapping[str, Any]) -> list[str]:
    """A config's data_files, in any of the forms that `datasets` takes."""
    files = config.get("data_files")
    folder = str(config["data_dir"]).strip("/") + "/" if config.get("data_dir") else ""
    if files is None:
        return [f"{folder}*" if folder else "*"]
    paths: list[str] = []
    for item in files if isinstance(files, list) else [files]:
        path = item["path"] if isinstance(item, Mapping) else item
        paths += path if isinstance(path, list) else [path]
    return [folder + str(path).removeprefix("./") for path in paths]


def read_card(folder: Path) -> dict[str, Any]:
    """The YAML header of a snapshot's README; empty where it has none."""
    card: dict[str, Any] = {}
    try:
        parts = (folder / CARD_FILES[0]).read_text(encoding="utf-8", errors="replace").split("---", 2)
        if len(parts) == 3 and not parts[0].strip():
            header = parse_yaml(parts[1])
            card = header if isinstance(header, dict) else {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return card


def dataset_folder(task: AbsTask, choice: TaskChoice) -> Path:
    """The snapshot folder with all files that a task reads, fetched first where there is a network and need be.

    Raises:
        HubError: It can't be had.
        DataError: Candidates, instructions or another table are missing from it.
    """
    wanted = wanted_configs(task, choice)
    folder = snapshot_folder("dataset", choice.dataset, choice.dataset_revision)
    if folder is not None:
        try:
            patterns = file_patterns(read_card(folder), wanted, choice)
            check_complete(folder, patterns, choice.dataset)
        except (IncompleteSnapshotError, DataError):
            if is_offline():
                raise
        else:
            return _checked(folder, patterns, choice)
    if is_offline():
        raise HubError(
            f"dataset {choice.dataset!r} (revision {choice.dataset_revision}) is not in the local Hub cache "
            f"({hub_cache()}); fetch it with fetch-data where there is a network."
        )
    folder = fetch("dataset", choice.dataset, choice.dataset_revision, CARD_FILES)
    patterns = file_patterns(read_card(folder), wanted, choice)
    return _checked(fetch("dataset", choice.dataset, choice.dataset_revision, patterns), patterns, choice)


def _checked(folder: Path, patterns: Sequence[str], choice: TaskChoice) -> Path:
    unchecked = check_content(folder, patterns, choice.dataset)
    if unchecked:
        names = ", ".join(unchecked[:3]) + (" and others" if len(unchecked) > 3 else "")
        _LOG.warning(
            "%s: %s in %s can't be checked against a hash, because the Hub's cache does not keep one for it.",
            choice.dataset, names, folder,
        )  # fmt: skip
    return folder
