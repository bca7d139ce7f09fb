"""What a run leaves for mteb: its own ResultCache reads it, protocols apart, scores equal to the records'."""

from __future__ import annotations

import json

import pytest

mteb = pytest.importorskip("mteb")

from evaluation import run  # noqa: E402
from evaluation.config.limit import Limit  # noqa: E402
from evaluation.execution.runner import RunOptions  # noqa: E402
from evaluation.records import mteb_files  # noqa: E402
from evaluation.records.store import RunStore  # noqa: E402

pytestmark = [pytest.mark.usefixtures("single_thread"), pytest.mark.filterwarnings("ignore")]


def tasks_on(write_data, pool):
    texts = [text for text in pool if len(text) < 200][:60]
    halves = [" ".join(text.split()[::2]) for text in texts]
    sts = [
        {"sentence1": text, "sentence2": halves[row + row % 3 - 2], "score": float(row % 6)}
        for row, text in enumerate(texts)
    ]
    retrieval = {
        "corpus.jsonl": [{"_id": f"d{row}", "text": text} for row, text in enumerate(texts)],
        "queries.jsonl": [{"_id": f"q{row}", "text": half} for row, half in enumerate(halves)],
        "qrels/test.tsv": [(f"q{row}", f"d{row}", 1) for row in range(len(texts))],
    }
    return [
        {"local": "TinySTS", "type": "STS", "data": write_data("sts", {"test.jsonl": sts})},
        {"local": "TinyRetrieval", "type": "Retrieval", "data": write_data("retrieval", retrieval)},
    ]


@pytest.fixture
def finished(make_config, write_data, text_pool, tiny_checkpoint):
    """A run of one model under two protocols on two local tasks."""
    outcome = run(make_config(tasks_on(write_data, text_pool), tiny_checkpoint, "mteb", "e5"))
    assert [record.state for record in outcome.records] == ["done"] * 4
    return outcome


def model_results(outcome):
    cache = mteb.ResultCache(outcome.folder / "mteb")
    return cache.load_results(load_experiments="match_name", include_remote=False).model_results


def read(outcome):
    return {found.experiment_name: found for found in model_results(outcome)}


def test_result_cache_reads_two_protocols_of_one_model_apart(finished):
    found = read(finished)
    assert set(found) == {None, "protocol_e5"}
    assert {result.model_name for result in found.values()} == {"local/tiny"}
    assert len({result.model_revision for result in found.values()}) == 1
    for result in found.values():
        assert {task.task_name for task in result.task_results} == {"TinySTS", "TinyRetrieval"}


def test_scores_read_by_result_cache_equal_the_records(finished):
    found = read(finished)
    for record in finished.records:
        model_result = found[{"mteb": None, "e5": "protocol_e5"}[record.protocol]]
        (task,) = [task for task in model_result.task_results if task.task_name == record.task]
        assert task.get_score() == pytest.approx(record.main_score, abs=1e-12)
        theirs = {key: value for key, value in task.scores["test"][0].items() if isinstance(value, float)}
        ours = record.scores["test"][0]
        known = {**ours.metrics, "main_score": ours.main_score}
        assert {key: known[key] for key in theirs} == pytest.approx(theirs, abs=1e-12, nan_ok=True)
        assert len(theirs) >= 8
        assert task.dataset_revision.startswith("local-")
        assert task.mteb_version == mteb.__version__


def test_protocols_give_different_scores(finished):
    """Otherwise the tests above could not tell them apart."""
    scores = {(record.protocol, record.task): record.main_score for record in finished.records}
    assert scores["mteb", "TinySTS"] != scores["e5", "TinySTS"]
    assert scores["mteb", "TinyRetrieval"] == scores["e5", "TinyRetrieval"]  # the same prefixes, both normalised


def test_limited_runs_leave_nothing_for_mteb(make_config, write_data, text_pool, tiny_checkpoint):
    config = make_config(tasks_on(write_data, text_pool), tiny_checkpoint, "e5")
    limit = Limit.model_validate({"examples": 10, "queries": 10})
    outcome = run(config.model_copy(update={"limit": limit}))
    assert [record.state for record in outcome.records] == ["done"] * 2
    assert list(outcome.folder.glob("mteb/**/*.json")) == []


def test_rows_that_differ_in_precision_alone_are_read_apart(make_config, write_data, text_pool, tiny_checkpoint):
    config = make_config(tasks_on(write_data, text_pool)[:1], tiny_checkpoint, "mteb")
    (row,) = config.models
    other = row.model_copy(update={"label": "half", "dtype": "bfloat16"})
    outcome = run(config.model_copy(update={"models": (row, other)}))
    # Spearman sees ranks alone, and bfloat16 moves few of them; Pearson sees the values.
    ours = sorted(scores.metrics["pearson"] for record in outcome.records for scores in record.scores["test"])
    assert ours[0] != ours[1]
    theirs = [task.scores["test"][0]["pearson"] for found in model_results(outcome) for task in found.task_results]
    assert sorted(theirs) == pytest.approx(ours, abs=1e-12)


def test_rows_that_mteb_does_not_tell_apart_leave_each_others_file_alone(
    make_config, write_data, text_pool, tiny_checkpoint, caplog
):
    config = make_config(tasks_on(write_data, text_pool)[:1], tiny_checkpoint, "mteb")
    (row,) = config.models
    other = row.model_copy(update={"label": "chosen", "dtype": "auto"})
    config = config.model_copy(update={"models": (row, other)})
    outcome = run(config)
    for label in (row.label, other.label, row.label):
        assert run(config, RunOptions(models=(label,))).n_executed == 0
        (stored,) = outcome.folder.glob(f"jobs/{label}/TinySTS/*/mteb.json")
        for name, content in json.loads(stored.read_text(encoding="utf-8")).items():
            assert json.loads((outcome.folder / "mteb" / "results" / name).read_text(encoding="utf-8")) == content
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert list(outcome.folder.rglob("*.damaged")) == []


def test_files_for_mteb_survive_a_kill_after_the_record_was_stored(
    make_config, write_data, text_pool, tiny_checkpoint, monkeypatch
):
    config = make_config(tasks_on(write_data, text_pool), tiny_checkpoint, "e5")
    original = mteb_files.write_json

    def killed(file, content):
        if "results" in file.parts and "mteb" in file.parts:
            raise KeyboardInterrupt
        original(file, content)

    monkeypatch.setattr(mteb_files, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    monkeypatch.setattr(mteb_files, "write_json", original)
    (found,) = read(run(config)).values()
    assert {task.task_name for task in found.task_results} == {"TinySTS", "TinyRetrieval"}


def test_texts_of_an_earlier_start_do_not_stay(tmp_path, finished):
    """The same job again, now told to store less: what it no longer stores is gone."""
    import pyarrow as pa

    store = RunStore(tmp_path)
    table, record = pa.table({"text": ["secret"]}), finished.records[0]
    first = store.save(record, {"samples": table, "texts": table})
    folder = store.job_folder(record.label, record.task, record.fingerprint)
    assert (folder / "texts.parquet").is_file()
    again = store.save(first, {"samples": table})
    assert not (folder / "texts.parquet").exists()
    assert store.load(record.label, record.task, record.fingerprint) == again
