"""What is stored of a run: records and run.json that come back as they were, or are refused by name."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from support.fake_runs import query_record
from support.record_parts import hardware, job_audit, manifest, side_audit

from evaluation.errors import DamagedFileError, SchemaVersionError, StoreError
from evaluation.models.proof_store import Proof
from evaluation.protocols import TaskRules
from evaluation.records.job_record import JobError, JobRecord, SubsetScores
from evaluation.records.run_manifest import Cost, ListedJob, PlanAndTruth
from evaluation.records.store import RunStore, remove_leftovers
from evaluation.system.atomic_files import read_sealed_json, write_sealed_json

SAMPLES = {"samples": pa.table({"split": ["test"], "ndcg_cut_10": [0.5]})}


def file_of(store: RunStore, record: JobRecord, name: str = "record.json") -> Path:
    return store.job_folder(record.label, record.task, record.fingerprint) / name


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    rules = TaskRules("mine", query_prefix="Q: ", normalize="never", ignore_identical_ids=True)
    audit = job_audit(rules, query=side_audit(examples=("Q: a \u2028 b",), truncated=3, truncated_share=0.03))
    proof = Proof(
        outcome="library",
        reason="other vectors",
        reference="transformers, float32",
        n_texts=8,
        cosine_distance=0.25,
        length_difference=None,
        cosine_limit=1e-6,
        length_limit=None,
        versions={"transformers": "5"},
        seconds=0.5,
    )
    record = query_record(
        "a",
        "T",
        [0.1, 0.2],
        audit=audit.model_copy(update={"proof": proof}),
        limit={"queries": 3},
        notices=("documents tie for 2 of 2 queries",),
        counts={"dropped_qrels": 2},
    )
    store = RunStore(tmp_path)
    saved = store.save(record, SAMPLES)
    assert set(saved.files) == {"samples.parquet"}
    assert store.load("a", "T", record.fingerprint) == saved
    assert saved.model_copy(update={"files": {}}) == record
    assert saved.audit is not None and saved.audit.rules == rules
    assert saved.limit is not None and saved.limit.queries == 3


def test_a_failed_record_comes_back_with_its_error(tmp_path: Path) -> None:
    store, record = RunStore(tmp_path), query_record("a", "T", None)
    store.save(record)
    found = store.load("a", "T", record.fingerprint)
    assert found is not None
    assert (found.state, found.main_score) == ("failed", None)
    assert found.error == JobError(kind="ModelError", message="the model broke")


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "done", "main_score": None},
        {"state": "failed"},
        {"error": JobError(kind="E", message="m")},
    ],
)
def test_a_record_has_a_score_or_an_error(changes: dict[str, Any]) -> None:
    fields = query_record("a", "T", [0.5]).model_dump()
    with pytest.raises(ValidationError, match="a done job has a main score and no error"):
        JobRecord.model_validate(fields | changes)


def test_mteb_s_entries_keep_every_value() -> None:
    entry = {
        "hf_subset": "de",
        "languages": ["deu-Latn"],
        "main_score": 0.25,
        "accuracy": 0.25,
        "hits": 3,
        "recall": np.float32(0.5),
        "nauc": math.nan,
        "unknown": None,
        "is_parallel": True,
        "scores_per_experiment": [{"accuracy": 0.25}],
        "v_measures": {"Level 0": [0.5]},
    }
    found = SubsetScores.from_mteb(entry)
    assert (found.subset, found.languages, found.main_score) == ("de", ("deu-Latn",), 0.25)
    nauc = found.metrics.pop("nauc")
    assert nauc is not None and math.isnan(nauc)
    assert found.metrics == {"accuracy": 0.25, "hits": 3, "recall": 0.5, "unknown": None}
    assert found.details == {name: entry[name] for name in ("is_parallel", "scores_per_experiment", "v_measures")}


def test_numbers_that_are_none_are_stored_as_null(tmp_path: Path) -> None:
    scores = SubsetScores(subset="default", main_score=0.5, metrics={"nauc": math.nan})
    record = query_record("a", "T", [0.5]).model_copy(update={"scores": {"test": (scores,)}})
    RunStore(tmp_path).save(record)
    found = RunStore(tmp_path).load("a", "T", record.fingerprint)
    assert found is not None
    assert found.scores["test"][0].metrics == {"nauc": None}


def test_run_json_comes_back_as_it_was(tmp_path: Path) -> None:
    cost = PlanAndTruth(plan=Cost(tokens=7, seconds=1.5), truth=Cost(texts=3, tokens=8))
    job = ListedJob(label="a", task="T", type="STS", protocol="e5", fingerprint="f" * 64, state="waiting", cost=cost)
    written = manifest("r", [job, query_record("b", "T", [0.5])], hardware=hardware(), executor={"kind": "local"})
    store = RunStore(tmp_path)
    store.write_run(written)
    assert store.read_run() == written
    assert [job.key for job in written.jobs] == [("a", "T"), ("b", "T")]


def test_files_of_another_schema_version_are_refused_whole(tmp_path: Path) -> None:
    store, record = RunStore(tmp_path), query_record("a", "T", [0.5])
    store.save(record)
    store.write_run(manifest("r", [record]))
    for version in (1, 3):
        for file in (file_of(store, record), tmp_path / "run.json"):
            write_sealed_json(file, read_sealed_json(file) | {"schema_version": version})
        with pytest.raises(SchemaVersionError, match=f"record.json has schema version {version}, .* reads 2: run its"):
            store.load("a", "T", record.fingerprint)
        with pytest.raises(SchemaVersionError, match=f"run.json has schema version {version}, .* reads 2: run its"):
            store.read_run()


def test_a_run_goes_on_where_an_older_version_stopped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its job runs again and its files are written anew: nothing is damaged, nothing is half read."""
    store, record = RunStore(tmp_path), query_record("a", "T", [0.5])
    store.save(record)
    store.write_run(manifest("r", [record]))
    for file in (file_of(store, record), tmp_path / "run.json"):
        write_sealed_json(file, read_sealed_json(file) | {"schema_version": 1})
    with caplog.at_level(logging.WARNING):
        assert store.load_or_set_aside("a", "T", record.fingerprint) is None
        assert store.read_run_or_set_aside() is None
    assert "T runs again." in caplog.text
    assert list(tmp_path.rglob("*.damaged")) == []
    store.save(record)
    assert store.load_or_set_aside("a", "T", record.fingerprint) == record


