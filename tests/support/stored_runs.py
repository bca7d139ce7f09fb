"""Runs written to disk without a model: records and samples made from given numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import spearmanr
from support.record_parts import job_audit, manifest, model_provenance, provenance, subset_scores

from evaluation.config.models import Limit
from evaluation.protocols import TaskRules
from evaluation.records.job_record import JobError, JobRecord
from evaluation.records.store import RunStore

VERSIONS = {"mteb": "2.26.24", "scikit-learn": "1.9.1", "torch": "2.13.0"}
RULES = {"protocol": "e5", "query_prefix": "query: ", "text_prefix": "query: ", "normalize": "always"}


@dataclass(frozen=True)
class StoredJob:
    """A job to be written: its samples and what its record says."""

    task: str
    type: str
    metric: str
    score: float
    columns: Mapping[str, Any]
    label: str = "E5-small"
    rules: Mapping[str, Any] = field(default_factory=lambda: dict(RULES))
    revision: str = "local-1"
    weights: str = "aaaa"
    aggregate: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: dict(VERSIONS))
    limit: Mapping[str, Any] | None = None
    error: str | None = None
    splits: tuple[str, ...] = ("test",)

    def record(self) -> JobRecord:
        entry = subset_scores(self.score, **{self.metric: self.score})
        identity = repr([self.label, self.task, self.rules, self.revision, self.weights, self.limit])
        failed = self.error is not None
        return JobRecord(
            state="failed" if failed else "done",
            fingerprint=hashlib.sha256(identity.encode()).hexdigest(),
            label=self.label,
            protocol=self.rules["protocol"],
            task=self.task,
            type=self.type,
            via="mteb",
            aggregate=self.aggregate,
            splits=self.splits,
            subsets=("default",),
            metric=self.metric,
            main_score=None if failed else self.score,
            scores={} if failed else {"test": (entry,)},
            audit=job_audit(TaskRules(**self.rules)),
            limit=Limit.model_validate(self.limit) if self.limit else None,
            provenance=provenance(
                model_provenance(dict(self.settings), weights_sha256=self.weights),
                dataset=f"local/{self.task}",
                revision=self.revision,
                versions=dict(self.versions),
            ),
            error=JobError(kind="ModelError", message=self.error) if self.error is not None else None,
        )


def write_run(folder: Path, jobs: Sequence[StoredJob], *, limit: Mapping[str, int] | None = None) -> Path:
    """A run folder with these jobs, all of them listed in run.json."""
    store = RunStore(folder)
    records = [job.record() for job in jobs]
    for job, record in zip(jobs, records, strict=True):
        n = len(next(iter(job.columns.values())))
        place = {"split": ["test"] * n, "subset": ["default"] * n}
        store.save(record, {} if job.error is not None else {"samples": pa.table({**place, **job.columns})})
    config = {"name": folder.name, "limit": dict(limit) if limit else None}
    store.write_run(manifest(folder.name, records, config=config))
    return folder


def retrieval(values: np.ndarray, task: str = "Retrieve", **changes: Any) -> StoredJob:
    """nDCG@10 of each query."""
    columns = {"query_id": [f"q{row}" for row in range(len(values))], "ndcg_cut_10": np.asarray(values, float)}
    return StoredJob(task, "Retrieval", "ndcg_at_10", round(float(np.mean(values)), 5), columns, **changes)


def sts(gold: np.ndarray, prediction: np.ndarray, task: str = "Similar", **changes: Any) -> StoredJob:
    """Gold and cosine of each pair."""
    columns = {"example": np.arange(len(gold)), "gold": gold, "cosine_scores": prediction}
    return StoredJob(task, "STS", "cosine_spearman", float(spearmanr(gold, prediction)[0]), columns, **changes)


def classification(gold: np.ndarray, predictions: np.ndarray, task: str = "Classify", **changes: Any) -> StoredJob:
    """Gold (N,) and the predictions (E, N) of each experiment."""
    n_experiments, n = predictions.shape
    columns = {
        "experiment": np.repeat(np.arange(n_experiments), n),
        "example": np.tile(np.arange(n), n_experiments),
        "gold": np.tile(gold, n_experiments),
        "prediction": predictions.ravel(),
    }
    score = float(np.mean(predictions == gold))
    return StoredJob(task, "Classification", "accuracy", score, columns, **changes)


def clustering(values: np.ndarray, task: str = "Cluster", **changes: Any) -> StoredJob:
    """V-measure of each experiment."""
    columns = {"level": ["Level 0"] * len(values), "example": np.arange(len(values)), "v_measure": values}
    return StoredJob(task, "Clustering", "v_measure", float(np.mean(values)), columns, **changes)
