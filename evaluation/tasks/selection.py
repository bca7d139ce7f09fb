"""Config entries -> chosen tasks: names, splits, subsets and folders resolved and checked, each under its protocol.

Reads the task index and local folders; imports neither mteb nor torch, and knows no model.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from evaluation.config.models import BeirTask, BenchmarkTasks, ConfigPath, LocalTask, MtebTask, RunConfig
from evaluation.errors import DataError
from evaluation.protocols import ModelProtocol, TaskRules, TaskTraits, task_rules
from evaluation.tasks.index import TaskIndex, load_index
from evaluation.tasks.index_entries import TaskEntry
from evaluation.tasks.local.folders import LocalData, available_splits, read_local_data
from evaluation.tasks.types import TASK_TYPES, TRAINED_TYPES

BEIR_TASKS: Mapping[str, str] = {
    "msmarco": "MSMARCO",
    "trec-covid": "TRECCOVID",
    "nfcorpus": "NFCorpus",
    "nq": "NQ",
    "hotpotqa": "HotpotQA",
    "fiqa": "FiQA2018",
    "arguana": "ArguAna",
    "webis-touche2020": "Touche2020",
    "cqadupstack": "CQADupstackRetrieval",
    "quora": "QuoraRetrieval",
    "dbpedia-entity": "DBPedia",
    "scidocs": "SCIDOCS",
    "fever": "FEVER",
    "climate-fever": "ClimateFEVER",
    "scifact": "SciFact",
}
"""BEIR's names (README of beir-cellar/beir) and mteb's tasks on the same data."""


@dataclass(frozen=True, slots=True)
class TaskChoice:
    """A task with everything chosen that can move its score.

    Attributes:
        name: In tables and folders.
        via: mteb (its own task class on the Hub's or local data), beir, or local (a new task on local data).
        source: mteb's name of the task whose class, data or metadata is used; None for local tasks.
        dataset, dataset_revision: Hub repository and pinned commit, or local/<name> and local-<content hash>.
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


class RuledTask(NamedTuple):
    """A chosen task and a protocol's rules for it."""

    task: TaskChoice
    rules: TaskRules


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a config entry asks of a task of the index."""

    splits: tuple[str, ...] | None = None
    subsets: tuple[str, ...] | None = None
    data: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    via: Literal["mteb", "beir"] = "mteb"
    name: str | None = None
    alias: str | None = None
    aggregate: str | None = None


@dataclass(frozen=True, slots=True)
class _Folder:
    """What is read of a local folder."""

    folder: Path
    type: str
    splits: tuple[str, ...]
    subsets: tuple[str, ...] | None
    train_split: str | None


class TaskChooser:
    """Resolves the task entries of a config, and collects what is wrong with them.

    Attributes:
        problems: One sentence a fault, with file and line.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._index: TaskIndex = load_index()
        self._folders: dict[_Folder, LocalData | None] = {}
        self.problems: list[str] = []

    def choices(self, position: int, protocol: ModelProtocol) -> Iterator[RuledTask]:
        """The tasks that the entry at a position stands for, under a protocol; faults go to `problems`."""
        match self._config.tasks[position]:
            case MtebTask() as entry:
                yield from self._mteb_task(position, entry, protocol)
            case BenchmarkTasks() as entry:
                yield from self._benchmark(position, entry, protocol)
            case BeirTask() as entry:
                yield from self._beir_task(position, entry, protocol)
            case LocalTask() as entry:
                yield from self._local_task(position, entry, protocol)

    def _fault(self, path: ConfigPath, sentence: str) -> None:
        self.problems.append(self._config.place(path) + sentence)

    def _entry(self, path: ConfigPath, name: str) -> TaskEntry | None:
        """The index entry of a task that can be run, or a fault."""
        if name not in self._index:
            near = self._index.nearest_tasks(name)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            self._fault(path, f"mteb {self._index.mteb_version} has no task {name!r}{hint}.")
            return None
        entry = self._index.task(name)
        if not entry.is_text:
            kinds = ", ".join(entry.modalities)
            self._fault(path, f"task {name!r} ({entry.type}, {kinds}) is not one that a text encoder can run.")
            return None
        return entry

    def _mteb_task(self, position: int, chosen: MtebTask, protocol: ModelProtocol) -> Iterator[RuledTask]:
        path: ConfigPath = ("tasks", position, "mteb")
        entry = self._entry(path, chosen.mteb)
        if entry is None:
            return
        if entry.is_aggregate:
            if chosen.data is not None:
                self._fault(path, f"{entry.name} is the mean of {len(entry.parts)} tasks; give each part its own data.")
                return
            parts = [self._index.task(part) for part in entry.parts]
            for part in parts:
                yield from self._from_entry(
                    position, part, protocol, _Wanted(chosen.splits, chosen.subsets, aggregate=entry.name)
                )
            return
        wanted = _Wanted(chosen.splits, chosen.subsets, chosen.data, chosen.options)
        yield from self._from_entry(position, entry, protocol, wanted)

    def _benchmark(self, position: int, chosen: BenchmarkTasks, protocol: ModelProtocol) -> Iterator[RuledTask]:
        path: ConfigPath = ("tasks", position, "mteb_benchmark")
        try:
            members = self._index.benchmark(chosen.mteb_benchmark)
        except KeyError:
            near = ", ".join(repr(name) for name in self._index.nearest_benchmarks(chosen.mteb_benchmark))
            self._fault(path, f"mteb has no benchmark {chosen.mteb_benchmark!r}; nearest: {near}.")
            return
        found = False
        for member in members:
            entry = self._index.task(member.name)
            if not self._wanted(entry, chosen):
                continue
            found = True
            if self._entry(path, member.name) is None:
                continue
            subsets = member.subsets
            if chosen.languages:
                allowed = entry.subsets_in(chosen.languages)
                subsets = tuple(name for name in (subsets or entry.subsets) if name in allowed)
            for task in [self._index.task(part) for part in entry.parts] or [entry]:
                aggregate = entry.name if entry.parts else None
                wanted = _Wanted(member.splits, subsets, aggregate=aggregate)
                yield from self._from_entry(position, task, protocol, wanted)
        if not found:
            self._fault(path, f"no task of {chosen.mteb_benchmark!r} passes the filters.")

    @staticmethod
    def _wanted(entry: TaskEntry, chosen: BenchmarkTasks) -> bool:
        def matches(globs: Sequence[str]) -> bool:
            return any(fnmatch.fnmatchcase(entry.name, glob) for glob in globs)

        return (
            (chosen.types is None or entry.type in chosen.types)
            and (chosen.languages is None or bool(entry.subsets_in(chosen.languages)))
            and (chosen.only is None or matches(chosen.only))
            and not matches(chosen.exclude)
        )

    def _beir_task(self, position: int, chosen: BeirTask, protocol: ModelProtocol) -> Iterator[RuledTask]:
        path: ConfigPath = ("tasks", position, "beir")
        source = BEIR_TASKS.get(chosen.beir)
        if source is None and chosen.data is None:
            self._fault(
                path, f"BEIR has no dataset {chosen.beir!r} (known: {', '.join(BEIR_TASKS)}); or give data: a folder."
            )
            return
        entry = self._index.task(source) if source else TaskEntry(chosen.beir, "Retrieval", main_score="ndcg_at_10")
        parts = [self._index.task(part) for part in entry.parts] if chosen.data is None else []
        for task in parts or [entry]:
            name = f"beir-{chosen.beir}" if not parts else f"beir-{task.name}"
            aggregate = f"beir-{chosen.beir}" if parts else None
            wanted = _Wanted(
                chosen.splits, data=chosen.data, via="beir", name=name, alias=chosen.beir, aggregate=aggregate
            )
            yield from self._from_entry(position, task, protocol, wanted)

    def _from_entry(
        self, position: int, entry: TaskEntry, protocol: ModelProtocol, wanted: _Wanted
    ) -> Iterator[RuledTask]:
        """A task of the index on the Hub's data or on a folder that stands in for it."""
        task_type = "Retrieval" if wanted.via == "beir" else entry.type
        aliases = tuple(name for name in (wanted.alias, wanted.aggregate) if name)
        instruction = entry.prompt or TASK_TYPES[task_type].instruction
        rules = task_rules(self._config, protocol, TaskTraits(entry.name, task_type, aliases, instruction))
        if rules.ignore_identical_ids is None:
            rules = replace(rules, ignore_identical_ids=entry.ignore_identical_ids)
        choice = TaskChoice(
            name=wanted.name or entry.name,
            type=task_type,
            via=wanted.via,
            source=entry.name if entry.dataset else None,
            data=None,
            dataset=entry.dataset or f"local/{entry.name}",
            dataset_revision=entry.revision,
            splits=wanted.splits or ((rules.split,) if rules.split in entry.splits else entry.splits),
            subsets=self._known_subsets(position, entry, wanted.subsets),
            main_score="ndcg_at_10" if wanted.via == "beir" else entry.main_score,
            options=dict(wanted.options),
            aggregate=wanted.aggregate,
            languages=entry.languages,
        )
        if wanted.data is None:
            self._check_splits(position, entry, wanted.splits)
        else:
            placed = self._on_folder(position, choice, entry, wanted.data)
            if placed is None:
                return
            choice = placed
        yield RuledTask(choice, rules)

    def _on_folder(self, position: int, choice: TaskChoice, entry: TaskEntry, data: str) -> TaskChoice | None:
        """The choice on a local folder: flat for one subset, else with a subfolder for each subset that is there."""
        folder = self._config.resolve_data(data)
        there = {inner.name for inner in folder.iterdir() if inner.is_dir()} if folder.is_dir() else set()
        subsets = tuple(name for name in choice.subsets if name in there)
        if not subsets and len(choice.subsets) == 1:
            subsets = choice.subsets
        elif not subsets and folder.is_dir():
            names = ", ".join(choice.subsets[:5])
            self._fault(
                ("tasks", position, "data"),
                f"{folder} has no folder for any subset of {choice.name} (such as {names}); "
                "a flat folder needs subsets: [one name].",
            )
            return None
        wanted = subsets if set(subsets) <= there else None
        train = entry.train_split if choice.type in TRAINED_TYPES else None
        read = self._read(position, _Folder(folder, choice.type, choice.splits, wanted, train))
        if read is None:
            return None
        return replace(choice, data=folder, dataset_revision=f"local-{read.content_hash}", subsets=subsets)

    def _known_subsets(self, position: int, entry: TaskEntry, subsets: tuple[str, ...] | None) -> tuple[str, ...]:
        unknown = [subset for subset in subsets or () if subset not in entry.subsets]
        if unknown:
            known = ", ".join(entry.subsets[:20]) + (" ..." if len(entry.subsets) > 20 else "")
            self._fault(
                ("tasks", position, "subsets"), f"{entry.name} has no subset {unknown[0]!r} (subsets: {known})."
            )
        return tuple(name for name in entry.subsets if subsets is None or name in subsets)

    def _check_splits(self, position: int, entry: TaskEntry, splits: tuple[str, ...] | None) -> None:
        """mteb lists the splits it scores; a dataset may have more, but train is never scored by mistake."""
        unknown = [
            split for split in splits or () if split not in {*entry.splits, "train", "validation", "dev", "test"}
        ]
        if unknown:
            known = ", ".join(entry.splits)
            self._fault(
                ("tasks", position, "splits"), f"{entry.name} has no split {unknown[0]!r} (mteb scores: {known})."
            )

    def _read(self, position: int, wanted: _Folder) -> LocalData | None:
        """A checked folder, read once however many models want it; None after a fault."""
        if wanted not in self._folders:
            self._folders[wanted] = None
            try:
                self._folders[wanted] = read_local_data(
                    wanted.folder,
                    wanted.type,
                    splits=wanted.splits,
                    subsets=wanted.subsets,
                    needs_train=wanted.train_split,
                )
            except DataError as error:
                place = self._config.place(("tasks", position, "data"))
                self.problems.extend(f"{place}{fault}" for fault in error.problems)
        return self._folders[wanted]

    def _local_task(self, position: int, chosen: LocalTask, protocol: ModelProtocol) -> Iterator[RuledTask]:
        if chosen.local in self._index:
            self._fault(("tasks", position, "local"), f"{chosen.local!r} is the name of a mteb task; choose another.")
            return
        options = dict(chosen.options)
        if chosen.max_documents is not None:
            if chosen.type != "Clustering":
                self._fault(
                    ("tasks", position, "max_documents"), f"max_documents is no option of a {chosen.type} task."
                )
            options["max_document_to_embed"] = chosen.max_documents
        train = str(options.get("train_split", "train")) if chosen.type in TRAINED_TYPES else None
        folder = self._config.resolve_data(chosen.data)
        splits = chosen.splits or self._scored_splits(position, folder, chosen.type, train)
        read = self._read(position, _Folder(folder, chosen.type, splits, chosen.subsets, train)) if splits else None
        if read is None:
            return
        if train is not None and any(train not in parts for parts in read.subsets.values()):
            place: ConfigPath = ("tasks", position, "data")
            self._fault(place, f"{folder} has no {train} split, which a {chosen.type} task learns from.")
        choice = TaskChoice(
            name=chosen.local,
            type=chosen.type,
            via="local",
            source=None,
            data=folder,
            dataset=f"local/{chosen.local}",
            dataset_revision=f"local-{read.content_hash}",
            splits=splits,
            subsets=tuple(read.subsets),
            main_score=chosen.main_score or TASK_TYPES[chosen.type].main_score,
            options=options,
        )
        traits = TaskTraits(chosen.local, chosen.type, instruction=TASK_TYPES[chosen.type].instruction)
        yield RuledTask(choice, task_rules(self._config, protocol, traits))

    def _scored_splits(self, position: int, folder: Path, task_type: str, train: str | None) -> tuple[str, ...]:
        """`test` where there is one, else all splits but the training split; empty after a fault."""
        try:
            there = available_splits(folder, task_type)
            if not there:
                read_local_data(folder, task_type)  # raises: it says what is missing
        except DataError as error:
            place = self._config.place(("tasks", position, "data"))
            self.problems.extend(f"{place}{fault}" for fault in error.problems)
            return ()
        return ("test",) if "test" in there else tuple(name for name in there if name != train) or there


def read_choice(choice: TaskChoice, *, train_split: str | None = None) -> LocalData:
    """A task's local folder, which must still be what was planned.

    Raises:
        DataError: It changed.
    """
    assert choice.data is not None, choice.name
    subsets = None if choice.subsets == ("default",) or len(choice.subsets) == 0 else choice.subsets
    inner = [child.name for child in choice.data.iterdir() if child.is_dir()]
    if subsets is not None and not set(subsets) <= set(inner):
        subsets = None  # a task with one named subset on a folder without subfolders
    data = read_local_data(choice.data, choice.type, splits=choice.splits, subsets=subsets, needs_train=train_split)
    if f"local-{data.content_hash}" != choice.dataset_revision:
        raise DataError([f"{choice.data} changed while the run was going on; start again."])
    return data
