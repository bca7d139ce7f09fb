"""Finds the tasks of the index that a config entry stands for: one, the parts of an aggregate, or a benchmark's."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from evaluation.config.run_config import ConfigPath
from evaluation.config.task_config import BeirTask, BenchmarkTasks, MtebTask
from evaluation.system.nearest_names import nearest_hint
from evaluation.tasks.beir_names import BEIR_TASKS
from evaluation.tasks.folder_choice import ConfigFaults
from evaluation.tasks.index import load_index
from evaluation.tasks.index_entries import TaskEntry
from evaluation.tasks.language_codes import THREE_LETTER_CODES


@dataclass(frozen=True, slots=True)
class Wish:
    """What a config entry asks of a task of the index."""

    splits: tuple[str, ...] | None = None
    subsets: tuple[str, ...] | None = None
    data: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    via: Literal["mteb", "beir"] = "mteb"
    name: str | None = None
    alias: str | None = None
    aggregate: str | None = None


class IndexLookup:
    """Looks tasks and benchmarks up by name; unknown ones go to `faults`."""

    def __init__(self, faults: ConfigFaults) -> None:
        self._faults, self._index = faults, load_index()

    def tasks_of(self, position: int, entry: MtebTask | BenchmarkTasks | BeirTask) -> Iterator[tuple[TaskEntry, Wish]]:
        """Yields the tasks that the entry at a position stands for, and what it asks of each."""
        match entry:
            case MtebTask():
                yield from self._mteb_task(position, entry)
            case BenchmarkTasks():
                yield from self._benchmark(position, entry)
            case BeirTask():
                yield from self._beir_task(position, entry)

    def _entry(self, path: ConfigPath, name: str) -> TaskEntry | None:
        """Returns the index entry of a task that can be run; None after a fault."""
        if name not in self._index:
            near = self._index.nearest_tasks(name)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            self._faults.add(path, f"mteb {self._index.mteb_version} has no task {name!r}{hint}.")
            return None
        entry = self._index.task(name)
        if not entry.is_text:
            kinds = ", ".join(entry.modalities)
            self._faults.add(path, f"task {name!r} ({entry.type}, {kinds}) can't be run by a text encoder.")
            return None
        return entry

    def _parts(self, entry: TaskEntry) -> list[TaskEntry]:
        return [self._index.task(part) for part in entry.parts]

    def _mteb_task(self, position: int, chosen: MtebTask) -> Iterator[tuple[TaskEntry, Wish]]:
        path: ConfigPath = ("tasks", position, "mteb")
        entry = self._entry(path, chosen.mteb)
        if entry is None:
            return
        if not entry.is_aggregate:
            yield entry, Wish(chosen.splits, chosen.subsets, chosen.data, chosen.options)
        elif chosen.data is not None:
            n_parts = len(entry.parts)
            self._faults.add(path, f"{entry.name} is the mean of {n_parts} tasks; give each part its own data.")
        else:
            wish = Wish(chosen.splits, chosen.subsets, aggregate=entry.name)
            yield from ((part, wish) for part in self._parts(entry))

    def _benchmark(self, position: int, chosen: BenchmarkTasks) -> Iterator[tuple[TaskEntry, Wish]]:
        path: ConfigPath = ("tasks", position, "mteb_benchmark")
        try:
            members = self._index.benchmark(chosen.mteb_benchmark)
        except KeyError:
            near = ", ".join(repr(name) for name in self._index.nearest_benchmarks(chosen.mteb_benchmark))
            self._faults.add(path, f"mteb has no benchmark {chosen.mteb_benchmark!r}; nearest: {near}.")
            return
        if self._has_wrong_languages(position, chosen):
            return
        found = False
        for member in members:
            entry = self._index.task(member.name)
            subsets = _subsets_passing(entry, member.subsets, chosen)
            if not _passes(entry, chosen) or subsets == ():
                continue
            found = True
            if self._entry(path, member.name) is None:
                continue
            wish = Wish(member.splits, subsets, aggregate=entry.name if entry.parts else None)
            yield from ((task, wish) for task in self._parts(entry) or [entry])
        if not found:
            self._faults.add(path, f"no task of {chosen.mteb_benchmark!r} passes the filters.")

    def _has_wrong_languages(self, position: int, chosen: BenchmarkTasks) -> bool:
        """Notes filters that can't be meant: two-letter codes, and exclusive_languages without languages."""
        path: ConfigPath = ("tasks", position, "languages")
        short = [code for code in chosen.languages or () if code in THREE_LETTER_CODES]
        for code in short:
            meant = THREE_LETTER_CODES[code]
            self._faults.add(path, f"languages: {code!r} is a two-letter code, and mteb's have three: write {meant}.")
        if chosen.exclusive_languages and not chosen.languages:
            place: ConfigPath = ("tasks", position, "exclusive_languages")
            self._faults.add(place, "exclusive_languages needs languages: name those that subsets may have.")
            return True
        return bool(short)

    def _beir_task(self, position: int, chosen: BeirTask) -> Iterator[tuple[TaskEntry, Wish]]:
        source = BEIR_TASKS.get(chosen.beir)
        if source is None and chosen.data is None:
            known = f"{nearest_hint(chosen.beir, BEIR_TASKS)} (known: {', '.join(BEIR_TASKS)})"
            sentence = f"BEIR has no dataset {chosen.beir!r}{known}; or give data: a folder."
            self._faults.add(("tasks", position, "beir"), sentence)
            return
        entry = self._index.task(source) if source else TaskEntry(chosen.beir, "Retrieval", main_score="ndcg_at_10")
        parts = self._parts(entry) if chosen.data is None else []
        for task in parts or [entry]:
            name = f"beir-{task.name if parts else chosen.beir}"
            aggregate = f"beir-{chosen.beir}" if parts else None
            wish = Wish(chosen.splits, None, chosen.data, {}, "beir", name, chosen.beir, aggregate)
            yield task, wish


def _passes(entry: TaskEntry, chosen: BenchmarkTasks) -> bool:
    """Returns whether a benchmark's task passes its config entry's filters of types and names."""

    def matches(globs: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(entry.name, glob) for glob in globs)

    return (
        (chosen.types is None or entry.type in chosen.types)
        and (chosen.only is None or matches(chosen.only))
        and not matches(chosen.exclude)
    )


def _subsets_passing(
    entry: TaskEntry, offered: tuple[str, ...] | None, chosen: BenchmarkTasks
) -> tuple[str, ...] | None:
    """Returns the subsets that pass the filters, of those that the benchmark offers; None: all of the task's."""
    if not chosen.languages and chosen.subsets is None:
        return offered
    kept = entry.subsets if offered is None else offered
    if chosen.languages:
        allowed = entry.subsets_in(chosen.languages, exclusive=chosen.exclusive_languages)
        kept = tuple(name for name in kept if name in allowed)
    if chosen.subsets is not None:
        kept = tuple(name for name in kept if name in chosen.subsets)
    return kept
