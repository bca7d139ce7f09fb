"""Reads the installed mteb's version and descriptive statistics from its files, without importing it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from evaluation.system.limited_reading import parse_json
from evaluation.tasks.index_entries import TaskEntry


def installed_mteb_version() -> str | None:
    """Returns the version of the installed mteb, or None where it is not installed."""
    package = _mteb_folder()
    if package is None:
        return None
    prefix, suffix = "mteb-", ".dist-info"
    found = [file.name for file in package.parent.glob(f"{prefix}*{suffix}")]
    if len(found) == 1:  # avoids importing importlib.metadata, which costs as much as everything else here
        return found[0][len(prefix) : -len(suffix)]
    from importlib import metadata

    try:
        return metadata.version("mteb")
    except metadata.PackageNotFoundError:
        return None


def descriptive_stats_file(entry: TaskEntry) -> Path | None:
    """Returns mteb's file with a task's counts of texts and lengths; None without mteb or without such a file."""
    package = _mteb_folder()
    if package is None:
        return None
    folder = package / "descriptive_stats"
    # Image and Any2Any types lie one folder deeper, as TaskMetadata.descriptive_stat_path has it.
    candidates = (folder / entry.type / f"{entry.name}.json", folder / "Image" / entry.type / f"{entry.name}.json")
    return next((file for file in candidates if file.is_file()), None)


def load_statistics(entry: TaskEntry) -> dict[str, Any] | None:
    """Loads what mteb counted in a task's data: split -> statistics; None where mteb has no such file.

    A task with several subsets has theirs under `hf_subset_descriptive_stats` of a split. Aggregates have no file.
    """
    file = descriptive_stats_file(entry)
    if file is None:
        return None
    statistics: dict[str, Any] = parse_json(file.read_bytes())
    return statistics


def _mteb_folder() -> Path | None:
    spec = importlib.util.find_spec("mteb")
    if spec is None or spec.origin is None:  # no origin: merely a folder of that name on the path, such as a run's
        return None
    return Path(spec.origin).parent
