"""Resolves a config's task entries: names, splits, subsets and folders are checked, and each task gets its rules.

Reads the task index and local folders; imports neither mteb nor torch, and knows no model.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from evaluation.config.models import BeirTask, BenchmarkTasks, ConfigPath, LocalTask, MtebTask, RunConfig
from evaluation.protocols import ModelProtocol, TaskTraits, task_rules
from evaluation.system.nearest_names import nearest_hint
from evaluation.tasks.folder_choice import ConfigFaults, Folder, FolderReader
from evaluation.tasks.index import TaskIndex, load_index
from evaluation.tasks.index_entries import TaskEntry
from evaluation.tasks.selection import BEIR_TASKS, RuledTask, TaskChoice
from evaluation.tasks.types import TASK_TYPES, TRAINED_TYPES

_USUAL_SPLITS = ("train", "validation", "dev", "test")


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a config entry asks of a task of the index."""

    splits: tuple[str, ...] | None = None
    subsets: tuple[str, ...] | None = None
    data: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    via: Literal["mteb", "beir"] = "mteb"
    name: str | None = None
    alias: str | None = None
    aggregate: str | None = None


class TaskChooser:
    """Resolves the task entries of a config, and collects what is wrong with them.

    Example:
        >>> [task.name for task, _ in TaskChooser(config).choices(0, ModelProtocol("e5"))]
        ['SciFact']
    """

    def __init__(self, config: RunConfig) -> None:
        self._config, self._faults = config, ConfigFaults(config)
        self._index: TaskIndex = load_index()
        self._folders = FolderReader(config, self._faults)

    @property
    def problems(self) -> list[str]:
        """One sentence per fault, with file and line."""
        return self._faults.problems

    def choices(self, position: int, protocol: ModelProtocol) -> Iterator[RuledTask]:
        """Yields the tasks that the entry at a position stands for, under a protocol; faults go to `problems`."""
        match self._config.tasks[position]:
            case LocalTask() as entry:
                yield from self._local_task(position, entry, protocol)
                return
            case MtebTask() as entry:
                wishes = self._mteb_task(position, entry)
            case BenchmarkTasks() as entry:
                wishes = self._benchmark(position, entry)
            case BeirTask() as entry:
                wishes = self._beir_task(position, entry)
        for task, wish in wishes:
            choice = self._choice(position, task, protocol, wish)
            if choice is not None:
                yield choice

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
            self._faults.add(path, f"task {name!r} ({entry.type}, {kinds}) is not one that a text encoder can run.")
            return None
        return entry

    def _parts(self, entry: TaskEntry) -> list[TaskEntry]:
        return [self._index.task(part) for part in entry.parts]

    def _mteb_task(self, position: int, chosen: MtebTask) -> Iterator[tuple[TaskEntry, _Wish]]:
        path: ConfigPath = ("tasks", position, "mteb")
        entry = self._entry(path, chosen.mteb)
        if entry is None:
            return
        if not entry.is_aggregate:
            yield entry, _Wish(chosen.splits, chosen.subsets, chosen.data, chosen.options)
        elif chosen.data is not None:
            n_parts = len(entry.parts)
            self._faults.add(path, f"{entry.name} is the mean of {n_parts} tasks; give each part its own data.")
        else:
            wish = _Wish(chosen.splits, chosen.subsets, aggregate=entry.name)
            yield from ((part, wish) for part in self._parts(entry))

    def _benchmark(self, position: int, chosen: BenchmarkTasks) -> Iterator[tuple[TaskEntry, _Wish]]:
        path: ConfigPath = ("tasks", position, "mteb_benchmark")
        try:
            members = self._index.benchmark(chosen.mteb_benchmark)
        except KeyError:
            near = ", ".join(repr(name) for name in self._index.nearest_benchmarks(chosen.mteb_benchmark))
            self._faults.add(path, f"mteb has no benchmark {chosen.mteb_benchmark!r}; nearest: {near}.")
            return
        found = False
        for member in members:
            entry = self._index.task(member.name)
            if not _passes(entry, chosen):
                continue
            found = True
            if self._entry(path, member.name) is None:
                continue
            subsets = member.subsets
            if chosen.languages:
                allowed = entry.subsets_in(chosen.languages)
                subsets = tuple(name for name in (subsets or entry.subsets) if name in allowed)
            wish = _Wish(member.splits, subsets, aggregate=entry.name if entry.parts else None)
            yield from ((task, wish) for task in self._parts(entry) or [entry])
        if not found:
            self._faults.add(path, f"no task of {chosen.mteb_benchmark!r} passes the filters.")

    def _beir_task(self, position: int, chosen: BeirTask) -> Iterator[tuple[TaskEntry, _Wish]]:
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
            wish = _Wish(chosen.splits, None, chosen.data, {}, "beir", name, chosen.beir, aggregate)
            yield task, wish

    def _choice(self, position: int, entry: TaskEntry, protocol: ModelProtocol, wish: _Wish) -> RuledTask | None:
        """Returns a task of the index on the Hub's data, or on a folder that replaces it; None after a fault."""
        task_type = "Retrieval" if wish.via == "beir" else entry.type
        aliases = tuple(name for name in (wish.alias, wish.aggregate) if name)
        instruction = entry.prompt or TASK_TYPES[task_type].instruction
        rules = task_rules(self._config, protocol, TaskTraits(entry.name, task_type, aliases, instruction))
        if rules.ignore_identical_ids is None:
            rules = replace(rules, ignore_identical_ids=entry.ignore_identical_ids)
        choice = TaskChoice(
            name=wish.name or entry.name,
            type=task_type,
            via=wish.via,
            source=entry.name if entry.dataset else None,
            data=None,
            dataset=entry.dataset or f"local/{entry.name}",
            dataset_revision=entry.revision,
            splits=wish.splits or ((rules.split,) if rules.split in entry.splits else entry.splits),
            subsets=self._known_subsets(position, entry, wish.subsets),
            main_score="ndcg_at_10" if wish.via == "beir" else entry.main_score,
            options=dict(wish.options),
            aggregate=wish.aggregate,
            languages=entry.languages,
        )
        if wish.data is None:
            self._check_splits(position, entry, wish.splits)
            return RuledTask(choice, rules)
        replaced = self._folders.replaced(position, choice, wish.data, entry.train_split)
        return None if replaced is None else RuledTask(replaced, rules)

    def _known_subsets(self, position: int, entry: TaskEntry, subsets: tuple[str, ...] | None) -> tuple[str, ...]:
        unknown = next((subset for subset in subsets or () if subset not in entry.subsets), None)
        if unknown is not None:
            known = ", ".join(entry.subsets[:20]) + (" ..." if len(entry.subsets) > 20 else "")
            sentence = f"{entry.name} has no subset {unknown!r} (subsets: {known})."
            self._faults.add(("tasks", position, "subsets"), sentence)
        return tuple(name for name in entry.subsets if subsets is None or name in subsets)

    def _check_splits(self, position: int, entry: TaskEntry, splits: tuple[str, ...] | None) -> None:
        """Refuses unknown splits; mteb lists those it scores, and a dataset may have others of the usual names."""
        known = {*entry.splits, *_USUAL_SPLITS}
        unknown = next((split for split in splits or () if split not in known), None)
        if unknown is not None:
            sentence = f"{entry.name} has no split {unknown!r} (mteb scores: {', '.join(entry.splits)})."
            self._faults.add(("tasks", position, "splits"), sentence)

    def _local_task(self, position: int, chosen: LocalTask, protocol: ModelProtocol) -> Iterator[RuledTask]:
        if chosen.local in self._index:
            sentence = f"{chosen.local!r} is the name of an mteb task; choose another."
            self._faults.add(("tasks", position, "local"), sentence)
            return
        options = dict(chosen.options)
        if chosen.max_documents is not None:
            if chosen.type != "Clustering":
                sentence = f"max_documents is not an option of a {chosen.type} task; remove it."
                self._faults.add(("tasks", position, "max_documents"), sentence)
            options["max_document_to_embed"] = chosen.max_documents
        train = str(options.get("train_split", "train")) if chosen.type in TRAINED_TYPES else None
        wanted = Folder(self._config.resolve_data(chosen.data), chosen.type, chosen.splits, chosen.subsets, train)
        wanted = replace(wanted, splits=wanted.splits or self._folders.scored_splits(position, wanted))
        read = self._folders.read(position, wanted) if wanted.splits else None
        if read is None or wanted.splits is None:
            return
        if train is not None and any(train not in parts for parts in read.subsets.values()):
            sentence = f"{wanted.folder} has no {train} split, which a {chosen.type} task learns from."
            self._faults.add(("tasks", position, "data"), sentence)
        facts = TASK_TYPES[chosen.type]
        choice = TaskChoice(
            name=chosen.local,
            type=chosen.type,
            via="local",
            source=None,
            data=wanted.folder,
            dataset=f"local/{chosen.local}",
            dataset_revision=f"local-{read.content_hash}",
            splits=wanted.splits,
            subsets=tuple(read.subsets),
            main_score=chosen.main_score or facts.main_score,
            options=options,
        )
        traits = TaskTraits(chosen.local, chosen.type, instruction=facts.instruction)
        yield RuledTask(choice, task_rules(self._config, protocol, traits))


def _passes(entry: TaskEntry, chosen: BenchmarkTasks) -> bool:
    """Returns whether a benchmark's task passes the filters of its config entry."""

    def matches(globs: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(entry.name, glob) for glob in globs)

    return (
        (chosen.types is None or entry.type in chosen.types)
        and (chosen.languages is None or bool(entry.subsets_in(chosen.languages)))
        and (chosen.only is None or matches(chosen.only))
        and not matches(chosen.exclude)
    )
