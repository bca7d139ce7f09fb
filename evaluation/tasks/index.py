"""Reads the task index: what mteb's tasks and benchmarks are called and made of, without importing mteb.

The file is made by `evaluation.tasks.build_index`. Knows nothing of configs, protocols or data.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from evaluation.errors import EvaluationError
from evaluation.system.cache_folder import CACHE_VARIABLE, user_cache_dir
from evaluation.system.limited_reading import parse_json
from evaluation.system.nearest_names import nearest_names
from evaluation.tasks.index_entries import BenchmarkEntry, BenchmarkTask, TaskEntry, benchmark_entry, task_entry
from evaluation.tasks.installed_mteb import installed_mteb_version

SCHEMA_VERSION: Final = 2
SHIPPED_INDEX: Final = Path(__file__).with_name("index.json")


class TaskIndex:
    """The tasks and benchmarks of one version of mteb. A record is decoded when it is first asked for.

    Example:
        >>> load_index().task("SciFact").main_score
        'ndcg_at_10'
    """

    def __init__(self, text: str) -> None:
        """Reads an index file as `build_index.render_index` writes it: one line per task and benchmark.

        Raises:
            ValueError: The text has another form, or another schema version.
        """
        lines = text.split("\n")
        tasks_at, benchmarks_at = lines.index('"tasks":['), lines.index('"benchmarks":[')
        header = parse_json("".join(lines[:tasks_at]).rstrip(",") + "}")
        if header["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"it has schema version {header['schema_version']}, not {SCHEMA_VERSION}")
        self.mteb_version: str = header["mteb_version"]
        self._class_defaults: dict[str, dict[str, Any]] = header["class_defaults"]
        self._task_lines = _lines_by_name(lines[tasks_at + 1 : lines.index("],", tasks_at)])
        self._benchmark_lines = _lines_by_name(lines[benchmarks_at + 1 : lines.index("]}", benchmarks_at)])
        self._task_entries: dict[str, TaskEntry] = {}

    @property
    def benchmark_names(self) -> tuple[str, ...]:
        """The names of all benchmarks, without aliases, those without any text task included."""
        return tuple(self._benchmark_lines)

    def __contains__(self, name: object) -> bool:
        """Returns whether a task has this name."""
        return name in self._task_lines

    def task(self, name: str) -> TaskEntry:
        """Returns the task of this name; KeyError when there is none."""
        if name not in self._task_entries:
            self._task_entries[name] = task_entry(_decode(self._task_lines[name]), self._class_defaults)
        return self._task_entries[name]

    def benchmark(self, name: str) -> tuple[BenchmarkTask, ...]:
        """Returns a benchmark's tasks, in mteb's order, by its name or an alias; none when it has no text task.

        Raises:
            KeyError: No benchmark has this name.
        """
        return self.benchmark_entry(name).tasks

    def benchmark_entry(self, name: str) -> BenchmarkEntry:
        """Returns the benchmark of this name or alias; mteb too looks at aliases first.

        Raises:
            KeyError: No benchmark has this name.
        """
        return self._benchmarks[self._canonical_names.get(name, name)]

    def nearest_tasks(self, name: str) -> tuple[str, ...]:
        """Returns up to three text tasks whose names resemble this one, best first."""
        with_text = (task for task, line in self._task_lines.items() if '"main_score":"' in line)
        return nearest_names(name, with_text, 3)

    def nearest_benchmarks(self, name: str) -> tuple[str, ...]:
        """Returns up to three names or aliases of benchmarks with text tasks that resemble this one, best first."""
        with_text = [entry for entry in self._benchmarks.values() if entry.tasks]
        return nearest_names(name, (known for entry in with_text for known in (entry.name, *entry.aliases)), 3)

    @functools.cached_property
    def _benchmarks(self) -> dict[str, BenchmarkEntry]:
        return {name: benchmark_entry(_decode(line)) for name, line in self._benchmark_lines.items()}

    @functools.cached_property
    def _canonical_names(self) -> dict[str, str]:
        return {alias: entry.name for entry in self._benchmarks.values() for alias in entry.aliases}


def load_index(path: Path | None = None) -> TaskIndex:
    """Loads the index at `path`, or the one that fits the installed mteb, which is read once per process.

    The shipped file serves its own version of mteb, and machines without mteb. For another version the user's cache
    holds an index, which is made on first use; that imports mteb in another process and takes some ten seconds.

    Raises:
        EvaluationError: The file is missing or is not an index of the current schema, or it could not be made.
    """
    return _installed_index() if path is None else _read_index(path)


@functools.cache
def _installed_index() -> TaskIndex:
    shipped = _read_index(SHIPPED_INDEX)
    version = installed_mteb_version()
    if version in (None, shipped.mteb_version):
        return shipped
    path = user_cache_dir() / f"task-index-{version}.json"
    try:
        return _read_index(path)
    except EvaluationError:  # not there yet, or of another schema
        _build_in_subprocess(path, f"{version} (this package ships the index of {shipped.mteb_version})")
        return _read_index(path)


def _read_index(path: Path) -> TaskIndex:
    try:
        return TaskIndex(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError) as error:
        cause = error
    remedy = f"Make it with `python -m evaluation.tasks.build_index --output {path}`."
    raise EvaluationError(f"The task index {path} can't be used: {cause}. {remedy}") from cause


def _build_in_subprocess(path: Path, version: str) -> None:
    """Builds an index in another process, so that importing mteb costs this one neither memory nor its state."""
    import subprocess

    command = [sys.executable, "-m", "evaluation.tasks.build_index", "--output", str(path.absolute())]
    package_root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=package_root, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise EvaluationError(
            f"The task index for mteb {version} could not be written to {path}: {reason}. "
            f"Set {CACHE_VARIABLE} to a folder that can be written, or run `python {' '.join(command[1:])}` "
            "to see more."
        )


def _lines_by_name(lines: Iterable[str]) -> dict[str, str]:
    start = len('{"name":"')
    return {line[start : line.index('"', start)]: line for line in lines}


def _decode(line: str) -> dict[str, Any]:
    record: dict[str, Any] = parse_json(line.rstrip(","))
    return record
