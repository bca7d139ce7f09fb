"""Reads the local folders that a config's tasks name, each once, and turns their faults into faults of the config."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.config.run_config import ConfigPath, RunConfig
from evaluation.errors import DataError
from evaluation.hub.cache import hub_cache
from evaluation.tasks.local.folders import LocalData, available_splits, read_local_data, subfolders
from evaluation.tasks.selection import TaskChoice
from evaluation.tasks.types import TRAINED_TYPES


class ConfigFaults:
    """What is wrong with a config's tasks.

    Attributes:
        problems: One sentence per fault, with file and line.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self.problems: list[str] = []

    def add(self, path: ConfigPath, sentence: str) -> None:
        """Notes a fault of the value at a path of the config."""
        self.problems.append(self._config.place(path) + sentence)


@dataclass(frozen=True, slots=True)
class Folder:
    """What is read of a local folder; `splits` and `subsets` None: all."""

    folder: Path
    type: str
    splits: tuple[str, ...] | None
    subsets: tuple[str, ...] | None
    train_split: str | None


class FolderReader:
    """Reads and checks folders, each once however many models want it."""

    def __init__(self, config: RunConfig, faults: ConfigFaults) -> None:
        self._config, self._faults = config, faults
        self._read: dict[Folder, LocalData | None] = {}
        self._linked = [config.base_dir.resolve(), config.resolve_data("."), hub_cache().resolve()]

    def read(self, position: int, wanted: Folder) -> LocalData | None:
        """Returns a checked folder; None after a fault, which counts against the task at `position`."""
        if wanted not in self._read:
            self._read[wanted] = None
            try:
                self._read[wanted] = read_local_data(
                    wanted.folder,
                    wanted.type,
                    splits=wanted.splits,
                    subsets=wanted.subsets,
                    needs_train=wanted.train_split,
                    linked=self._linked,
                )
            except DataError as error:
                self._note(position, error)
        return self._read[wanted]

    def replaced(self, position: int, choice: TaskChoice, data: str, train_split: str | None) -> TaskChoice | None:
        """Returns a choice with a local folder in place of the Hub's dataset; None after a fault.

        The folder is flat for one subset, else it has a subfolder for each subset that is there.
        """
        folder = self._config.resolve_data(data)
        there = self._subfolders(position, folder)
        subsets = tuple(name for name in choice.subsets if name in there)
        if not subsets and len(choice.subsets) == 1:
            subsets = choice.subsets
        elif not subsets and folder.is_dir():
            names = ", ".join(choice.subsets[:5])
            self._faults.add(
                ("tasks", position, "data"),
                f"{folder} has no folder for any subset of {choice.name} (such as {names}); "
                "a flat folder needs subsets: [one name].",
            )
            return None
        wanted = subsets if set(subsets) <= there else None
        train = train_split if choice.type in TRAINED_TYPES else None
        read = self.read(position, Folder(folder, choice.type, choice.splits, wanted, train))
        if read is None:
            return None
        return replace(choice, data=folder, dataset_revision=f"local-{read.content_hash}", subsets=subsets)

    def _subfolders(self, position: int, folder: Path) -> frozenset[str]:
        try:
            return subfolders(folder)
        except DataError as error:
            self._note(position, error)
            return frozenset()

    def scored_splits(self, position: int, wanted: Folder) -> tuple[str, ...]:
        """Returns `test` where there is one, else all splits but the training split; empty after a fault."""
        try:
            there = available_splits(wanted.folder, wanted.type)
            if not there:
                read_local_data(wanted.folder, wanted.type)  # raises: it says what is missing
        except DataError as error:
            self._note(position, error)
            return ()
        return ("test",) if "test" in there else tuple(name for name in there if name != wanted.train_split) or there

    def _note(self, position: int, error: DataError) -> None:
        for fault in error.problems:
            self._faults.add(("tasks", position, "data"), fault)
