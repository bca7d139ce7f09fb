"""One result file of mteb -> main scores per split and subset, in today's layout and in that of before mteb 1.11.

Knows nothing of folders, caches or comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any, NamedTuple

from evaluation.system.limited_reading import parse_json
from evaluation.tasks.index import TaskIndex

_OLD_NAME, _OLD_EXTRAS = "mteb_dataset_name", frozenset({"mteb_version", "dataset_revision", "evaluation_time"})


class ResultFile(NamedTuple):
    """The main scores of one model on one task.

    Attributes:
        dataset_revision: Empty where the file has none.
        mteb_version: Of the run; empty where it is not known.
        scores: Split, subset and main score, 0-1.
    """

    task: str
    dataset_revision: str
    mteb_version: str
    scores: tuple[tuple[str, str, float], ...]


def parse_result(content: bytes, index: TaskIndex) -> ResultFile:
    """Reads a result file.

    Args:
        content: The file's bytes.
        index: Says what the main score of a task in the old layout is.

    Raises:
        ValueError: It is not a result of mteb, or a main score is missing or is not from -1 to 1.
    """
    found = parse_json(content)
    if not isinstance(found, Mapping):
        raise ValueError("it is not a JSON object")
    task = found.get("task_name") or found.get(_OLD_NAME)
    if not isinstance(task, str):
        raise ValueError("it names no task")
    try:
        scores = tuple(_scores(found["scores"]) if "scores" in found else _old_scores(found, task, index))
    except (TypeError, KeyError, AttributeError):
        raise ValueError("its scores are not in mteb's layout") from None
    if not scores:
        raise ValueError("it holds no main score")
    wrong = [score for _, _, score in scores if not isfinite(score) or abs(score) > 1]
    if wrong:
        raise ValueError(f"a main score is {wrong[0]!r}, not from -1 to 1")
    revision, version = found.get("dataset_revision"), found.get("mteb_version")
    return ResultFile(task, "" if revision in (None, "None") else str(revision), str(version or ""), scores)


def _scores(splits: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    for split, entries in splits.items():
        for entry in entries:
            yield split, str(entry["hf_subset"]), float(entry["main_score"])


def _old_scores(found: Mapping[str, Any], task: str, index: TaskIndex) -> Iterator[tuple[str, str, float]]:
    """Before mteb 1.11 splits stood at the top, subsets only where there are several, without main_score."""
    metric = index.task(task).main_score if task in index else ""
    for split, metrics in found.items():
        if split == _OLD_NAME or split in _OLD_EXTRAS or not isinstance(metrics, Mapping):
            continue
        own = _old_main_score(metrics, metric)
        if own is not None:
            yield split, "default", own
            continue
        for subset, inner in metrics.items():
            score = _old_main_score(inner, metric) if isinstance(inner, Mapping) else None
            if score is not None:
                yield split, subset, score


def _old_main_score(metrics: Mapping[str, Any], metric: str) -> float | None:
    """The main score by today's name, or by the name that it had: `cosine_spearman` was `cos_sim: {spearman: ...}`."""
    kind, _, rest = metric.partition("_")
    nested = metrics.get({"cosine": "cos_sim", "max": "max"}.get(kind, ""))
    if not isinstance(nested, Mapping):
        nested = metrics.get("cos_sim") if kind == "max" else None
    candidates = [
        metrics.get("main_score"),
        metrics.get(metric),
        metrics.get("map") if metric.endswith("map_at_1000") else None,
    ]
    candidates.append(nested.get(rest) if isinstance(nested, Mapping) else None)
    return next((float(value) for value in candidates if isinstance(value, int | float)), None)
