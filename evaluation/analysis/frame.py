"""Stored scores as rows: a long pandas frame of every score, and the rows of summary.csv."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.analysis.run_view import read_run_view
from evaluation.records.job_record import JobRecord, SubsetScores

if TYPE_CHECKING:
    import pandas as pd

_MODEL_COLUMNS = ["label", "model", "revision", "protocol", "stored"]
_JOB_COLUMNS = [*_MODEL_COLUMNS, "task", "type", "aggregate", "split", "subset", "metric"]
COLUMNS = [*_JOB_COLUMNS, "value", "run", "limited", "fingerprint"]
SUMMARY_COLUMNS = [*_JOB_COLUMNS, "main_score", "limited", "fingerprint"]


def results_frame(*runs: str | Path, all_metrics: bool = False) -> pd.DataFrame:
    """Reads the scores of runs into one long frame: a row per job, split, subset and metric, in points (0-100).

    Args:
        runs: Folders of runs, such as results/quickstart.
        all_metrics: Returns every metric that is stored; otherwise each task's main score.

    Returns:
        A frame with `COLUMNS`; failed jobs have no row. `run` is the run's name.

    Raises:
        StoreError: A folder is not a run.
        DamagedFileError: A stored file is missing or is not what was written.

    Example:
        >>> results_frame("results/quickstart").pivot_table("value", "task", "label")
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for run in runs:
        view = read_run_view(Path(run), complete=True)
        view.refuse_lost_records()
        name = view.manifest.name
        for record in view.records:
            for row, entry in _entries(record):
                for metric, value in _metrics(record, entry, all_metrics=all_metrics):
                    rows.append({**row, "metric": metric, "value": 100 * value, "run": name})
    return pd.DataFrame(rows, columns=COLUMNS)


def summary_rows(records: Sequence[JobRecord]) -> list[dict[str, Any]]:
    """Returns the rows of summary.csv: one per job, split and subset, with its main score in points."""
    return [
        {**row, "metric": record.metric, "main_score": 100 * entry.main_score}
        for record in records
        for row, entry in _entries(record)
        if entry.main_score is not None
    ]


def _entries(record: JobRecord) -> Iterator[tuple[dict[str, Any], SubsetScores]]:
    """For each split and subset, what the row says of the job, and mteb's metrics."""
    model = record.provenance.model
    for split, entries in record.scores.items():
        for entry in entries:
            yield (
                {
                    "label": record.label,
                    "model": model and model.name,
                    "revision": model and model.revision,
                    "protocol": record.protocol,
                    "stored": record.stored,
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
