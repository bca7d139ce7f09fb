"""What a gate reads of a run folder, and which runs it refuses."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_runs import clustering, retrieval, sts, write_run

from evaluation.analysis import run_view
from evaluation.analysis.gate.snapshots import check_complete, read_run
from evaluation.analysis.statistics.units import score, units_to_bytes
from evaluation.errors import UsageError
from evaluation.records.sealed_models import SCHEMA_VERSION
from evaluation.system import forked_map
from evaluation.system.atomic_files import read_sealed_json, write_sealed_json

VALUES = np.array([0.5, 1.0, 0.0, 0.25])


def test_jobs_come_with_scores_conditions_and_units(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "suite", [retrieval(VALUES), clustering(np.array([0.25, 0.75]), label="MiniLM")])
    found = read_run(folder)
    assert (found.name, found.labels) == ("suite", ("E5-small", "MiniLM"))
    first, second = found.jobs
    assert (first.task, first.type, first.metric, first.score, first.fault) == (
        "Retrieve",
        "Retrieval",
        "ndcg_at_10",
        0.4375,
        "",
    )
    assert first.units is not None and score(first.units) == first.score
    assert second.units is not None and second.units.kind == "algorithm"
    assert first.conditions["protocol"] == "e5"
    assert first.conditions["protocol's text_prefix"] == "query: "
    assert first.conditions["dataset revision"] == "local-1"
    assert found.models["E5-small"]["weights_sha256"] == "aaaa"
    assert found.models["E5-small"]["settings"]["dtype"] == "float32"
    assert found.versions == {"mteb": "2.26.24", "scikit-learn": "1.9.1", "torch": "2.13.0"}
    check_complete(found, "suite")


def test_many_jobs_are_read_in_several_processes_with_the_same_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    jobs = [retrieval(rng.random(12), f"T{n}") for n in range(5)]
    run = write_run(tmp_path / "run", jobs)
    alone = [units_to_bytes(job.units) for job in read_run(run).jobs if job.units]
    monkeypatch.setattr(run_view, "MANY_JOBS", 5)
    monkeypatch.setattr(forked_map, "_processors", lambda: 3)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    assert [units_to_bytes(job.units) for job in read_run(run).jobs if job.units] == alone
    assert len(alone) == 5
    next(run.rglob("T3/*/samples.parquet")).write_bytes(b"PAR1 broken")
    with pytest.raises(UsageError, match="T3"):
        read_run(run)


def test_failed_jobs_are_there_with_their_reason(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "suite", [retrieval(VALUES), retrieval(VALUES, "Other", error="no\nmemory")])
    found = read_run(folder)
    assert [(job.score, job.fault) for job in found.jobs] == [(0.4375, ""), (None, "no memory")]
    with pytest.raises(UsageError, match=r"suite can't be a baseline.*E5-small on Other: no memory"):
        check_complete(found, "suite")


def test_jobs_that_never_ended_are_there(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "suite", [retrieval(VALUES)])
    next(folder.rglob("record.json")).unlink()
    (job,) = read_run(folder).jobs
    assert job.score is None
    assert job.fault.startswith("never ended")


def test_run_without_jobs_is_no_baseline(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no job"):
        check_complete(read_run(write_run(tmp_path / "suite", [])), "suite")


def test_limited_run_is_refused(tmp_path: Path) -> None:
    limit = {"documents": None, "queries": 3, "examples": None}
    for number, run in enumerate(({"limit": limit}, {})):
        folder = write_run(tmp_path / f"suite{number}", [retrieval(VALUES, limit=limit)], **run)
        with pytest.raises(UsageError, match="is a limited run"):
            read_run(folder)


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run folder"):
        read_run(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_broken_run_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_run(tmp_path)
    assert "run.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{"jobs": 3}, {"name": "x"}, {"name": "x", "jobs": [{"label": "a"}]}])
def test_run_file_of_another_shape_is_one_sentence(tmp_path: Path, content: dict[str, Any]) -> None:
    write_sealed_json(tmp_path / "run.json", {"schema_version": SCHEMA_VERSION, **content})
    with pytest.raises(UsageError, match=r"run\.json is damaged: it is not as run-benchmark writes it .see .*jobs"):
        read_run(tmp_path)


def test_one_label_with_two_weights_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "suite", [retrieval(VALUES), retrieval(VALUES, "Other", weights="cccc")])
    with pytest.raises(UsageError, match="different weights under the label 'E5-small' .Other differs"):
        read_run(folder)


def test_samples_that_are_not_the_stored_ones_are_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "suite", [retrieval(VALUES)])
    other = write_run(tmp_path / "other", [retrieval(VALUES + 1)])
    source, target = (next(place.rglob("samples.parquet")) for place in (other, folder))
    target.write_bytes(source.read_bytes())
    with pytest.raises(UsageError, match=r"samples\.parquet is damaged: its checksum"):
        read_run(folder)


def test_versions_of_a_resumed_run_are_all_named(tmp_path: Path) -> None:
    jobs = [retrieval(VALUES, versions={"mteb": "2"}), retrieval(VALUES, "Other", versions={"mteb": "1"})]
    assert read_run(write_run(tmp_path / "suite", jobs)).versions == {"mteb": "1, 2"}


def test_score_that_its_samples_do_not_give_has_no_units(tmp_path: Path) -> None:
    gold = np.arange(5.0)
    folder = write_run(tmp_path / "suite", [sts(gold, gold)])
    file = next(folder.rglob("record.json"))
    write_sealed_json(file, read_sealed_json(file) | {"main_score": 0.5})
    (job,) = read_run(folder).jobs
    assert (job.score, job.units) == (0.5, None)
