"""Fake runs: records and run folders made of given numbers, without a model or a dataset.

`job_record` alone knows the shape of a record, `write_manifest` alone that of run.json.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import spearmanr
from support.record_parts import (
    job_audit,
    manifest,
    model_provenance,
    provenance,
    side_audit,
    subset_scores,
    timing,
    vector_rules,
)

from evaluation.config.limit import Limit
from evaluation.protocols import TaskRules
from evaluation.records.job_record import JobError, JobRecord
from evaluation.records.run_manifest import ListedJob
from evaluation.records.store import RunStore

VERSIONS = {"mteb": "2.26.24", "scikit-learn": "1.9.1", "torch": "2.13.0"}
RULES = {"protocol": "e5", "query_prefix": "query: ", "text_prefix": "query: ", "normalize": "always"}


def job_record(label: str, task: str, score: float | None = 0.5, **changes: Any) -> JobRecord:
    """The record of one job.

    Args:
        label: The model's label.
        task: The task's name.
        score: Main score, 0-1; None makes a failed job.
        changes: Fields of the record. `error` is the message of a failed job; `model`, `settings`, `dataset`,
            `versions`, `source` and `hardware` change these parts of its provenance, `metrics` are further metrics of
            its one subset.
    """
    settings = dict(changes.pop("settings", {}))
    dataset = {"name": f"local/{task}", "revision": "local-1", **changes.pop("dataset", {})}
    origin = provenance(
        model_provenance(settings, **changes.pop("model", {})),
        dataset=dataset["name"],
        revision=dataset["revision"],
        versions=dict(changes.pop("versions", VERSIONS)),
        **{name: changes.pop(name) for name in ("source", "hardware") if name in changes},
    )
    metrics = changes.pop("metrics", {})
    error = changes.pop("error", None if score is not None else "the model broke")
    limit = changes.pop("limit", None)
    identity = repr([label, task, sorted(changes.items(), key=lambda change: change[0]), origin])
    fields: dict[str, Any] = {
        "protocol": "e5",
        "type": "Retrieval",
        "via": "mteb",
        "splits": ("test",),
        "subsets": ("default",),
        "metric": "ndcg_at_10",
        "audit": job_audit(),
        "timing": timing(),
        **changes,
    }
    if error is None and score is not None:
        entry = subset_scores(score, fields["subsets"][0], **{**metrics, fields["metric"]: score})
        fields = {"main_score": score, "scores": {fields["splits"][0]: (entry,)}, **fields}
    return JobRecord(
        state="done" if error is None else "failed",
        fingerprint=hashlib.sha256(identity.encode()).hexdigest(),
        label=label,
        task=task,
        provenance=origin,
        limit=Limit.model_validate(limit) if limit else None,
        error=None if error is None else JobError(kind="ModelError", message=error),
        **fields,
    )


def write_manifest(
    folder: Path, records: Sequence[JobRecord], *, waiting: Sequence[tuple[str, str]] = (), **content: Any
) -> Path:
    """Write run.json for these records.

    Args:
        folder: The run's folder, whose name is the run's.
        records: In order.
        waiting: Label and task of jobs that never ended.
        content: Other entries of run.json.
    """
    unended = [
        ListedJob(label=label, task=task, type="Retrieval", protocol="e5", fingerprint="0" * 64, state="waiting")
        for label, task in waiting
    ]
    RunStore(folder).write_run(manifest(folder.name, [*records, *unended], **content))
    return folder


class FakeJob(NamedTuple):
    """A record and the columns of its samples."""

    record: JobRecord
    columns: Mapping[str, Any] | None


def write_run(folder: Path, jobs: Sequence[FakeJob], *, limit: Mapping[str, int] | None = None, **content: Any) -> Path:
    """Write a run folder with these jobs; `limit` and `content` are entries of its config and of run.json."""
    store = RunStore(folder)
    for record, columns in jobs:
        tables = {}
        if columns is not None and record.error is None:
            n = len(next(iter(columns.values())))
            place = {"split": [record.splits[0]] * n, "subset": [record.subsets[0]] * n}
            tables["samples"] = pa.table({**place, **columns})
        store.save(record, tables)
    config = {"name": folder.name, "limit": dict(limit) if limit else None}
    return write_manifest(folder, [record for record, _ in jobs], **{"config": config, **content})


# -------------------------------------------------------------------------------------------- one model, any task type


def _scored(task: str, score: float, columns: Mapping[str, Any], changes: dict[str, Any]) -> FakeJob:
    label, rules = changes.pop("label", "E5-small"), changes.pop("rules", RULES)
    model = {"weights_sha256": changes.pop("weights", "aaaa")}
    dataset = {"revision": changes.pop("revision", "local-1")}
    shared = {"protocol": rules["protocol"], "audit": job_audit(TaskRules(**rules)), "model": model, "dataset": dataset}
    return FakeJob(job_record(label, task, score, **shared, **changes), columns)


def retrieval(values: np.ndarray, task: str = "Retrieve", **changes: Any) -> FakeJob:
    """nDCG@10 of each query."""
    columns = {"query_id": [f"q{row}" for row in range(len(values))], "ndcg_cut_10": np.asarray(values, float)}
    return _scored(task, round(float(np.mean(values)), 5), columns, changes)


def sts(gold: np.ndarray, prediction: np.ndarray, task: str = "Similar", **changes: Any) -> FakeJob:
    """Gold and cosine of each pair."""
    columns = {"example": np.arange(len(gold)), "gold": gold, "cosine_scores": prediction}
    kind = {"type": "STS", "metric": "cosine_spearman"}
    return _scored(task, float(spearmanr(gold, prediction)[0]), columns, changes | kind)


def classification(gold: np.ndarray, predictions: np.ndarray, task: str = "Classify", **changes: Any) -> FakeJob:
    """Gold (N,) and the predictions (E, N) of each experiment."""
    n_experiments, n = predictions.shape
    columns = {
        "experiment": np.repeat(np.arange(n_experiments), n),
        "example": np.tile(np.arange(n), n_experiments),
        "gold": np.tile(gold, n_experiments),
        "prediction": predictions.ravel(),
    }
    kind = {"type": "Classification", "metric": "accuracy"}
    return _scored(task, float(np.mean(predictions == gold)), columns, changes | kind)


def clustering(values: np.ndarray, task: str = "Cluster", **changes: Any) -> FakeJob:
    """V-measure of each experiment."""
    columns = {"level": ["Level 0"] * len(values), "example": np.arange(len(values)), "v_measure": values}
    kind = {"type": "Clustering", "metric": "v_measure"}
    return _scored(task, float(np.mean(values)), columns, changes | kind)


# --------------------------------------------------------------------------------- several models, per-query scores


METRIC_VERSIONS = {
    "mteb": "2.26.24",
    "scikit-learn": "1.9.1",
    "scipy": "1.17.1",
    "beir": "2.2.0",
    "pytrec-eval-terrier": "0.5.11",
}


def query_record(label: str, task: str, values: Sequence[float] | None, **changes: Any) -> JobRecord:
    """A retrieval job whose queries scored these nDCG@10; None: it failed."""
    settings = changes.pop("settings", {})
    vectors = vector_rules(normalize=changes.pop("normalize", True), **settings)
    side = side_audit(
        prefix=changes.pop("prefix", "query: "),
        truncated=changes.pop("truncated", 0),
        token_lengths={"edges": (0, 8), "counts": (0, 10)},
    )
    name = changes.pop("model", f"org/{label.replace(' ', '-')}")
    fields: dict[str, Any] = {
        "timing": timing(total_s=1800.0, encoding_s=10.0, tokens=20_000),
        "audit": job_audit(vectors=vectors, **{changes.pop("side", "query"): side}),
        "settings": settings,
        "model": {"name": name, "revision": "r1", "weights_sha256": "w"},
        "dataset": {"name": f"mteb/{task}", "revision": changes.pop("dataset_revision", "d1")},
        "versions": {**METRIC_VERSIONS, **changes.pop("versions", {})},
        **changes,
    }
    if values is None:
        return job_record(label, task, None, **fields)
    score = sum(values) / len(values)
    return job_record(label, task, score, metrics={"ndcg_at_10": score, "map_at_10": score / 2}, **fields)


@pytest.fixture(name="write_run")
def write_query_run(tmp_path: Path) -> Callable[..., Path]:
    """A function: name, records and their queries' values -> the folder of a run."""

    def write(
        name: str,
        jobs: Sequence[tuple[JobRecord, Sequence[float] | None]],
        *,
        samples: bool = True,
        waiting: Sequence[tuple[str, str]] = (),
        config: Mapping[str, Any] | None = None,
    ) -> Path:
        stored = []
        for record, values in jobs:
            columns = {"query_id": [f"q{n:04}" for n in range(len(values or ()))], "ndcg_cut_10": list(values or ())}
            stored.append(FakeJob(record, columns if samples and values is not None else None))
        return write_run(tmp_path / name, stored, waiting=waiting, config=config or {})

    return write


@pytest.fixture
def query_run(write_run: Callable[..., Path]) -> Callable[..., Path]:
    """A function: name, {label: {task: values}}, changes to all records -> the folder of a run."""

    def write(name: str, scores: Mapping[str, Mapping[str, Sequence[float] | None]], **changes: Any) -> Path:
        jobs = [
            (query_record(label, task, values, **changes), values)
            for label, own in scores.items()
            for task, values in own.items()
        ]
        return write_run(name, jobs)

    return write
