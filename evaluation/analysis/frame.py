"""Stored records as one long pandas frame. Reads records only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from evaluation.records import JobRecord, RunStore

COLUMNS = [
    "label",
    "model",
    "revision",
    "protocol",
    "task",
    "type",
    "aggregate",
    "split",
    "subset",
    "metric",
    "main_score",
    "limited",
    "fingerprint",
]


def results_frame(run: str | Path) -> pd.DataFrame:
    """A row for each job, split and subset of a run, scores in points (0-100).

    Args:
        run: The run's folder, such as results/quickstart.

    Raises:
        StoreError: It is no run folder.
    """
    return records_frame(RunStore(Path(run)).current_records())


def records_frame(records: Sequence[JobRecord]) -> pd.DataFrame:
    """The same from records; failed jobs have no row."""
    rows = []
    for record in records:
        model = record.provenance.get("model", {})
        for split, entries in record.scores.items():
            rows += [
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
                    "metric": record.metric,
                    "main_score": 100 * entry["main_score"],
                    "limited": record.limit is not None,
                    "fingerprint": record.fingerprint,
                }
                for entry in entries
            ]
    return pd.DataFrame(rows, columns=COLUMNS)
