"""Returns the texts that a model encodes for a chosen task.

Local folders are counted; Hub datasets are taken from mteb's descriptive statistics. Knows no model and no tokenizer.
"""

from __future__ import annotations

from dataclasses import replace

from evaluation.config.limit import Limit
from evaluation.planning.text_groups import TextGroup
from evaluation.planning.workload_files import file_groups
from evaluation.planning.workload_statistics import statistics_groups
from evaluation.protocols import TaskRules
from evaluation.tasks.index import load_index
from evaluation.tasks.selection import TaskChoice


def workload(choice: TaskChoice, rules: TaskRules, limit: Limit | None) -> list[TextGroup] | None:
    """Returns the text groups of a task; None where mteb has no statistics of its dataset.

    Args:
        rules: The protocol's rules for the task, which say whether a document's title is joined to its text.
        limit: Cuts of a smoke run. A run also keeps all judged documents, which is ignored here.

    Raises:
        DataError: Local data changed since the config was checked.

    >>> groups = workload(job.task, job.rules, job.limit)  # doctest: +SKIP
    >>> sum(group.texts for group in groups)  # doctest: +SKIP
    5483
    """
    index = load_index()
    groups = file_groups(choice, index, rules) if choice.data is not None else statistics_groups(choice, index)
    return None if groups is None else [_limited(group, limit) for group in groups]


def _limited(group: TextGroup, limit: Limit | None) -> TextGroup:
    if limit is None:
        return group
    most = {"query": limit.queries, "passage": limit.documents, "text": limit.examples}[group.side]
    if most is None or most >= group.texts or "training" in group.pool:
        return group
    return replace(group, texts=most, unique=min(group.unique, float(most)), is_cut=True)
