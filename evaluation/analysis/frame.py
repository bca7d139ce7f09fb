"""Stored records as pandas frames: a long one of every score, and the rows of summary.csv. Reads records only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.records.job_record import JobRecord, SubsetScores
from evaluation.records.store import RunStore

_JOB_COLUMNS = ["label", "model", "revision", "protocol", "task", "type", "aggregate", "split", "subset", "metric"]
COLUMNS = [*_JOB_COLUMNS, "value", "run", "limited", "fingerprint"]
SUMMARY_COLUMNS = [*_JOB_COLUMNS, "main_score", "limited", "fingerprint"]


def results_frame(*runs: str | Path, all_metrics: bool = False) -> pd.DataFrame:
    """The scores of runs as one long frame: a row for each job, split, subset and metric, values in points (0-100).

    Args:
        runs: Folders of runs, such as results/quickstart.
        all_metrics: Every metric that is stored; otherwise each task's main score.

    Returns:
        A frame with `COLUMNS`; failed jobs have no row. `run` is the run's name.

    Raises:
        StoreError: A folder is no run.
    """
    rows: list[dict[str, Any]] = []
    for run in runs:
        store = RunStore(Path(run))
        name = store.read_run().name
        for record in store.current_records():
            for row, entry in _entries(record):
                for metric, value in _metrics(record, entry, all_metrics=all_metrics):
                    rows.append({**row, "metric": metric, "value": 100 * value, "run": name})
    return pd.DataFrame(rows, columns=COLUMNS)


def records_frame(records: Sequence[JobRecord]) -> pd.DataFrame:
    """The rows of summary.csv: one for each job, split and subset, with its main score in points."""
    rows = [
        {**row, "metric": record.metric, "main_score": 100 * entry.main_score}
        for record in records
        for row, entry in _entries(record)
        if entry.main_score is not None
    ]
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def _entries(record: JobRecord) -> Iterator[tuple[dict[str, Any], SubsetScores]]:
    """For each split and subset what the row says of the job, and mteb's metrics."""
    model = record.provenance.model
    for split, entries in record.scores.items():
        for entry in entries:
            yield (
                {
                    "label": record.label,
                    "model": model and model.name,
                    "revision": model and model.revision,
                    "protocol": record.protocol,
                    "task": record.task,
                    "type": record.type,
                    "aggregate": record.aggregate,
                    "split": split,
                    "subset": entry.subset,
                    "limited": record.limit is not None,
                    "fingerprint": record.fingerprint,
                },
                entry,
            )


def _metrics(record: JobRecord, entry: SubsetScores, *, all_metrics: bool) -> Iterator[tuple[str, float]]:
    metrics = entry.metrics if all_metrics else {record.metric: entry.main_score}
    for name, value in metrics.items():
        if value is not None and isfinite(value):
            yield name, value
