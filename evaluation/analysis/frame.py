"""Stored records as pandas frames: a long one of every score, and the rows of summary.csv. Reads records only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.analysis.run_view import read_run_file
from evaluation.records.store import JobRecord, RunStore

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
        name = read_run_file(store).name
        for record in store.current_records():
            for row, entry in _entries(record):
                for metric, value in _metrics(record, entry, all_metrics=all_metrics):
                    rows.append({**row, "metric": metric, "value": 100 * value, "run": name})
    return pd.DataFrame(rows, columns=COLUMNS)


def records_frame(records: Sequence[JobRecord]) -> pd.DataFrame:
    """The rows of summary.csv: one for each job, split and subset, with its main score in points."""
    rows = [
        {**row, "metric": record.metric, "main_score": 100 * entry["main_score"]}
        for record in records
        for row, entry in _entries(record)
    ]
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def _entries(record: JobRecord) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """For each split and subset what the row says of the job, and mteb's metrics."""
    model = record.provenance.get("model", {})
    for split, entries in record.scores.items():
        for entry in entries:
            yield (
                {
                    "label": record.label,
                    "model": model.get("name"),
                    "revision": model.get("revision"),
                    "protocol": record.protocol,
                    "task": record.task,
                    "type": record.type,
                    "aggregate": record.aggregate,
                    "split": split,
                    "subset": entry["hf_subset"],
                    "limited": record.limit is not None,
                    "fingerprint": record.fingerprint,
                },
                entry,
            )


def _metrics(record: JobRecord, entry: dict[str, Any], *, all_metrics: bool) -> Iterator[tuple[str, float]]:
    if not all_metrics:
        yield record.metric, float(entry["main_score"])
        return
    for name, value in entry.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and isfinite(value) and name != "main_score":
            yield name, float(value)
