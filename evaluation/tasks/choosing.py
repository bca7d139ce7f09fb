"""Resolves a config's task entries: names, splits, subsets and folders are checked, and each task gets its rules.

Reads the task index and local folders; imports neither mteb nor torch, and knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from evaluation.config.run_config import RunConfig
from evaluation.config.task_config import LocalTask
from evaluation.protocols import ModelProtocol, TaskTraits, task_rules
from evaluation.tasks.folder_choice import ConfigFaults, Folder, FolderReader
from evaluation.tasks.index import load_index
from evaluation.tasks.index_entries import TaskEntry
from evaluation.tasks.index_lookup import IndexLookup, Wish
from evaluation.tasks.selection import RuledTask, TaskChoice
from evaluation.tasks.types import TASK_TYPES, TRAINED_TYPES

_USUAL_SPLITS = ("train", "validation", "dev", "test")


class TaskChooser:
    """Resolves the task entries of a config, and collects what is wrong with them.

    Example:
        >>> [task.name for task, _ in TaskChooser(config).choices(0, ModelProtocol("e5"))]
        ['SciFact']
    """

    def __init__(self, config: RunConfig) -> None:
        self._config, self._faults = config, ConfigFaults(config)
        self._lookup = IndexLookup(self._faults)
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
            case entry:
                for task, wish in self._lookup.tasks_of(position, entry):
                    choice = self._choice(position, task, protocol, wish)
                    if choice is not None:
                        yield choice

    def _choice(self, position: int, entry: TaskEntry, protocol: ModelProtocol, wish: Wish) -> RuledTask | None:
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
        if chosen.local in load_index():
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
            language=chosen.language,
        )
        traits = TaskTraits(chosen.local, chosen.type, instruction=facts.instruction)
        yield RuledTask(choice, task_rules(self._config, protocol, traits))
