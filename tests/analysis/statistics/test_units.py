"""Units of real jobs give back the recorded score; what can't be recomputed is said so; files of units."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet
from scipy.stats import spearmanr

from evaluation import load_config, run
from evaluation.analysis.statistics.units import (
    Units,
    aggregate_units,
    load_units,
    score,
    units_from_bytes,
    units_to_bytes,
)
from evaluation.errors import ComparisonError, StoreError
from evaluation.records.job_record import JobRecord
from evaluation.records.store import RunStore

WORDS = ["ash", "birch", "cedar", "dogwood", "elder", "fir", "ginkgo", "hazel", "ivy", "juniper", "larch", "maple"]
NAMES = [f"{word} {other}" for word in WORDS for other in WORDS[:3]]  # 36
CORPUS = {
    "corpus.jsonl": [{"_id": f"d{at}", "title": "", "text": name} for at, name in enumerate(NAMES)],
    "queries.jsonl": [{"_id": f"q{at}", "text": word} for at, word in enumerate(WORDS)],
    "qrels/test.tsv": [(f"q{at}", f"d{at * 3 + n}", 2 - n) for at in range(10) for n in range(3)],
}
CANDIDATES = {
    "top_ranked/test.jsonl": [
        {"query-id": f"q{at}", "corpus-ids": [f"d{(at * 3 + n) % 36}" for n in range(7)]} for at in range(12)
    ]
}
INSTRUCTIONS = {"instructions.jsonl": [{"query-id": f"q{at}", "instruction": "Trees only."} for at in range(12)]}
PAIRS = [{"sentence1": name, "sentence2": f"{NAMES[(at * 7) % 36]} wood"} for at, name in enumerate(NAMES)]


def labelled(name: str, values: list[Any]) -> dict[str, list[Any]]:
    return {
        f"{split}.jsonl": [{"text": f"{word}{end}", name: value} for word, value in zip(NAMES, values, strict=True)]
        for split, end in (("train", " leaf"), ("test", ""))
    }


LABELS = [at * 5 % 7 % 3 for at in range(36)]
GRADED = {"test.jsonl": [{**pair, "score": at % 5} for at, pair in enumerate(PAIRS)]}
MATCHED = {"test.jsonl": [{**pair, "label": at % 3 // 2} for at, pair in enumerate(PAIRS)]}
GROUPED = {"test.jsonl": [{"text": name, "label": label} for name, label in zip(NAMES, LABELS, strict=True)]}
DATA: dict[str, tuple[str, str | None, str, dict[str, list[Any]]]] = {  # type, main score, statistic, files
    "Search": ("Retrieval", None, "rounded mean", CORPUS),
    "Found": ("Retrieval", "hit_rate_at_1", "rounded mean", CORPUS),
    "Order": ("Reranking", None, "rounded mean", CORPUS | CANDIDATES),
    "First": ("Reranking", "accuracy", "rounded mean", CORPUS | CANDIDATES),
    "Told": ("InstructionRetrieval", None, "rounded mean", CORPUS | INSTRUCTIONS),
    "ToldOrder": ("InstructionReranking", None, "rounded mean", CORPUS | CANDIDATES | INSTRUCTIONS),
    "Grades": ("STS", None, "spearman", GRADED),
    "Far": ("STS", "manhattan_spearman", "spearman", GRADED),
    "Same": ("PairClassification", None, "ap", MATCHED),
    "SameOrNot": (
        "PairClassification",
        "max_accuracy",
        "pair accuracy",
        MATCHED,
    ),
    "SameF1": (
        "PairClassification",
        "max_f1",
        "pair f1",
        MATCHED,
    ),
    "Digest": (
        "Summarization",
        None,
        "mean",
        {
            "test.jsonl": [
                {
                    "text": word,
                    "human_summaries": [word, f"the {word}"],
                    "machine_summaries": NAMES[at : at + 5],
                    "relevance": [1.0, 4.0, 2.5, 3.0, float(at % 6)] if at else [1.0] * 5,
                }
                for at, word in enumerate(WORDS)
            ]
        },
    ),
    "Translate": ("BitextMining", None, "bitext f1", {"test.jsonl": PAIRS}),
    "Labels": ("Classification", None, "mean", labelled("label", LABELS)),
    "LabelsF1": ("Classification", "f1", "macro f1", labelled("label", ["abc"[label] for label in LABELS])),
    "Sets": ("MultilabelClassification", None, "mean", labelled("label", [[label, 3] for label in LABELS])),
    "SetsF1": ("MultilabelClassification", "f1", "multilabel f1", labelled("label", [[label, 3] for label in LABELS])),
    "Amounts": ("Regression", None, "kendalltau", labelled("value", [float(at * 11 % 17) for at in range(36)])),
    "Groups": ("Clustering", None, "mean", GROUPED),
}


def write(folder: Path, files: Mapping[str, list[Any]]) -> None:
    for name, rows in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".tsv"):
            lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in rows)]
        else:
            lines = [json.dumps(row) for row in rows]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def jobs(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, JobRecord]]:
    """Task -> folder and record of a job of each type, some under another metric than their type's."""
    folder = tmp_path_factory.mktemp("units")
    tasks = []
    for name, (type_, metric, _, files) in DATA.items():
        write(folder / name, files)
        tasks.append({"local": name, "type": type_, "data": name} | ({"main_score": metric} if metric else {}))
    model = {"label": "tiny", "model": str(tiny_checkpoint), "protocol": "e5", "dtype": "float32"}
    runtime = {"device": "cpu", "cache": False}
    config = {"name": "u", "models": [model], "tasks": tasks, "runtime": runtime, "output": str(folder / "results")}
    (folder / "c.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    outcome = run(load_config(folder / "c.yaml"))
    store = RunStore(outcome.folder)
    return {r.task: (store.job_folder(r.label, r.task, r.fingerprint), r) for r in outcome.records}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("task", DATA)
def test_units_of_a_job_give_its_recorded_score(jobs: dict[str, tuple[Path, JobRecord]], task: str) -> None:
    folder, record = jobs[task]
    assert record.state == "done", record.error
    units = load_units(folder, record)
    assert units is not None
    assert units.statistic == DATA[task][2]
    of_queries = record.type.endswith(("Retrieval", "Reranking"))
    assert units.kind == ("query" if of_queries else "algorithm" if record.type == "Clustering" else "example")
    assert 0 < abs(score(units)) < 1
    assert score(units) == pytest.approx(record.main_score, abs=1e-9)
    again = units_from_bytes(units_to_bytes(units))
    assert score(again) == score(units)
    assert [part.ids for part in again.parts] == [part.ids for part in units.parts]
    assert units_to_bytes(again) == units_to_bytes(units)


def test_units_are_what_was_scored(jobs: dict[str, tuple[Path, JobRecord]]) -> None:
    """Judged queries, examples, and texts without those that mteb leaves out: the first has equal human scores."""
    sizes = {task: load_units(*jobs[task]).n_units for task in ("Search", "Grades", "Digest", "Labels", "Groups")}  # type: ignore[union-attr]
    assert sizes == {"Search": 10, "Grades": 36, "Digest": 11, "Labels": 36, "Groups": 10}


def test_experiments_lie_side_by_side(jobs: dict[str, tuple[Path, JobRecord]]) -> None:
    units = load_units(*jobs["Labels"])
    assert units is not None
    assert units.parts[0].arrays["value"].shape == (10, 36)
    assert units.parts[0].arrays["gold"].shape == (36,), "for what a constant answer scores"


# ------------------------------------------------------------------------------------------------- samples by hand


def stored(tmp_path: Path, columns: dict[str, list[Any]], **changes: Any) -> tuple[Path, JobRecord]:
    """A job's folder and record; a row's split is test, its subset default, unless `columns` say otherwise."""
    n = len(next(iter(columns.values())))
    parquet.write_table(
        pa.table({"split": ["test"] * n, "subset": ["default"] * n, **columns}), tmp_path / "samples.parquet"
    )
    subsets = list(dict.fromkeys(columns.get("subset", ["default"])))
    fields = {
        "state": "done",
        "fingerprint": "0" * 12,
        "label": "m",
        "protocol": "none",
        "task": "T",
        "type": "Retrieval",
        "via": "mteb",
        "splits": ("test",),
        "subsets": tuple(subsets),
        "metric": "ndcg_at_10",
        "main_score": 0.0,
        "scores": {"test": [{"subset": subset, "main_score": 0.0, "metrics": {}} for subset in subsets]},
        "files": {"samples.parquet": hashlib.sha256((tmp_path / "samples.parquet").read_bytes()).hexdigest()},
        **changes,
    }
    return tmp_path, JobRecord.model_validate(fields)


def test_score_is_the_mean_over_subsets_however_large(tmp_path: Path) -> None:
    columns = {"subset": ["a", "b", "b", "b"], "query_id": ["1", "1", "2", "3"], "ndcg_cut_10": [1.0, 0.0, 0.0, 0.3]}
    units = load_units(*stored(tmp_path, columns, main_score=0.55))
    assert units is not None
    assert [(part.subset, part.ids) for part in units.parts] == [("a", ("1",)), ("b", ("1", "2", "3"))]


def test_units_that_do_not_give_the_recorded_score_are_not_believed(tmp_path: Path) -> None:
    columns = {"query_id": ["1", "2"], "ndcg_cut_10": [1.0, 0.5]}
    assert load_units(*stored(tmp_path, columns, main_score=0.75)) is not None
    assert load_units(*stored(tmp_path, columns, main_score=0.75001)) is None
    assert (
        load_units(*stored(tmp_path, columns, state="failed", main_score=None, error={"kind": "E", "message": "m"}))
        is None
    )


@pytest.mark.parametrize(
    ("type_", "metric"),
    [
        ("Retrieval", "mrr_at_10"),
        ("Reranking", "max_over_subqueries_map_at_1000"),
        ("InstructionReranking", "p-MRR"),
        ("STS", "alpha_auc"),
        ("STS", "cosine_pearson"),
        ("Clustering", "ami"),
        ("Regression", "rmse"),
    ],
)
def test_metric_that_samples_do_not_hold_has_no_units(tmp_path: Path, type_: str, metric: str) -> None:
    columns = {"query_id": ["1"], "example": [0], "experiment": [0], "gold": [1.0], "prediction": [1.0]}
    assert load_units(*stored(tmp_path, columns, type=type_, metric=metric, main_score=1.0)) is None


def test_job_without_samples_has_no_units(tmp_path: Path) -> None:
    folder, record = stored(tmp_path, {"query_id": ["1"], "ndcg_cut_10": [1.0]}, main_score=1.0)
    assert load_units(folder, record.model_copy(update={"files": {}})) is None


def test_damaged_samples_are_named(tmp_path: Path) -> None:
    folder, record = stored(tmp_path, {"query_id": ["1"], "ndcg_cut_10": [1.0]}, main_score=1.0)
    broken = b"PAR1 and then nothing"
    (folder / "samples.parquet").write_bytes(broken)
    with pytest.raises(StoreError, match=r"samples\.parquet is damaged: its checksum"):
        load_units(folder, record)
    seen = record.model_copy(update={"files": {"samples.parquet": hashlib.sha256(broken).hexdigest()}})
    with pytest.raises(StoreError, match=r"samples\.parquet can't be read"):
        load_units(folder, seen)


def test_metric_stored_under_its_own_name_is_read(tmp_path: Path) -> None:
    """A query without a value of it (p-MRR has one a pair of queries) is no unit."""
    columns = {"query_id": ["1-og", "1-changed", "2-changed"], "p-MRR": [None, -0.5, 0.25]}
    units = load_units(*stored(tmp_path, columns, type="InstructionReranking", metric="p-MRR", main_score=-0.125))
    assert units is not None
    assert units.parts[0].ids == ("1-changed", "2-changed")


@pytest.mark.parametrize(
    ("metric", "column", "values", "expected"),
    [
        ("paired_accuracy", "recall_1", [1.0, 1.0, 1.0, 0.0], 0.5),
        ("robustness_at_10", "ndcg_cut_10", [0.9, 0.4, 0.3, 0.6], 0.35),
    ],
)
def test_queries_of_a_group_are_one_unit(
    tmp_path: Path, metric: str, column: str, values: list[float], expected: float
) -> None:
    columns = {"query_id": ["7_q1", "7_q2", "8_q1", "8_q2"], column: values}
    units = load_units(*stored(tmp_path, columns, metric=metric, main_score=expected))
    assert units is not None
    assert units.parts[0].ids == ("7", "8")


def test_folds_with_examples_of_their_own_are_parts(tmp_path: Path) -> None:
    """Mean of 1/2 and 1/1: each fold counts the same."""
    columns = {
        "experiment": [0, 0, 1],
        "example": [0, 2, 1],
        "gold": ["x", "y", "x"],
        "prediction": ["x", "x", "x"],
    }
    units = load_units(*stored(tmp_path, columns, type="Classification", metric="accuracy", main_score=0.75))
    assert units is not None
    assert [part.ids for part in units.parts] == [("0", "2"), ("1",)]


def test_summeval_v1_averages_correlations_and_p_values(tmp_path: Path) -> None:
    """mteb's DeprecatedSummarizationEvaluator takes the mean over all that spearmanr returns."""
    human, similar = [1.0, 2.0, 3.0, 4.0, 5.0], [0.1, 0.3, 0.2, 0.5, 0.4]
    expected = float(np.mean([spearmanr(human, similar)]))
    columns = {"example": [0] * 5, "human_scores": human, "cosine_scores": similar}
    changes = {"type": "Summarization", "metric": "cosine_spearman", "main_score": expected}
    assert load_units(*stored(tmp_path, columns, task="SummEval", **changes)) is not None
    assert load_units(*stored(tmp_path, columns, task="SummEvalSummarization.v2", **changes)) is None


# -------------------------------------------------------------------------------------------------- files of units


def queries(task: str = "T", n: int = 3, parts: int = 1) -> Units:
    from support.populations import units

    values = [{"value": np.linspace(0.1, 0.9, n) ** (part + 1)} for part in range(parts)]
    return units("mean", "query", *values, task=task)


@pytest.mark.parametrize("data", [b"", b"nothing", units_to_bytes(queries())[:-9]])
def test_damaged_bytes_are_an_error_in_words(data: bytes) -> None:
    with pytest.raises(StoreError, match="stored units are damaged"):
        units_from_bytes(data)


def test_bytes_of_another_format_are_refused() -> None:
    import zlib

    with pytest.raises(StoreError, match="have a format that this version cannot read"):
        units_from_bytes(zlib.compress(b'{"format": "e5-evaluation units 99"}\n'))


def test_bytes_are_compact() -> None:
    """A thousand examples under ten experiments, right or wrong: little more than a bit each."""
    from support.populations import units

    right = (np.random.default_rng(0).random((10, 1000)) < 0.8).astype(np.int64)
    assert len(units_to_bytes(units("mean", "example", {"value": right}))) < 2000


def test_aggregate_is_the_mean_of_its_tasks() -> None:
    members = [queries("B"), queries("A", 5)]
    whole = aggregate_units("Both", members)
    assert score(whole) == pytest.approx(np.mean([score(member) for member in members]))
    assert [part.subset for part in whole.parts] == ["A/s0", "B/s0"]


def test_aggregate_of_unequal_numbers_of_subsets_is_refused() -> None:
    with pytest.raises(ComparisonError, match="Both: its parts cannot be taken as one task"):
        aggregate_units("Both", [queries("A"), queries("B", parts=2)])


@pytest.mark.parametrize("other", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [1, 0, 2, 5, 4, 3]])
def test_mean_of_a_correlation_and_its_p_value_is_scipys(other: list[int]) -> None:
    from scipy.stats import spearmanr

    from evaluation.analysis.statistics.sample_columns import _with_p_values

    found = spearmanr(range(6), other)
    (value,) = _with_p_values(np.array([found.statistic]), np.array([6]))
    assert value == pytest.approx((found.statistic + found.pvalue) / 2)
