"""Gives access to a loaded task's tables: the splits of a subset, and columns as plain lists, each read once.

`datasets` returns lazy columns, and making an array of one reads the table row by row. mteb passes them to
scikit-learn, which makes dozens of arrays per score: on Banking77 that took longer than fitting the classifier.
"""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from mteb.abstasks.abstask import AbsTask


def subset_parts(task: AbsTask, subset: str) -> Any:
    """Split -> data of one subset; a task with one subset may hold its splits directly."""
    dataset: Any = task.dataset
    return dataset.get(subset, dataset)


class ColumnsDataset(Dataset):  # type: ignore[misc]  # datasets has no types
    """A dataset whose columns are lists."""

    @classmethod
    def of(cls, dataset: Dataset) -> ColumnsDataset:
        """Wraps a dataset; both share their rows."""
        return cls(
            dataset.data,
            info=dataset.info,
            split=dataset.split,
            indices_table=dataset._indices,
            fingerprint=dataset._fingerprint,
        )

    def __getitem__(self, key: Any) -> Any:
        """Returns a row, some rows, or a whole column as a list."""
        if not isinstance(key, str):
            return super().__getitem__(key)
        columns = self.__dict__.setdefault("_read_columns", {})
        if key not in columns:
            columns[key] = list(super().__getitem__(key)[:])
        return columns[key]

    def select(self, *args: Any, **kwargs: Any) -> ColumnsDataset:
        """Returns some rows."""
        return ColumnsDataset.of(super().select(*args, **kwargs))


def use_columns(dataset: dict[str, Any]) -> None:
    """Replaces the tables of a task's dataset, in place: split -> table, or subset -> split -> table."""
    for parts in [dataset, *dataset.values()]:
        if isinstance(parts, dict):
            for split, part in parts.items():
                if type(part) is Dataset:
                    parts[split] = ColumnsDataset.of(part)
