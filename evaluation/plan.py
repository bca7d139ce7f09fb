"""Config -> jobs: names, splits, folders and protocols are resolved and checked before anything is loaded.

A job is one model under one protocol on one task with all its chosen splits and subsets. Reads the task index and
local folders; imports neither mteb nor torch.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evaluation.config import (
    BUILTIN_PREFIX,
    BeirTask,
    BenchmarkTasks,
    ConfigPath,
    Limit,
    LocalTask,
    ModelConfig,
    MtebTask,
    RunConfig,
)
from evaluation.encoding.builtin import BUILTIN_MODELS
from evaluation.encoding.checkpoint import is_folder_name
from evaluation.errors import ConfigError, DataError
from evaluation.protocols import SPLIT_TASK, TaskRules, task_rules
from evaluation.tasks.index import MAIN_SCORE_BY_TYPE, TaskEntry, TaskIndex, load_index
from evaluation.tasks.local_data import LocalData, available_splits, read_local_data

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

_TRAINED_TYPES = frozenset({"Classification", "MultilabelClassification", "Regression"})


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


@dataclass(frozen=True, slots=True)
class Job:
    """One model under one protocol on one task."""

    model: ModelConfig
    task: TaskChoice
    rules: TaskRules
    limit: Limit | None
    seed: int

    @property
    def name(self) -> str:
        """For people: label and task."""
        return f"{self.model.label} on {self.task.name}"


def fingerprint(job: Job, model_identity: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """Hash of all that can move a number of a job, 64 hex digits.

    Args:
        model_identity: Content hashes of weights and tokenizer, resolved pooling, maximum length, dtype and backend.
        versions: Of the libraries that compute the metrics.
    """
    task = job.task
    identity = {
        "model": dict(model_identity),
        "rules": job.rules.as_dict(),
        "task": [task.name, task.type, task.via, task.source, task.dataset, task.dataset_revision, task.main_score],
        "splits": task.splits,
        "subsets": task.subsets,
        "options": dict(task.options),
        "limit": job.limit.model_dump() if job.limit else None,
        "seed": job.seed,
        "versions": dict(versions),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


def build_plan(config: RunConfig, *, only: Sequence[str] = (), models: Sequence[str] = ()) -> list[Job]:
    """All jobs of a config, model by model.

    Args:
        config: The checked config.
        only: Globs; keep tasks of which one matches the name.
        models: Labels; keep these models.

    Raises:
        ConfigError: With a sentence for every unknown task, missing folder, broken data file and so on.
    """
    return _Planner(config).jobs(only, models)


class _Planner:
    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._index: TaskIndex = load_index()
        self._problems: list[str] = []
        self._data: dict[tuple[Path, str, tuple[str, ...] | None, tuple[str, ...] | None], LocalData | None] = {}

    def jobs(self, only: Sequence[str], models: Sequence[str]) -> list[Job]:
        config = self._config
        for position, model in enumerate(config.models):
            self._check_model(position, model)
        for label in models:
            if label not in {model.label for model in config.models}:
                known = ", ".join(model.label for model in config.models)
                self._problems.append(f"--model {label!r}: no model has this label (labels: {known}).")
        jobs: dict[tuple[str, str], Job] = {}
        for position, entry in enumerate(config.tasks):
            for model in config.models:
                for task, rules in self._choices(position, entry, model.protocol_name):
                    key = (model.label, task.name)
                    if jobs.setdefault(key, Job(model, task, rules, config.limit, config.runtime.seed)).task != task:
                        self._fault(("tasks", position), f"task {task.name!r} is chosen twice, with different options.")
        if self._problems:
            raise ConfigError(list(dict.fromkeys(self._problems)))
        kept = [job for job in jobs.values() if not models or job.model.label in models]
        kept = [job for job in kept if not only or any(fnmatch.fnmatchcase(job.task.name, glob) for glob in only)]
        if not kept:
            names = ", ".join(sorted({job.task.name for job in jobs.values()})[:20])
            raise ConfigError([f"nothing is left to run: no task matches {', '.join(only)} (tasks: {names})."])
        order = {model.label: position for position, model in enumerate(config.models)}
        return sorted(kept, key=lambda job: order[job.model.label])

    def _fault(self, path: ConfigPath, sentence: str) -> None:
        self._problems.append(self._config.place(path) + sentence)

    def _check_model(self, position: int, model: ModelConfig) -> None:
        path: ConfigPath = ("models", position, "model")
        if model.model.startswith(BUILTIN_PREFIX):
            name = model.model.removeprefix(BUILTIN_PREFIX)
            if name not in BUILTIN_MODELS:
                allowed = ", ".join(BUILTIN_PREFIX + known for known in BUILTIN_MODELS)
                self._fault(path, f"unknown builtin model {model.model!r} (allowed: {allowed}).")
        elif is_folder_name(model.model):
            folder = self._config.resolve_path(model.model)
            if not folder.is_dir():
                self._fault(path, f"model {model.model!r}: there is no folder {folder}.")
            elif not (folder / "config.json").is_file():
                self._fault(path, f"model {model.model!r}: {folder} holds no config.json, so it is no checkpoint.")

    def _choices(self, position: int, entry: Any, protocol: str) -> Iterator[tuple[TaskChoice, TaskRules]]:
        match entry:
            case MtebTask():
                yield from self._mteb_task(position, entry, protocol)
            case BenchmarkTasks():
                yield from self._benchmark(position, entry, protocol)
            case BeirTask():
                yield from self._beir_task(position, entry, protocol)
            case LocalTask():
                yield from self._local_task(position, entry, protocol)

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

    def _mteb_task(self, position: int, chosen: MtebTask, protocol: str) -> Iterator[tuple[TaskChoice, TaskRules]]:
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
                yield from self._from_entry(position, part, chosen.splits, chosen.subsets, protocol, aggregate=entry.name)
            return
        yield from self._from_entry(
            position, entry, chosen.splits, chosen.subsets, protocol, data=chosen.data, options=chosen.options
        )

    def _benchmark(self, position: int, chosen: BenchmarkTasks, protocol: str) -> Iterator[tuple[TaskChoice, TaskRules]]:
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
                yield from self._from_entry(position, task, member.splits, subsets, protocol, aggregate=aggregate)
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

    def _beir_task(self, position: int, chosen: BeirTask, protocol: str) -> Iterator[tuple[TaskChoice, TaskRules]]:
        path: ConfigPath = ("tasks", position, "beir")
        source = BEIR_TASKS.get(chosen.beir)
        if source is None and chosen.data is None:
            self._fault(path, f"BEIR has no dataset {chosen.beir!r} (known: {', '.join(BEIR_TASKS)}); or give data: a folder.")
            return
        entry = self._index.task(source) if source else TaskEntry(chosen.beir, "Retrieval", main_score="ndcg_at_10")
        parts = [self._index.task(part) for part in entry.parts] if chosen.data is None else []
        for task in parts or [entry]:
            name = f"beir-{chosen.beir}" if not parts else f"beir-{task.name}"
            aggregate = f"beir-{chosen.beir}" if parts else None
            yield from self._from_entry(
                position, task, chosen.splits, None, protocol,
                data=chosen.data, via="beir", name=name, aggregate=aggregate, alias=chosen.beir,
            )  # fmt: skip

    def _from_entry(
        self,
        position: int,
        entry: TaskEntry,
        splits: tuple[str, ...] | None,
        subsets: tuple[str, ...] | None,
        protocol: str,
        *,
        data: str | None = None,
        options: Mapping[str, Any] | None = None,
        via: Literal["mteb", "beir"] = "mteb",
        name: str | None = None,
        aggregate: str | None = None,
        alias: str | None = None,
    ) -> Iterator[tuple[TaskChoice, TaskRules]]:
        """A task of the index on the Hub's data or on a folder that stands in for it."""
        task_type = "Retrieval" if via == "beir" else entry.type
        names = [other for other in (alias, aggregate) if other]
        rules = task_rules(self._config, protocol, task=entry.name, task_type=task_type, aliases=names)
        chosen_splits = splits or ((rules.split,) if rules.split in entry.splits else entry.splits)
        if splits is None and aggregate and rules.split == SPLIT_TASK:
            chosen_splits = entry.splits
        subsets = self._known_subsets(position, entry, subsets)
        if data is None:
            self._check_splits(position, entry, splits)
            revision, dataset, folder = entry.revision, entry.dataset, None
        else:
            read = self._local(position, data, task_type, chosen_splits, entry.subsets if len(entry.subsets) > 1 else None,
                               subsets, entry.train_split)  # fmt: skip
            if read is None:
                return
            subsets = tuple(read.subsets) if set(read.subsets) != {"default"} or len(entry.subsets) > 1 else entry.subsets
            revision, dataset, folder = f"local-{read.content_hash}", entry.dataset or f"local/{entry.name}", read.folder
        yield (
            TaskChoice(
                name=name or entry.name, type=task_type, via=via, source=entry.name if entry.dataset else None,
                data=folder, dataset=dataset, dataset_revision=revision, splits=chosen_splits, subsets=subsets,
                main_score="ndcg_at_10" if via == "beir" else entry.main_score, options=dict(options or {}),
                aggregate=aggregate, languages=entry.languages,
            ),
            rules,
        )  # fmt: skip

    def _known_subsets(self, position: int, entry: TaskEntry, subsets: tuple[str, ...] | None) -> tuple[str, ...]:
        unknown = [subset for subset in subsets or () if subset not in entry.subsets]
        if unknown:
            known = ", ".join(entry.subsets[:20]) + (" ..." if len(entry.subsets) > 20 else "")
            self._fault(("tasks", position, "subsets"), f"{entry.name} has no subset {unknown[0]!r} (subsets: {known}).")
        return tuple(name for name in entry.subsets if subsets is None or name in subsets)

    def _check_splits(self, position: int, entry: TaskEntry, splits: tuple[str, ...] | None) -> None:
        """mteb lists the splits it scores; a dataset may have more, but train is never scored by mistake."""
        unknown = [split for split in splits or () if split not in {*entry.splits, "train", "validation", "dev", "test"}]
        if unknown:
            known = ", ".join(entry.splits)
            self._fault(("tasks", position, "splits"), f"{entry.name} has no split {unknown[0]!r} (mteb scores: {known}).")

    def _local(
        self,
        position: int,
        data: str,
        task_type: str,
        splits: tuple[str, ...] | None,
        known_subsets: tuple[str, ...] | None,
        subsets: tuple[str, ...] | None,
        train_split: str | None,
    ) -> LocalData | None:
        """A checked folder, or a fault. Where a multilingual task's folder has some of its subsets, those are taken."""
        folder = self._config.resolve_path(data)
        wanted = subsets
        if known_subsets is not None and folder.is_dir():
            there = {inner.name for inner in folder.iterdir() if inner.is_dir()}
            wanted = tuple(name for name in subsets or known_subsets if name in there) or None
            if wanted is None and folder.name in known_subsets:
                self._fault(("tasks", position, "data"), f"{folder} is one subset of a task with several; give its parent.")
                return None
        elif subsets == ("default",):
            wanted = None
        key = (folder, task_type, splits, wanted)
        if key not in self._data:
            self._data[key] = None
            try:
                needs = train_split if task_type in _TRAINED_TYPES else None
                self._data[key] = read_local_data(folder, task_type, splits=splits, subsets=wanted, needs_train=needs)
            except DataError as error:
                self._problems.extend(f"{self._config.place(('tasks', position, 'data'))}{fault}" for fault in error.problems)
        return self._data[key]

    def _local_task(self, position: int, chosen: LocalTask, protocol: str) -> Iterator[tuple[TaskChoice, TaskRules]]:
        if chosen.local in self._index:
            self._fault(("tasks", position, "local"), f"{chosen.local!r} is the name of a mteb task; choose another.")
            return
        rules = task_rules(self._config, protocol, task=chosen.local, task_type=chosen.type)
        splits = chosen.splits
        if splits is None:
            try:
                there = available_splits(self._config.resolve_path(chosen.data), chosen.type)
            except DataError as error:
                place = self._config.place(("tasks", position, "data"))
                self._problems.extend(f"{place}{fault}" for fault in error.problems)
                return
            scored = tuple(name for name in there if name != "train") or there
            splits = ("test",) if "test" in scored else scored
        read = self._local(position, chosen.data, chosen.type, splits, None, chosen.subsets, None)
        if read is None:
            return
        train = str(chosen.options.get("train_split", "train"))
        lacking = [subset for subset, parts in read.subsets.items() if train not in parts]
        if chosen.type in _TRAINED_TYPES and lacking:
            self._fault(("tasks", position, "data"), f"{read.folder} has no {train} split, which a {chosen.type} task learns from.")
        options = dict(chosen.options)
        if chosen.max_documents is not None:
            options["max_document_to_embed"] = chosen.max_documents
        yield (
            TaskChoice(
                name=chosen.local, type=chosen.type, via="local", source=None, data=read.folder,
                dataset=f"local/{chosen.local}", dataset_revision=f"local-{read.content_hash}", splits=splits,
                subsets=tuple(read.subsets), main_score=chosen.main_score or MAIN_SCORE_BY_TYPE[chosen.type],
                options=options,
            ),
            rules,
        )  # fmt: skip
