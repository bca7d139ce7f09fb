"""Finds what keeps scores from standing in one row: protocol, dataset, split, metric or limit that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.analysis.comparison.columns import ScoredModel

_ASPECTS: Mapping[str, tuple[str, ...]] = {
    "protocol": ("protocol",),
    "dataset": ("dataset", "dataset revision", "options"),
    "split": ("splits", "subsets"),
    "metric": ("metric", "metric versions"),
    "limit": ("limit",),
}
"""Aspect -> conditions of `TaskScore.conditions`; a protocol's rules belong to its name."""
_RULE = "protocol's "
_WORDS = {
    "protocol": "protocol",
    "dataset": "dataset",
    "split": "split or subset",
    "metric": "metric or its version",
    "limit": "limit",
}
_SHOWN = 3  # tasks named in a message


def differences(models: Sequence[ScoredModel], task: str) -> dict[str, dict[str, list[str]]]:
    """Aspect -> value -> labels, of the aspects in which a row's columns differ; what is not known is left out."""
    known = {
        model.label: model.tasks[task].conditions
        for model in models
        if task in model.tasks and model.tasks[task].score is not None
    }
    first: dict[str, Any] = {}
    names = set()
    for conditions in known.values():
        names |= _names(first, conditions)
        first = {**conditions, **first}
    found: dict[str, dict[str, list[str]]] = {}
    for aspect in _ASPECTS:
        own = [name for name in _of(aspect, names) if name == aspect or aspect not in names]
        for label, conditions in known.items() if own else ():
            value = ", ".join(_told(name, conditions[name]) for name in own if name in conditions)
            if value:
                found.setdefault(aspect, {}).setdefault(value, []).append(label)
    return found


def faults(models: Sequence[ScoredModel], tasks: Sequence[str]) -> list[str]:
    """A sentence for each aspect in which rows differ; empty where all may be compared."""
    by_aspect: dict[str, dict[str, Mapping[str, list[str]]]] = {}
    for task in tasks:
        for aspect, values in differences(models, task).items():
            by_aspect.setdefault(aspect, {})[task] = values
    sentences = []
    for aspect, words in _WORDS.items():
        rows = by_aspect.get(aspect)
        if not rows:
            continue
        first, found = next(iter(rows.items()))
        listed = "; ".join(f"{value} ({', '.join(labels)})" for value, labels in found.items())
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        names = ", ".join(list(rows)[:_SHOWN]) + more
        where = f"on {first}" if aspect != "protocol" or len(rows) < len(tasks) else "on every task"
        others = f" The same is true of other tasks: {names}." if len(rows) > 1 and where != "on every task" else ""
        sentences.append(f"The columns differ in {words} {where}: {listed}.{others}")
    return sentences


def marks(reference: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[str, ...]:
    """The aspects in which a cell differs from its row's reference."""
    names = _names(reference, own)
    return tuple(aspect for aspect in _ASPECTS if _of(aspect, names))


def _names(first: Mapping[str, Any], second: Mapping[str, Any]) -> set[str]:
    """The conditions that both know and in which they differ."""
    return {name for name, value in first.items() if name in second and value != second[name]}


def _of(aspect: str, names: set[str]) -> list[str]:
    """Those of some conditions that belong to an aspect, the main one first."""
    rules = sorted(name for name in names if name.startswith(_RULE)) if aspect == "protocol" else []
    return [*(name for name in _ASPECTS[aspect] if name in names), *rules]


def _told(name: str, value: Any) -> str:
    """A condition's value for people, with its name where that is not the aspect's own."""
    if isinstance(value, tuple):  # of the parts of an aggregate task
        return "; ".join(dict.fromkeys(_told(name, part) for part in value))
    if name == "limit":
        return ", ".join(f"{n} {what}" for what, n in value.items()) if value else "none"
    if name.startswith(_RULE):
        return f"{name} {value!r}"
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return str(value) if name in _ASPECTS else f"{name} {value}"