@pytest.mark.parametrize("change", [{"colour": "red"}, {"audit": {"rules": {"protocol": "e5"}}}, {"timing": {}}])
def test_a_record_of_another_shape_is_refused_whole(tmp_path: Path, change: dict[str, Any]) -> None:
    store, record = RunStore(tmp_path), query_record("a", "T", [0.5])
    store.save(record)
    file = file_of(store, record)
    write_sealed_json(file, read_sealed_json(file) | change)
    with pytest.raises(DamagedFileError, match=r"record\.json is damaged: it is not as run-benchmark writes it .see "):
        store.load("a", "T", record.fingerprint)


def test_a_missing_file_is_named_even_where_contents_are_not_checked(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    record = store.save(query_record("a", "T", [0.5]), SAMPLES)
    file_of(store, record, "samples.parquet").write_bytes(b"other")
    assert store.load("a", "T", record.fingerprint, complete=False) == record
    with pytest.raises(DamagedFileError, match=r"samples\.parquet is damaged: its checksum"):
        store.load("a", "T", record.fingerprint)
    file_of(store, record, "samples.parquet").unlink()
    with pytest.raises(DamagedFileError, match=r"samples\.parquet is damaged: it is missing"):
        store.load("a", "T", record.fingerprint, complete=False)


@pytest.mark.parametrize("name", ["..", ".hidden", "", "a/b", "a\0b"])
def test_no_name_leads_out_of_the_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="can't be the name of a job's folder"):
        RunStore(tmp_path).job_folder(name, "T", "f" * 64)


def test_only_the_run_s_own_unfinished_files_are_removed(tmp_path: Path) -> None:
    elsewhere, unfinished = tmp_path / "elsewhere", f".a.{'0' * 16}.tmp"
    store = RunStore(tmp_path / "run")
    kept = [elsewhere / unfinished, *(store.folder / "jobs" / name for name in (".vimrc.tmp", "a.tmp"))]
    kept.append(store.folder / f".report.html.{'0' * 16}.tmp")  # of a report that is being written
    gone = [store.folder / "jobs" / "a" / unfinished, store.folder / f".run.json.{'0' * 16}.tmp"]
    for file in (*kept, *gone):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (store.folder / "jobs" / "link").symlink_to(elsewhere)
    remove_leftovers(store.folder)
    assert [file for file in (*kept, *gone) if file.exists()] == kept
