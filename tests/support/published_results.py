"""Result files in the layout of mteb's results repository, written by mteb itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mteb.results import TaskResult

from evaluation.tasks.index import load_index


def write_result(
    folder: Path,
    model: str,
    task: str,
    scores: Mapping[tuple[str, str], float],
    *,
    revision: str = "r1",
    dataset_revision: str | None = None,
    mteb_version: str | None = "2.6.7",
) -> Path:
    """Writes one model's main scores on a task.

    Args:
        folder: The repository.
        model: Such as org/model.
        task: mteb's name.
        scores: Split and subset -> main score, 0-1.
        revision: The model's.
        dataset_revision: None: the one that mteb pins.
        mteb_version: None: not known.
    """
    place = folder / "results" / model.replace("/", "__") / revision
    place.mkdir(parents=True, exist_ok=True)
    splits: dict[str, list[dict[str, object]]] = {}
    for (split, subset), score in scores.items():
        splits.setdefault(split, []).append({"hf_subset": subset, "languages": ["eng-Latn"], "main_score": score})
    result = TaskResult(
        dataset_revision=dataset_revision or load_index().task(task).revision or "",
        task_name=task,
        mteb_version=mteb_version,
        scores=splits,
        evaluation_time=1.0,
    )
    result.to_disk(place / f"{task}.json")
    (place / "model_meta.json").write_text(json.dumps({"name": model, "revision": revision}), encoding="utf-8")
    return place / f"{task}.json"
