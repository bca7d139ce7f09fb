"""Expands `folders:` entries of a config's plain data into a row per checkpoint folder, sorted by number.

Knows nothing of what a checkpoint holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from evaluation.config.run_config import ConfigPath

_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_WILDCARD: Final = re.compile(r"[*?\[]")


def expand_folders(
    document: dict[str, Any], base_dir: Path
) -> tuple[dict[str, Any], dict[int, int], list[tuple[ConfigPath, str]]]:
    """Replaces each entry of models: that has folders: by a row per folder.

    Args:
        document: The config's plain data, which stays as it is.
        base_dir: The folder that relative patterns start from.

    Returns:
        The expanded data, the position of each row's entry in the file, and a sentence per fault with its place.
    """
    entries = document.get("models")
    if not isinstance(entries, list):
        return document, {}, []
    rows: list[Any] = []
    origins: dict[int, int] = {}
    faults: list[tuple[ConfigPath, str]] = []
    for position, entry in enumerate(entries):
        own = [entry]
        if isinstance(entry, dict) and isinstance(entry.get("folders"), str):
            own, fault = _rows(entry, base_dir)
            faults += [(("models", position, "folders"), fault)] if fault else []
        for row in own:
            origins[len(rows)] = position
            rows.append(row)
    return {**document, "models": rows}, origins, faults


def moved_lines(lines: Mapping[ConfigPath, int], origins: Mapping[int, int]) -> dict[ConfigPath, int]:
    """Returns the lines of a config's values with the positions that its rows have after the expansion."""
    moved = {path: line for path, line in lines.items() if path[:1] != ("models",) or len(path) < 2}
    for row, position in origins.items():
        for path, line in lines.items():
            if path[:2] == ("models", position):
                moved["models", row, *path[2:]] = line
    return moved


def _rows(entry: Mapping[str, Any], base_dir: Path) -> tuple[list[dict[str, Any]], str]:
    """Returns the rows of an entry, and what is wrong with it; a faulty entry has no rows."""
    pattern = str(entry["folders"])
    for other in ("model", "revision", "series", "step"):
        if other in entry:
            return [], f"folders and {other} exclude each other; remove one of them"
    if not _WILDCARD.search(pattern):
        return [], f"{pattern!r} has no wildcard; write a pattern such as checkpoints/step-*, or model: for one folder"
    names = {_name(pattern, path): path for path in _matches(pattern, base_dir)}
    if not names:
        return [], f"no folder matches {pattern!r} in {base_dir}"
    numbers: dict[float, str] = {}
    for name in names:
        found = _NUMBER.findall(name)
        if not found:
            return [], f"folder {name!r} has no number to sort by; choose a pattern that leaves it out"
        other = numbers.setdefault(float(found[-1]), name)
        if other != name:
            return [], f"folders {other!r} and {name!r} have the same number; choose a pattern that leaves one out"
    stem = entry.get("label")
    rest = {key: value for key, value in entry.items() if key not in {"label", "folders"}}
    rows = [
        {
            "label": f"{stem}-{numbers[number]}" if stem is not None else numbers[number],
            "model": names[numbers[number]],
            "series": stem if stem is not None else pattern,
            "step": number,
            **rest,
        }
        for number in sorted(numbers)
    ]
    return rows, ""


def _matches(pattern: str, base_dir: Path) -> list[str]:
    """Returns the folders that match, as a config names them: relative ones begin with ./ or ../."""
    expanded = Path(pattern).expanduser()
    root = Path(expanded.anchor) if expanded.is_absolute() else base_dir
    found = root.glob(str(expanded.relative_to(expanded.anchor)))
    folders = sorted(path for path in found if path.is_dir())
    if expanded.is_absolute():
        return [str(path) for path in folders]
    return [f"./{path.relative_to(base_dir).as_posix()}" for path in folders]


def _name(pattern: str, path: str) -> str:
    """Returns a folder's own part of its path: from the pattern's first wildcard on, with - in place of slashes."""
    parts = Path(pattern).parts
    first = next(at for at, part in enumerate(parts) if _WILDCARD.search(part))
    return "-".join(Path(path).parts[first - len(parts) :])
