"""What may stand in one row: columns that differ in protocol, dataset, split, metric or limit are found here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from evaluation.analysis.comparison.sources import Source, TaskResult
from evaluation.config.models import NAMED_PROTOCOLS

ASPECTS = ("protocol", "dataset", "split", "metric", "limit")
_WORDS = {
    "protocol": "protocol",
    "dataset": "dataset",
    "split": "split or subset",
    "metric": "metric or its version",
    "limit": "limit",
}
_SHOWN = 3  # tasks named in a message


def identity(source: Source, task: str) -> dict[str, str]:
    """What must agree with the other columns of a task's row, as far as it is known; empty without a score."""
    result = source.results.get(task)
    if result is None or result.score is None:
        return {}
    return {"protocol": _protocol(source, result), **result.identity}


def _protocol(source: Source, result: TaskResult) -> str:
    """The protocol that the score was made under; one of a config's own with its rules, since two may share a name."""
    records = [record for record in result.records if record.state == "done"]
    if not records:
        return source.protocol
    name = records[0].protocol
    if name in NAMED_PROTOCOLS:
        return name
    rules = json.dumps([record.audit.rules.as_dict() for record in records if record.audit], sort_keys=True)
    return f"{name} ({hashlib.sha256(rules.encode()).hexdigest()[:8]})"


def differences(sources: Sequence[Source], task: str) -> dict[str, dict[str, list[str]]]:
    """Aspect -> value -> labels, of the aspects in which a row's columns differ; the unknown is left out."""
    found: dict[str, dict[str, list[str]]] = {}
    for source in sources:
        for aspect, value in identity(source, task).items():
            found.setdefault(aspect, {}).setdefault(value, []).append(source.label)
    return {aspect: values for aspect, values in found.items() if len(values) > 1}


def faults(sources: Sequence[Source], tasks: Sequence[str]) -> list[str]:
    """A sentence for each aspect in which rows differ; empty where all may be compared."""
    by_aspect: dict[str, dict[str, Mapping[str, list[str]]]] = {}
    for task in tasks:
        for aspect, values in differences(sources, task).items():
            by_aspect.setdefault(aspect, {})[task] = values
    sentences = []
    for aspect in ASPECTS:
        rows = by_aspect.get(aspect)
        if not rows:
            continue
        first, found = next(iter(rows.items()))
        listed = "; ".join(f"{value or 'none'} ({', '.join(labels)})" for value, labels in found.items())
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        names = ", ".join(list(rows)[:_SHOWN]) + more
        where = f"on {first}" if aspect != "protocol" or len(rows) < len(tasks) else "on every task"
        others = f" The same goes for others: {names}." if len(rows) > 1 and where != "on every task" else ""
        sentences.append(f"The columns differ in {_WORDS[aspect]} {where}: {listed}.{others}")
    return sentences


def marks(reference: Mapping[str, str], own: Mapping[str, str]) -> tuple[str, ...]:
    """The aspects in which a cell is not as its row's reference."""
    return tuple(a for a in ASPECTS if a in reference and a in own and reference[a] != own[a])
