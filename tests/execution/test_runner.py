"""Whole runs of a tiny checkpoint on tiny local tasks: resuming, isolation, identity, and what is left on disk."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from pyarrow import parquet
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from evaluation import load_config, results_frame, run
from evaluation.analysis.frame import COLUMNS, SUMMARY_COLUMNS
from evaluation.commands.run_benchmark.command import main
from evaluation.config.run_config import RunConfig
from evaluation.execution import local_executor
from evaluation.execution.local_executor import LocalExecutor
from evaluation.execution.reporting import Reporter, RunOutcome
from evaluation.execution.runner import RunOptions
from evaluation.jobs import Job, build_jobs
from evaluation.records.job_record import JobRecord
from evaluation.records.store import RunStore

pytestmark = pytest.mark.usefixtures("logging_as_before", "single_thread_module")

WORDS = ["red", "green", "blue", "cat", "dog", "horse", "runs", "sleeps", "eats", "a", "the", "small"]
TASK_TYPES = {
    "Pairs": "STS",
    "Search": "Retrieval",
    "Colours": "Classification",
    "Same": "PairClassification",
    "Digest": "Summarization",
    "Translate": "BitextMining",
    "Groups": "Clustering",
    "Order": "Reranking",
}
TWO = ("Pairs", "Search")


def sentence(number: int) -> str:
    """Different words for different numbers below 144."""
    return f"{WORDS[number % 12]} {WORDS[number // 12 % 12]} {WORDS[(number * 5 + 3) % 12]}"


def rows_of(kind: str) -> dict[str, list[dict[str, Any]]]:
    """Files of one task, without suffix."""
    match kind:
        case "STS":
            scores = [0.5, 4.0, 1.5, 3.0, 2.0, 5.0, 0.0, 2.5]
            pairs = [(sentence(at), sentence(at + 20), score) for at, score in enumerate(scores)]
            return {"test": [dict(zip(("sentence1", "sentence2", "score"), pair, strict=True)) for pair in pairs]}
        case "PairClassification":
            pairs = [(sentence(at), sentence(at + at % 5), int(at % 3 == 0)) for at in range(12)]
            return {"test": [dict(zip(("sentence1", "sentence2", "label"), pair, strict=True)) for pair in pairs]}
        case "BitextMining":
            return {"test": [{"sentence1": sentence(at), "sentence2": sentence(at + 2)} for at in range(9)]}
        case "Classification":
            train = [{"text": sentence(at), "label": ("low", "middle", "high")[at % 3]} for at in range(24)]
            return {"train": train, "test": [{**row, "text": f"{row['text']} a"} for row in train[:10]]}
        case "Clustering":
            return {"test": [{"text": sentence(at), "label": "abc"[at % 3]} for at in range(18)]}
        case "Summarization":
            texts = [[sentence(text * 9 + at) for at in range(4)] for text in range(3)]
            return {
                "test": [
                    {
                        "text": " ".join(machine),
                        "human_summaries": [sentence(text + 70), sentence(text + 90)],
                        "machine_summaries": machine,
                        "relevance": [[1.0, 4.0, 2.5, 3.0], [5.0, 2.0, 1.5, 4.0], [2.0, 3.5, 3.0, 1.0]][text],
                    }
                    for text, machine in enumerate(texts)
                ]
            }
    corpus = [
        {"_id": f"d{at}", "title": f"{WORDS[at]}" if at % 2 else "", "text": sentence(at * 7)} for at in range(12)
    ]
    queries = [{"_id": f"q{at}", "text": sentence(at * 11 + 4)} for at in range(5)]
    return {"corpus": corpus, "queries": queries}


def write_task(folder: Path, kind: str, files: Mapping[str, list[dict[str, Any]]] | None = None) -> None:
    """A task's folder; in retrieval the query q4 is not judged."""
    folder.mkdir(parents=True)
    for name, rows in (files or rows_of(kind)).items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if kind in {"Retrieval", "Reranking"}:
        judged = [("q0", "d3", 2), ("q0", "d5", 1), ("q1", "d1", 1), ("q2", "d8", 1), ("q3", "d0", 0), ("q3", "d11", 1)]
        lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, line)) for line in judged)]
        (folder / "qrels").mkdir()
        (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if kind == "Reranking":
        candidates = [
            {"query-id": f"q{at}", "corpus-ids": [f"d{(at * 3 + n) % 12}" for n in range(8)]} for at in range(4)
        ]
        candidates[0]["corpus-ids"] = ["d3", "d5", "d7", "d9"]
        candidates[2]["corpus-ids"] = ["d8", "d2"]
        candidates[3]["corpus-ids"] = ["d0", "d11", "d4"]
        (folder / "top_ranked").mkdir()
        text = "".join(json.dumps(row) + "\n" for row in candidates)
        (folder / "top_ranked" / "test.jsonl").write_text(text, encoding="utf-8")


def suite(folder: Path, model: Path | str, *names: str, **changes: Any) -> Path:
    """A config of tasks whose folders are written beside it where they are not there yet."""
    for name in names or TWO:
        if not (folder / "data" / name).exists():
            write_task(folder / "data" / name, TASK_TYPES[name])
    document = {
        "name": "tiny",
        "models": [{"label": "tiny", "model": str(model), "protocol": "e5", "dtype": "float32"}],
        "tasks": [{"local": name, "type": TASK_TYPES[name], "data": f"data/{name}"} for name in names or TWO],
        "runtime": {"device": "cpu", "cache": False},
        "output": str(folder / "results"),
        **changes,
    }
    file = folder / "c.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return file


def row(label: str, model: Path | str, protocol: str = "e5", **changes: Any) -> dict[str, Any]:
    return {"label": label, "model": str(model), "protocol": protocol, "dtype": "float32", **changes}


def start(file: Path, *overrides: str, **options: Any) -> RunOutcome:
    return run(load_config(file, overrides=overrides), RunOptions(**options))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def call(*arguments: str) -> int:
    """The command itself; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["run-benchmark", *arguments])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


def tables_of(record: JobRecord) -> dict[str, str]:
    """Hashes of a job's tables; what is made for mteb also holds the time it took."""
    return {name: sha256 for name, sha256 in record.files.items() if name.endswith(".parquet")}


def samples(record: JobRecord, folder: Path) -> pd.DataFrame:
    path = RunStore(folder).job_folder(record.label, record.task, record.fingerprint)
    return parquet.read_table(path / "samples.parquet").to_pandas()


@pytest.fixture
def nan_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint with one weight that is no number."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "nan")
    weights = load_file(folder / "model.safetensors")
    next(tensor for name, tensor in weights.items() if "layer.1.output.LayerNorm.bias" in name)[0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def finished(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of every kind of task, by the command."""
    folder = tmp_path_factory.mktemp("finished")
    file = suite(folder, tiny_checkpoint, *TASK_TYPES)
    assert call(str(file), "--quiet") == 0
    return folder / "results" / "tiny"


@pytest.fixture(scope="module")
def records(finished: Path) -> dict[str, JobRecord]:
    """By task."""
    return {record.task: record for record in RunStore(finished).current_records()}


# ------------------------------------------------------------------------------------------------------------ resuming


def test_second_start_runs_nothing_and_changes_nothing(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = suite(tmp_path, tiny_checkpoint)
    first = start(file)
    jobs = files_of(first.folder / "jobs")
    assert (first.n_executed, len(first.records), first.failed) == (2, 2, [])

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr(local_executor, "Encoder", refuse)
    second = start(file)
    assert second.n_executed == 0
    for again, record in zip(second.records, first.records, strict=True):
        same = ("label", "task", "fingerprint", "main_score", "audit", "files", "provenance")
        assert again.model_dump(include=set(same)) == record.model_dump(include=set(same))
    assert files_of(first.folder / "jobs") == jobs


def test_fresh_runs_again_with_the_same_scores(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = suite(tmp_path, tiny_checkpoint)
    first, second = start(file), start(file, fresh=True)
    assert second.n_executed == 2
    assert [record.scores for record in second.records] == [record.scores for record in first.records]
    assert [tables_of(record) for record in second.records] == [tables_of(record) for record in first.records]


def test_new_task_alone_is_run(tiny_checkpoint: Path, tmp_path: Path) -> None:
    start(suite(tmp_path, tiny_checkpoint, "Pairs"))
    second = start(suite(tmp_path, tiny_checkpoint))
    assert second.n_executed == 1
    assert [record.task for record in second.records] == ["Pairs", "Search"]


def test_interrupted_run_goes_on_where_it_stopped(tiny_checkpoint: Path, tmp_path: Path) -> None:
    class Impatient(Reporter):
        def job_started(self, job: Job) -> None:
            if job.task.name == "Search":
                raise KeyboardInterrupt

    file = suite(tmp_path, tiny_checkpoint)
    with pytest.raises(KeyboardInterrupt):
        run(load_config(file), reporter=Impatient())
    folder = tmp_path / "results" / "tiny"
    states = {job.task: job.state for job in RunStore(folder).read_run().jobs}
    assert states == {"Pairs": "done", "Search": "waiting"}
    assert RunStore(folder).read_run().ended is None
    assert results_frame(folder)["task"].tolist() == ["Pairs"]
    second = start(file)
    assert (second.n_executed, len(second.records)) == (1, 2)
    assert RunStore(folder).read_run().ended is not None
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("content", ["", "{", '{"schema_version": 99}', "[]"])
def test_record_that_can_not_be_read_is_made_again(tiny_checkpoint: Path, tmp_path: Path, content: str) -> None:
    file = suite(tmp_path, tiny_checkpoint, "Pairs")
    first = start(file)
    (stored,) = first.folder.rglob("record.json")
    stored.write_text(content, encoding="utf-8")
    second = start(file)
    assert second.n_executed == 1
    assert second.records[0].main_score == first.records[0].main_score


def test_only_and_models_keep_the_other_jobs_known(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = suite(tmp_path, tiny_checkpoint, models=[row("a", tiny_checkpoint), row("b", tiny_checkpoint, "none")])
    first = start(file, only=("Pa*",))
    assert (first.n_executed, {record.task for record in first.records}) == (2, {"Pairs"})
    second = start(file, models=("a",))
    assert second.n_executed == 1
    frame = results_frame(second.folder)
    assert set(zip(frame["label"], frame["task"], strict=True)) == {("a", "Pairs"), ("a", "Search"), ("b", "Pairs")}
    third = start(file)
    assert (third.n_executed, len(third.records)) == (1, 4)
    start(file, only=("Search",), models=("b",))
    assert len(results_frame(third.folder)) == 4


def test_a_narrower_start_keeps_the_configs_order(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = suite(tmp_path, tiny_checkpoint)
    folder = start(file).folder
    start(file, only=("Search",))
    assert [job.task for job in RunStore(folder).read_run().jobs] == ["Pairs", "Search"]


def test_a_narrower_start_under_another_protocol_leaves_the_old_scores_out(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = start(suite(tmp_path, tiny_checkpoint, models=[row("a", tiny_checkpoint, "e5")])).folder
    start(suite(tmp_path, tiny_checkpoint, models=[row("a", tiny_checkpoint, "none")]), only=("Search",))
    frame = results_frame(folder)
    assert list(zip(frame["task"], frame["protocol"], strict=True)) == [("Search", "none")]


def test_summary_of_a_narrower_start_keeps_the_other_jobs(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = str(suite(tmp_path, tiny_checkpoint))
    assert call(file, "--quiet") == 0
    assert call(file, "--quiet", "--only", "Pairs") == 0
    folder = tmp_path / "results" / "tiny"
    assert set(pd.read_csv(folder / "summary.csv")["task"]) == set(results_frame(folder)["task"]) == set(TWO)


def test_rows_of_one_model_under_two_labels_are_both_kept(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = suite(tmp_path, tiny_checkpoint, "Pairs", models=[row("a", tiny_checkpoint), row("b", tiny_checkpoint)])
    first = start(file, models=("a",))
    assert [record.label for record in first.records] == ["a"]
    second = start(file)
    assert [record.label for record in second.records] == ["a", "b"]
    third = start(file)
    assert (third.n_executed, [record.label for record in third.records]) == (0, ["a", "b"])


def test_rows_that_share_weights_and_settings_share_one_loaded_model(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []

    class Counted(local_executor.Encoder):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            loaded.append(self)

    monkeypatch.setattr(local_executor, "Encoder", Counted)
    models = [row("a", tiny_checkpoint), row("b", tiny_checkpoint, "none"), row("c", tiny_checkpoint, max_length=16)]
    start(suite(tmp_path, tiny_checkpoint, "Pairs", models=models))
    assert len(loaded) == 2


@pytest.mark.full
def test_killed_process_and_a_second_one_at_once_leave_a_sound_run(tiny_checkpoint: Path, tmp_path: Path) -> None:
    names = ("Pairs", "Search", "Same", "Digest", "Translate", "Groups")
    file = suite(tmp_path, tiny_checkpoint, *names)
    program = "from evaluation.commands.run_benchmark.command import main; main()"
    command = [sys.executable, "-c", program, str(file), "--quiet", "--wait"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "env": environment}
    killed, other = subprocess.Popen(command, **quiet), subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
    folder = tmp_path / "results" / "tiny"
    try:
        deadline = time.monotonic() + 120
        while not list(folder.rglob("record.json")) and killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        killed.kill()
        assert other.wait(timeout=120) == 0, other.stderr.read()
    finally:
        for process in (killed, other):
            process.kill()
            process.communicate()
    outcome = start(file)
    assert (outcome.n_executed, len(outcome.records)) == (0, 6)
    for record in outcome.records:
        assert record.state == "done"
        assert len(samples(record, folder)) > 0
    assert {job.state for job in RunStore(folder).read_run().jobs} == {"done"}


def test_cached_vectors_give_the_same_record_without_the_model(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))
    (uncached,) = start(suite(tmp_path, tiny_checkpoint, "Pairs")).records
    file = suite(tmp_path, tiny_checkpoint, "Pairs", runtime={"device": "cpu", "cache": True})
    (first,), (second,) = start(file, fresh=True).records, start(file, fresh=True).records
    assert first.timing.tokens > 0
    assert second.timing.tokens == 0
    for record in (first, second):
        assert record.fingerprint == uncached.fingerprint
        assert record.scores == uncached.scores
        assert record.audit == uncached.audit
        assert tables_of(record) == tables_of(uncached)


# ----------------------------------------------------------------------------------------------------------- isolation


def test_failing_job_is_recorded_and_the_others_go_on(
    tiny_checkpoint: Path, nan_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = suite(tmp_path, tiny_checkpoint, models=[row("bad", nan_checkpoint), row("good", tiny_checkpoint)])
    assert call(str(file)) == 3
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert "bad on Pairs: failed:" in said.err
    folder = tmp_path / "results" / "tiny"
    stored = RunStore(folder).current_records()
    assert [(record.label, record.state) for record in stored] == [("bad", "failed")] * 2 + [("good", "done")] * 2
    for record in stored[:2]:
        assert record.main_score is None
        assert record.scores == {}
        assert record.error is not None
        assert record.error.kind == "ModelError"
        assert "NaN or infinity" in record.error.message
    assert set(results_frame(folder)["label"]) == {"good"}
    assert {job.state for job in RunStore(folder).read_run().jobs} == {"failed", "done"}
    again = start(file)
    assert (again.n_executed, len(again.failed)) == (2, 2)


def prefixed_task(folder: Path) -> None:
    rows = [{**pair, "sentence1": f"Query: {pair['sentence1']}"} for pair in rows_of("STS")["test"]]
    write_task(folder / "data" / "Pairs", "STS", {"test": rows})


def test_data_that_is_prefixed_already_fails_its_job(tiny_checkpoint: Path, tmp_path: Path) -> None:
    prefixed_task(tmp_path)
    outcome = start(suite(tmp_path, tiny_checkpoint))
    failed, done = outcome.records
    assert (failed.state, done.state) == ("failed", "done")
    assert failed.error is not None
    assert failed.error.kind == "AuditError"
    assert "8 of 16 texts" in failed.error.message
    assert "allow_prefixed_text" in failed.error.message


def test_prefixed_data_is_accepted_where_the_protocol_says_so(tiny_checkpoint: Path, tmp_path: Path) -> None:
    prefixed_task(tmp_path)
    file = suite(
        tmp_path,
        tiny_checkpoint,
        "Pairs",
        models=[row("tiny", tiny_checkpoint, "own")],
        protocols={"own": {"base": "e5", "allow_prefixed_text": True}},
    )
    (record,) = start(file).records
    assert record.state == "done"
    assert any("already begin with" in warning for warning in record.warnings)


def change_sizes(folder: Path) -> None:
    """A folder check, which loads nothing, finds no fault in it."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 7}), encoding="utf-8")


def empty_config(folder: Path) -> None:
    (folder / "config.json").write_text("[]", encoding="utf-8")


def empty_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")


@pytest.mark.parametrize("damage", [change_sizes, empty_config, empty_tokenizer])
def test_model_that_can_not_be_loaded_fails_its_own_jobs_only(
    tiny_checkpoint: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    broken = shutil.copytree(tiny_checkpoint, tmp_path / "broken")
    damage(broken)
    file = suite(tmp_path, tiny_checkpoint, "Pairs", models=[row("bad", broken), row("good", tiny_checkpoint)])
    bad, good = start(file).records
    assert (bad.state, good.state) == ("failed", "done")
    assert bad.error is not None
    assert bad.error.kind == "ModelError"
    assert bad.error.traceback is None


def test_constant_gold_scores_are_an_error_and_not_zero(tiny_checkpoint: Path, tmp_path: Path) -> None:
    constant = [{**pair, "score": 1.0} for pair in rows_of("STS")["test"]]
    write_task(tmp_path / "data" / "Pairs", "STS", {"test": constant})
    (record,) = start(suite(tmp_path, tiny_checkpoint, "Pairs")).records
    assert (record.state, record.main_score) == ("failed", None)


def test_two_labels_in_words_score_like_two_labels_in_numbers(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """mteb's own average precision of two classes wants the label 1."""
    scores = []
    for labels in (("ham", "spam"), (0, 1), (3, 7)):
        files = rows_of("Classification")
        relabelled = {
            name: [{**part, "label": labels[at % 2]} for at, part in enumerate(files[name])] for name in files
        }
        folder = tmp_path / str(labels[0])
        write_task(folder / "data" / "Colours", "Classification", relabelled)
        (record,) = start(suite(folder, tiny_checkpoint, "Colours")).records
        assert record.state == "done", (labels, record.error)
        scores.append(record.main_score)
    assert scores[0] == scores[1] == scores[2]


# ------------------------------------------------------------------------------------------------------------ identity


def prints(config: RunConfig) -> dict[str, str]:
    """Fingerprints by label and task; nothing is run."""
    executor = LocalExecutor(config)
    return {job.name: executor.fingerprint(job) for job in build_jobs(config)}


def of_pairs(folder: Path, model: Path, *overrides: str, **changes: Any) -> str:
    return prints(load_config(suite(folder, model, **changes), overrides=overrides))["tiny on Pairs"]


@pytest.mark.parametrize(
    "override",
    [
        "models.0.protocol=none",
        "models.0.protocol=mteb",
        "models.0.max_length=16",
        "models.0.pooling=cls",
        "models.0.dtype=bfloat16",
        "models.0.backend=sentence-transformers",
        "runtime.seed=43",
        "limit.examples=4",
        "limit.queries=4",
    ],
)
def test_fingerprint_changes_with_what_moves_a_score(tiny_checkpoint: Path, tmp_path: Path, override: str) -> None:
    before = of_pairs(tmp_path, tiny_checkpoint)
    assert of_pairs(tmp_path, tiny_checkpoint) == before
    assert len(before) == 64
    assert of_pairs(tmp_path, tiny_checkpoint, override) != before


@pytest.mark.parametrize(
    "override",
    ["name=other", "output=elsewhere", "runtime.store_texts=false", "runtime.cache=true", "models.0.label=tiny"],
)
def test_fingerprint_stays_with_what_moves_no_score(tiny_checkpoint: Path, tmp_path: Path, override: str) -> None:
    assert of_pairs(tmp_path, tiny_checkpoint, override) == of_pairs(tmp_path, tiny_checkpoint)


def test_fingerprint_changes_with_one_weight(tiny_checkpoint: Path, nan_checkpoint: Path, tmp_path: Path) -> None:
    assert of_pairs(tmp_path, tiny_checkpoint) != of_pairs(tmp_path, nan_checkpoint)


def test_fingerprint_does_not_depend_on_the_checkpoint_s_place(tiny_checkpoint: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(tiny_checkpoint, tmp_path / "a copy")
    assert of_pairs(tmp_path, tiny_checkpoint) == of_pairs(tmp_path, copied)


def test_fingerprint_changes_with_the_bytes_of_its_own_data_alone(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = suite(tmp_path, tiny_checkpoint)
    before = prints(load_config(file))
    data = tmp_path / "data" / "Pairs" / "test.jsonl"
    data.write_text(data.read_text(encoding="utf-8").replace("red", "reb", 1), encoding="utf-8")
    after = prints(load_config(file))
    assert after["tiny on Pairs"] != before["tiny on Pairs"]
    assert after["tiny on Search"] == before["tiny on Search"]


def test_fingerprint_does_not_depend_on_the_order_of_models_and_tasks(tiny_checkpoint: Path, tmp_path: Path) -> None:
    models = [row("a", tiny_checkpoint), row("b", tiny_checkpoint, "none")]
    before = prints(load_config(suite(tmp_path, tiny_checkpoint, models=models)))
    after = prints(load_config(suite(tmp_path, tiny_checkpoint, "Search", "Pairs", models=models[::-1])))
    assert after == before
    assert len(set(before.values())) == 4


def test_fingerprint_changes_with_the_rules_of_an_own_protocol(tiny_checkpoint: Path, tmp_path: Path) -> None:
    def with_rules(**rules: Any) -> str:
        models = [row("tiny", tiny_checkpoint, "own")]
        return of_pairs(tmp_path, tiny_checkpoint, models=models, protocols={"own": {"base": "e5", **rules}})

    found = [with_rules(), with_rules(text_prefix="q: "), with_rules(normalize="never")]
    assert len(set(found)) == 3
    assert with_rules(types={"Retrieval": {"query_prefix": "x"}}) == found[0]


def test_fingerprint_changes_with_options_and_main_score(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = suite(tmp_path, tiny_checkpoint, "Colours")
    overrides = [(), ("tasks.0.options={n_experiments: 3}",), ("tasks.0.main_score=f1",)]
    assert len({prints(load_config(file, overrides=chosen))["tiny on Colours"] for chosen in overrides}) == 3


def change_json(file: Path, change: Callable[[Any], Any]) -> None:
    file.write_text(json.dumps(change(json.loads(file.read_text(encoding="utf-8")))), encoding="utf-8")


def test_fingerprint_changes_with_the_declared_normalising_where_it_counts(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """Under `none` a Normalize module decides whether vectors are normalised: classification scores move."""
    copied = shutil.copytree(tiny_checkpoint, tmp_path / "raw")
    before = of_pairs(tmp_path, copied, "models.0.protocol=none")
    change_json(copied / "modules.json", lambda modules: modules[:2])
    assert of_pairs(tmp_path, copied, "models.0.protocol=none") != before


def test_fingerprint_changes_with_the_declared_similarity(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Under `none` retrieval ranks by it."""
    copied = shutil.copytree(tiny_checkpoint, tmp_path / "dot")
    before = of_pairs(tmp_path, copied, "models.0.protocol=none")
    change_json(copied / "config_sentence_transformers.json", lambda content: {**content, "similarity_fn_name": "dot"})
    assert of_pairs(tmp_path, copied, "models.0.protocol=none") != before


def test_fingerprint_changes_with_a_module_after_pooling(tiny_checkpoint: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(tiny_checkpoint, tmp_path / "dense")
    backend = "models.0.backend=sentence-transformers"
    before = of_pairs(tmp_path, copied, backend)
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    change_json(copied / "modules.json", lambda modules: [*modules, dense])
    (copied / "3_Dense").mkdir()
    shutil.copy(copied / "config.json", copied / "3_Dense" / "config.json")
    assert of_pairs(tmp_path, copied, backend) != before


# -------------------------------------------------------------------------------------------------------------- limits


def test_limited_run_is_marked_and_exports_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = suite(tmp_path, tiny_checkpoint, limit={"examples": 4, "queries": 2, "documents": 5})
    outcome = start(file)
    assert [record.state for record in outcome.records] == ["done", "done"]
    assert all(record.limit.model_dump() == {"documents": 5, "queries": 2, "examples": 4} for record in outcome.records)
    assert not (outcome.folder / "mteb").exists()
    assert results_frame(outcome.folder)["limited"].all()
    found = {record.task: samples(record, outcome.folder) for record in outcome.records}
    assert len(found["Pairs"]) == 4
    assert found["Search"]["query_id"].tolist() == ["q0", "q1"]


def test_limited_and_whole_run_live_side_by_side(tiny_checkpoint: Path, tmp_path: Path) -> None:
    start(suite(tmp_path, tiny_checkpoint, "Pairs"))
    limited = start(suite(tmp_path, tiny_checkpoint, "Pairs", limit={"examples": 4}))
    whole = start(suite(tmp_path, tiny_checkpoint, "Pairs"))
    assert (limited.n_executed, whole.n_executed) == (1, 0)
    assert whole.records[0].limit is None


# ------------------------------------------------------------------------------------------------- what is left on disk


def test_frame_has_a_row_a_job_split_and_subset(finished: Path) -> None:
    frame = results_frame(finished)
    assert list(frame.columns) == COLUMNS
    assert frame["task"].tolist() == list(TASK_TYPES)
    assert frame["type"].tolist() == list(TASK_TYPES.values())
    assert set(frame["label"]) == {"tiny"}
    assert set(frame["protocol"]) == {"e5"}
    assert set(frame["split"]) == {"test"}
    assert set(frame["subset"]) == {"default"}
    assert not frame["limited"].any()
    assert frame["value"].between(-100, 100).all()
    assert frame["value"].abs().max() > 1


def test_summary_loads_back(finished: Path) -> None:
    summary, frame = pd.read_csv(finished / "summary.csv"), results_frame(finished)
    assert list(summary.columns) == SUMMARY_COLUMNS
    assert summary["task"].tolist() == frame["task"].tolist()
    assert summary["main_score"].tolist() == pytest.approx(frame["value"].tolist())
    markdown = (finished / "summary.md").read_text(encoding="utf-8")
    assert all(name in markdown for name in TASK_TYPES)


def test_run_file_names_every_job_and_where_it_came_from(finished: Path) -> None:
    content = RunStore(finished).read_run()
    assert [(job.task, job.state) for job in content.jobs] == [(name, "done") for name in TASK_TYPES]
    assert content.config["name"] == content.name == "tiny"
    assert content.versions["mteb"]
    assert content.started <= content.ended


def test_record_says_what_reached_the_model(records: dict[str, JobRecord]) -> None:
    sides = records["Search"].audit.sides
    assert sides["query"].prefix == "query: "
    assert sides["passage"].prefix == "passage: "
    assert sides["passage"].examples[0] == f"passage: {sentence(0)}"
    assert sides["passage"].examples[1] == f"passage: {WORDS[1]} {sentence(7)}"
    assert sides["passage"].texts == 12
    assert records["Search"].counts == {"queries without judgements": 1}
    assert records["Colours"].audit.vectors.normalize is False
    assert records["Pairs"].audit.vectors.normalize is True


def test_every_job_is_in_mteb_s_own_layout_too(finished: Path, records: dict[str, JobRecord]) -> None:
    files = list((finished / "mteb" / "results").rglob("*.json"))
    assert {file.stem for file in files} == {*TASK_TYPES, "model_meta"}
    for file in files:
        if file.stem != "model_meta":
            (entry,) = json.loads(file.read_text(encoding="utf-8"))["scores"]["test"]
            assert entry["main_score"] == pytest.approx(records[file.stem].main_score, abs=1e-6)


def test_files_are_those_that_the_record_names(finished: Path, records: dict[str, JobRecord]) -> None:
    import hashlib

    for record in records.values():
        folder = RunStore(finished).job_folder(record.label, record.task, record.fingerprint)
        found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
        assert found.pop("record.json")
        assert found == record.files
        assert "samples.parquet" in found


# --------------------------------------------------------------------------------- scores from what is stored of a job


def test_sts_score_is_that_of_the_samples(finished: Path, records: dict[str, JobRecord]) -> None:
    table = samples(records["Pairs"], finished)
    assert table["gold"].tolist() == [pair["score"] for pair in rows_of("STS")["test"]]
    expected = spearmanr(table["gold"], table["cosine_scores"]).statistic
    assert records["Pairs"].main_score == pytest.approx(expected, abs=1e-6)


def test_classification_score_is_the_mean_accuracy_of_the_samples(
    finished: Path, records: dict[str, JobRecord]
) -> None:
    table = samples(records["Colours"], finished)
    accuracies = [accuracy_score(part["gold"], part["prediction"]) for _, part in table.groupby("experiment")]
    assert len(accuracies) == 10
    assert records["Colours"].main_score == pytest.approx(sum(accuracies) / 10, abs=1e-6)


def test_pair_classification_score_is_the_best_average_precision_of_the_samples(
    finished: Path, records: dict[str, JobRecord]
) -> None:
    table = samples(records["Same"], finished)
    similarities = [name for name in table.columns if name.endswith(("scores", "distances"))]
    found = []
    for name in similarities:
        sign = -1 if "distance" in name or name in {"manhattan_scores", "euclidean_scores"} else 1
        found.append(average_precision_score(table["gold"], sign * table[name]))
    assert len(found) >= 4
    assert records["Same"].main_score == pytest.approx(max(found), abs=1e-6)


def test_retrieval_score_is_the_mean_of_its_queries(finished: Path, records: dict[str, JobRecord]) -> None:
    table = samples(records["Search"], finished)
    assert table["query_id"].tolist() == ["q0", "q1", "q2", "q3"]
    assert records["Search"].metric == "ndcg_at_10"
    assert records["Search"].main_score == pytest.approx(table["ndcg_cut_10"].mean(), abs=1e-5)


def test_retrieval_score_is_that_of_the_stored_run(finished: Path, records: dict[str, JobRecord]) -> None:
    record = records["Search"]
    folder = RunStore(finished).job_folder(record.label, record.task, record.fingerprint)
    table = parquet.read_table(folder / "run.parquet").to_pandas()
    gains = {("q0", "d3"): 2, ("q0", "d5"): 1, ("q1", "d1"): 1, ("q2", "d8"): 1, ("q3", "d11"): 1}
    ideal = {"q0": 2 + 1 / math.log2(3), "q1": 1.0, "q2": 1.0, "q3": 1.0}
    judged = table[table["query_id"].isin(ideal) & (table["rank"] <= 10)]
    found = dict.fromkeys(ideal, 0.0)
    for query, document, rank in zip(judged["query_id"], judged["corpus_id"], judged["rank"], strict=True):
        found[query] += gains.get((query, document), 0) / math.log2(rank + 1)
    expected = sum(found[query] / ideal[query] for query in ideal) / 4
    assert record.main_score == pytest.approx(expected, abs=1e-5)


def test_reranking_score_is_the_mean_of_its_queries(finished: Path, records: dict[str, JobRecord]) -> None:
    table = samples(records["Order"], finished)
    assert records["Order"].metric == "map_at_1000"
    assert records["Order"].main_score == pytest.approx(table["map_cut_1000"].mean(), abs=1e-5)


def test_summarization_score_is_the_mean_correlation_of_its_texts(
    finished: Path, records: dict[str, JobRecord]
) -> None:
    table = samples(records["Digest"], finished)
    assert len(table) == 12
    found = [spearmanr(part["human_scores"], part["cosine_scores"]).statistic for _, part in table.groupby("example")]
    assert records["Digest"].main_score == pytest.approx(sum(found) / 3, abs=1e-6)


def test_bitext_score_is_the_f1_of_the_samples(finished: Path, records: dict[str, JobRecord]) -> None:
    table = samples(records["Translate"], finished)
    assert table["gold"].tolist() == list(range(9))
    expected = f1_score(table["gold"], table["prediction"], average="weighted", zero_division=0)
    assert records["Translate"].main_score == pytest.approx(expected, abs=1e-6)


def test_clustering_score_is_the_mean_of_its_experiments(finished: Path, records: dict[str, JobRecord]) -> None:
    table = samples(records["Groups"], finished)
    assert records["Groups"].main_score == pytest.approx(table["v_measure"].mean(), abs=1e-6)
