"""Keeps the data of the task that was loaded last: a model's stored rows are scored on one task in turn."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

from evaluation.config.limit import Limit
from evaluation.tasks.selection import TaskChoice

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask


class LoadedTask(NamedTuple):
    """A task with its data.

    Attributes:
        task: For one job only: what a job changes in the task object, the next one does not see.
        counts: What was dropped or noticed in the data.
        content: sha256 of the rows.
    """

    task: AbsTask
    counts: dict[str, int]
    content: str


class LastTask:
    """Loads tasks, and keeps the last one's data. Retrieval data only, which no evaluation changes."""

    def __init__(self) -> None:
        self._wanted: tuple[TaskChoice, Limit | None, int] | None = None
        self._last: LoadedTask | None = None

    def load(self, choice: TaskChoice, limit: Limit | None, seed: int) -> LoadedTask:
        """Returns a task whose data are loaded and checked.

        Raises:
            EvaluationError: The data can't be loaded, or are not those of before.
        """
        from mteb.abstasks.retrieval import AbsTaskRetrieval  # not imported before there is a job to run

        from evaluation.tasks.loaded_rows import check_rows
        from evaluation.tasks.loading import load_task, make_task

        if self._last is None or self._wanted != (choice, limit, seed):
            self._last = None  # makes room
            task = make_task(choice, seed=seed)
            counts = load_task(task, choice, limit)
            loaded = LoadedTask(task, counts, check_rows(task.dataset, choice, limit, seed))
            if not isinstance(task, AbsTaskRetrieval):
                return loaded
            self._wanted, self._last = (choice, limit, seed), loaded
        return self._last._replace(task=copy.copy(self._last.task))
