"""Runs with stored rows: they take the cached vectors of their model, and stand beside it in everything stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.small_runs import write_small_run

from evaluation import check_regression, load_config, results_frame, run
from evaluation.analysis.frame import summary_rows
from evaluation.analysis.handover.exports import write_model_cards
from evaluation.config.limit import Limit
from evaluation.config.run_config import RunConfig
from evaluation.encoding.encoder import Encoder
from evaluation.errors import ConfigError
from evaluation.execution import centring, job_running
from evaluation.execution.runner import RunOptions
from evaluation.jobs import Job, build_jobs
from evaluation.records.store import RunStore
from evaluation.tasks import loading
from evaluation.tasks.last_task import LastTask
from evaluation.tasks.selection import TaskChoice

FORMS: list[Any] = [
    "float32",
    "float16",
    {"pca": 4, "as": "int8"},
    {"as": "binary", "rescore": {"with": "int8", "candidates": 15}},
]
NAMES = ["float16", "pca=4,int8", "binary,rescore=int8x15"]

TASKS = ["Search", "Pairs", "Kinds", "Order"]


def with_forms(file: Path, forms: list[Any]) -> RunConfig:
    document = json.loads(file.read_text(encoding="utf-8"))
    document["models"][0]["stored"] = forms
    file.write_text(json.dumps(document), encoding="utf-8")
    return load_config(file)


@pytest.fixture(scope="module")
def finished(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    folder = tmp_path_factory.mktemp("stored")
    file = write_small_run(folder, TASKS, {"tiny": "e5"}, model=tiny_checkpoint, name="small")
    run(load_config(file))
    config = with_forms(file, FORMS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Encoder, "_run", None)  # no forward pass is possible from here on
        assert not run(config).failed
    return config


def test_a_stored_row_encodes_nothing_and_its_model_is_not_run_again(finished: RunConfig) -> None:
    records = RunStore(finished.run_folder).current_records()
    stored = [record for record in records if record.stored != "float32"]
    assert len(records) - len(stored) == len(TASKS)
    assert {(record.label, record.task) for record in stored} == {
        (f"tiny@{name}", task) for name in NAMES for task in TASKS if "rescore" not in name or task == "Search"
    }
    assert all(record.timing is not None and record.timing.tokens == 0 for record in stored)
    assert run(finished).n_executed == 0


def test_retrieval_data_are_read_once_for_all_rows_of_a_model(
    finished: RunConfig, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = loading.read_choice

    def watching(choice: TaskChoice, **kwargs: Any) -> Any:
        read.append(choice.name)
        return original(choice, **kwargs)

    monkeypatch.setattr(loading, "read_choice", watching)
    file = write_small_run(tmp_path, ["Search", "Order"], {"tiny": "e5"}, model=tiny_checkpoint, name="small")
    records = run(with_forms(file, FORMS)).records
    assert read == ["Search", "Order"]
    apart = {(record.label, record.task): record for record in RunStore(finished.run_folder).current_records()}
    for record in records:
        assert record.main_score == apart[record.label, record.task].main_score
        assert record.provenance.dataset == apart[record.label, record.task].provenance.dataset


def test_what_a_job_changes_in_a_task_the_next_job_does_not_see(finished: RunConfig) -> None:
    job = next(job for job in build_jobs(finished) if job.task.name == "Search")
    last = LastTask()
    first = last.load(job.task, None, job.seed)
    first.task.ignore_identical_ids = "changed"  # type: ignore[attr-defined]
    second = last.load(job.task, None, job.seed)
    assert second.task.dataset is first.task.dataset
    assert second.task.ignore_identical_ids is False  # type: ignore[attr-defined]
    assert (second.counts, second.content) == (first.counts, first.content)
    assert last.load(job.task, Limit(queries=2), job.seed).task.dataset is not first.task.dataset


def test_float16_scores_as_float32_and_smaller_forms_need_fewer_bytes(finished: RunConfig) -> None:
    frame = results_frame(finished.run_folder).pivot_table("value", "task", "stored")
    assert (frame["float16"] - frame["float32"]).abs().max() < 1.5
    assert (frame["pca=4,int8"] - frame["float32"]).abs().max() > 1.5
    sizes = {
        record.stored: record.vectors
        for record in RunStore(finished.run_folder).current_records()
        if record.task == "Search"
    }
    plain, half, both = (sizes[name] for name in ("float32", "float16", "binary,rescore=int8x15"))
    assert plain is not None and half is not None and both is not None
    width = plain.bytes_per_vector // 4
    assert (plain.vectors, plain.bytes) == (240, 240 * 4 * width)
    assert (half.bytes_per_vector, half.bytes) == (2 * width, 240 * 2 * width)
    assert (both.bytes_per_vector, both.bytes) == (width + width // 8, 240 * (width + width // 8) + 2 * 4 * width)


def test_metrics_deeper_than_the_candidates_are_not_there(finished: RunConfig) -> None:
    frame = results_frame(finished.run_folder, all_metrics=True)
    metrics = set(frame[frame["stored"] == "binary,rescore=int8x15"]["metric"])
    assert "ndcg_at_10" in metrics
    assert not {name for name in metrics if "_at_20" in name or "_at_100" in name}


def test_summary_gate_and_model_card_know_the_rows(finished: RunConfig, tmp_path: Path) -> None:
    summary = summary_rows(RunStore(finished.run_folder).current_records())
    assert {row["stored"] for row in summary} == {"float32", *NAMES}
    assert check_regression(finished.run_folder, finished.run_folder).passed
    files, notes = write_model_cards(finished.run_folder, tmp_path)
    assert [file.name for file in files] == ["tiny.md"]
    assert [note.partition(": ")[2] for note in notes] == [", ".join(f"tiny@{name}" for name in NAMES) + "."]


def test_fingerprint_of_the_plain_row_does_not_know_of_its_stored_rows(finished: RunConfig) -> None:
    from evaluation.jobs import fingerprint

    plain = {job.task.name: fingerprint(job, {}, {}) for job in build_jobs(finished) if job.model.form is None}
    bare = finished.with_models((finished.models[0].model_copy(update={"stored": None}),))
    assert plain == {job.task.name: fingerprint(job, {}, {}) for job in build_jobs(bare)}
    every = [fingerprint(job, {}, {}) for job in build_jobs(finished)]
    assert len(set(every)) == len(every)


def test_a_row_is_chosen_by_its_label(finished: RunConfig) -> None:
    outcome = run(finished, RunOptions(models=("tiny@float16",), only=("Pairs",), fresh=True))
    assert [(record.label, record.stored) for record in outcome.records] == [("tiny@float16", "float16")]
    with pytest.raises(ConfigError, match="no model has this label"):
        build_jobs(finished, models=["tiny@int4"])


def test_too_few_candidates_for_the_main_metric_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = write_small_run(tmp_path, ["Search"], {"tiny": "e5"}, model=tiny_checkpoint, name="small")
    config = with_forms(file, [{"as": "binary", "rescore": {"candidates": 9}}])
    with pytest.raises(ConfigError, match="rescore.candidates 9 is less than the 10 documents that ndcg_at_10"):
        build_jobs(config)


def test_a_row_whose_vectors_are_gone_is_encoded_again_and_says_so(
    finished: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = RunStore(finished.run_folder).current_records()
    before = {record.label: record.main_score for record in records if record.task == "Search"}
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path))
    label = "tiny@float16"
    (record,) = run(finished, RunOptions(models=(label,), only=("Search",), fresh=True)).records
    assert record.main_score == pytest.approx(before[label], abs=1e-6)
    (said,) = [warning for warning in record.warnings if "encoded for this row" in warning]
    assert record.timing is not None and said.startswith(f"{record.timing.tokens:,} tokens ")


def test_bits_say_what_centring_would_change_and_take_the_score_of_a_centred_row(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(centring, "_MATTERS", 1.0)
    evaluated: list[str] = []
    original = job_running._evaluate

    def watching(job: Job, *args: Any, **kwargs: Any) -> Any:
        evaluated.append(job.model.label)
        return original(job, *args, **kwargs)

    monkeypatch.setattr(job_running, "_evaluate", watching)
    file = write_small_run(tmp_path, ["Search"], {"tiny": "e5"}, model=tiny_checkpoint, name="small")
    alone = {record.stored: record for record in run(with_forms(file, ["binary"])).records}
    assert evaluated == ["tiny", "tiny@binary", "tiny@binary,center"]
    evaluated.clear()
    config = with_forms(file, ["binary", {"as": "binary", "center": True}])
    both = {record.stored: record for record in run(config, RunOptions(fresh=True)).records}
    assert evaluated == ["tiny", "tiny@binary,center", "tiny@binary"]
    bits, centred = both["binary"].main_score, both["binary,center"].main_score
    assert bits is not None and centred is not None
    assert abs(centred - bits) > 0.01
    sentence = "center: true, which subtracts the documents' mean first, would change this score by "
    for record in (alone["binary"], both["binary"]):
        said = [warning for warning in record.warnings if "center: true" in warning]
        assert said == [f"{sentence}{100 * (centred - bits):+.1f}."]
    assert not [warning for warning in both["binary,center"].warnings if "center" in warning]
