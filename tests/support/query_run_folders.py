"""Runs written to disk without any model: records and samples whose scores are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.query_runs import query_record
from support.record_parts import manifest

from evaluation.records.job_record import JobRecord
from evaluation.records.run_manifest import ListedJob
from evaluation.records.store import RunStore


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """A function: name, records and their queries' values -> the folder of a run."""

    def write(
        name: str,
        jobs: Sequence[tuple[JobRecord, Sequence[float] | None]],
        *,
        samples: bool = True,
        waiting: Sequence[tuple[str, str]] = (),
        config: Mapping[str, Any] | None = None,
    ) -> Path:
        import pyarrow as pa

        store = RunStore(tmp_path / name)
        for record, values in jobs:
            n = len(values or ())
            columns = {
                "split": [record.splits[0]] * n,
                "subset": [record.subsets[0]] * n,
                "query_id": [f"q{number:04}" for number in range(n)],
                "ndcg_cut_10": list(values or ()),
            }
            store.save(record, {"samples": pa.table(columns)} if samples and values is not None else None)
        listed = [
            ListedJob(label=label, task=task, type="Retrieval", protocol="e5", fingerprint="0" * 64, state="waiting")
            for label, task in waiting
        ]
        store.write_run(manifest(name, [*(record for record, _ in jobs), *listed], config=dict(config or {})))
        return store.folder

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
