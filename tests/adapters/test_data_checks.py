"""What can't be scored is refused, and what mteb leaves out or repeats is counted: numbers by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from datasets import Dataset

from evaluation.adapters.data_checks import check_judgements
from evaluation.errors import DataError
from evaluation.tasks.loading import retrieval_counts

pytestmark = [pytest.mark.usefixtures("single_thread"), pytest.mark.filterwarnings("ignore")]


def texts(n: int, *, start: int = 0) -> list[str]:
    return [f"river {at} stone {at * 7 % 5}" for at in range(start, start + n)]


# ------------------------------------------------------------------------------------------------------------ retrieval


def test_judged_queries_without_a_relevant_document_are_counted() -> None:
    qrels = {"a": {"d": 0}, "b": {"d": 2, "e": 0}, "c": {}}
    assert +check_judgements(["a", "b", "c"], qrels, 2, "x") == Counter(
        {"judged queries without a relevant document": 1}
    )


def test_corpus_of_one_document_is_counted() -> None:
    found = +check_judgements(["a"], {"a": {"d": 1}}, 1, "x")
    assert found == {"corpora of a single document, which every model finds": 1}


@pytest.mark.parametrize(
    ("qrels", "n_documents", "says"),
    [
        ({"a": {"d": 1}}, 0, "the corpus is empty"),
        ({}, 3, "no judged query"),
        ({"unknown": {"d": 1}}, 3, "no judged query"),
        ({"a": {"d": 0}}, 3, "no judged query has a relevant document"),
        ({"a": {"d": 0}, "unknown": {"d": 1}}, 3, "no judged query has a relevant document"),
    ],
)
def test_judgements_that_score_every_model_alike_are_refused(
    qrels: dict[str, dict[str, int]], n_documents: int, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        check_judgements(["a", "b"], qrels, n_documents, "x")


def test_hub_data_with_repeated_and_unknown_ids_is_counted() -> None:
    corpus = Dataset.from_dict({"id": ["d1", "d2", "d2", "D1"], "title": [""] * 4, "text": list("abcd")})
    queries = Dataset.from_dict({"id": ["q1", "q2", "q2", "q3"], "text": list("wxyz")})
    qrels = {"q1": {"d1": 1, "d9": 1, "d8": 0}, "q2": {"d2": 1}, "q9": {"d1": 1, "d2": 1}}
    data: Any = {"corpus": corpus, "queries": queries, "relevant_docs": qrels, "top_ranked": None}
    assert retrieval_counts(data) == {
        "queries without judgements": 1,
        "judgements of unknown queries": 2,
        "judgements of unknown documents": 2,
        "queries with a repeated id": 1,
        "documents with a repeated id": 1,
    }
    data |= {"corpus": corpus.select([0, 1]), "queries": queries.select([0, 1])}
    data["relevant_docs"] = {"q1": {"d1": 1}, "q2": {"d2": 1}}
    assert retrieval_counts(data) == {}


@pytest.mark.parametrize("kind", [{"local": "Search", "type": "Retrieval"}, {"beir": "Search"}], ids=["mteb", "beir"])
def test_both_adapters_count_and_refuse_barren_judgements(
    kind: dict[str, str], write_data: Callable[..., Any], run_job: Callable[..., Any], tiny_checkpoint: Any
) -> None:
    corpus = [{"_id": f"d{at}", "text": text} for at, text in enumerate(texts(5))]
    queries = [{"_id": f"q{at}", "text": text} for at, text in enumerate(texts(3))]
    files = {"corpus.jsonl": corpus, "queries.jsonl": queries}
    some = write_data("some", {**files, "qrels/test.tsv": [("q0", "d0", 1), ("q1", "d1", 0)]})
    found = run_job({**kind, "data": some}, tiny_checkpoint, "e5")
    assert found.counts == {"queries without judgements": 1, "judged queries without a relevant document": 1}
    none = write_data("none", {**files, "qrels/test.tsv": [("q0", "d0", 0), ("q1", "d1", 0)]})
    with pytest.raises(DataError, match="no judged query has a relevant document"):
        run_job({**kind, "data": none}, tiny_checkpoint, "e5")


# ----------------------------------------------------------------------------------------------- what mteb leaves out


def test_summaries_that_mteb_leaves_out_are_counted(
    write_data: Callable[..., Any], run_job: Callable[..., Any], tiny_checkpoint: Any
) -> None:
    """Constant human scores, and machine summaries that no model can tell apart."""
    human = texts(2, start=50)

    def row(machine: list[str], relevance: list[float]) -> dict[str, Any]:
        return {"text": "x", "human_summaries": human, "machine_summaries": machine, "relevance": relevance}

    rows = [row(texts(3), [1, 2, 3]), row(texts(3, start=9), [2, 2, 2]), row(["same"] * 3, [1, 2, 3])]
    folder = write_data("sums", {"test.jsonl": rows})
    found = run_job({"local": "Sums", "type": "Summarization", "data": folder}, tiny_checkpoint, "e5")
    assert found.counts == {"texts whose summaries are all alike, which mteb leaves out": 2}
    assert len(found.tables["samples"]) == 3


@pytest.mark.parametrize("kind", ["Classification", "MultilabelClassification"])
def test_labels_that_no_training_row_has_are_counted(
    kind: str, write_data: Callable[..., Any], run_job: Callable[..., Any], tiny_checkpoint: Any
) -> None:
    """Three of the twelve scored rows have the label 2, which is not among the training labels 0 and 1."""

    def rows(labels: list[int], start: int) -> list[dict[str, Any]]:
        several = kind == "MultilabelClassification"
        found = zip(texts(len(labels), start=start), labels, strict=True)
        return [{"text": text, "label": [label, 0] if several else label} for text, label in found]

    files = {"train.jsonl": rows([0, 1] * 10, 0), "test.jsonl": rows([0, 1, 2, 0] * 3, 30)}
    task = {"local": "Unseen", "type": kind, "data": write_data("unseen", files), "options": {"n_experiments": 1}}
    assert run_job(task, tiny_checkpoint, "e5").counts == {"rows with a label that no training row has": 3}


def test_levels_of_a_single_label_are_counted(
    write_data: Callable[..., Any], run_job: Callable[..., Any], tiny_checkpoint: Any
) -> None:
    rows = [{"text": text, "label": ["top", "ab"[at % 2]]} for at, text in enumerate(texts(20))]
    folder = write_data("levels", {"test.jsonl": rows})
    found = run_job({"local": "Levels", "type": "Clustering", "data": folder}, tiny_checkpoint, "e5")
    assert found.counts == {"clustering levels with a single label": 1}
    assert found.scores["test"][0].details["v_measures"]["Level 0"] == [1.0] * 10


def test_levels_where_every_label_is_its_own_are_counted(
    write_data: Callable[..., Any], run_job: Callable[..., Any], tiny_checkpoint: Any
) -> None:
    rows = [{"text": text, "label": ["ab"[at % 2], f"own {at}"]} for at, text in enumerate(texts(20))]
    folder = write_data("levels", {"test.jsonl": rows})
    found = run_job({"local": "Levels", "type": "Clustering", "data": folder}, tiny_checkpoint, "e5")
    assert found.counts == {"clustering levels where no two texts share a label": 1}


def test_bitext_of_one_pair_is_counted(
    write_data: Callable[..., Any], run_job: Callable[..., Any], tiny_checkpoint: Any
) -> None:
    folder = write_data("pair", {"test.jsonl": [{"sentence1": "river stone", "sentence2": "stone river"}]})
    found = run_job({"local": "Pair", "type": "BitextMining", "data": folder}, tiny_checkpoint, "e5")
    assert found.counts == {"splits of a single sentence pair, which every model finds": 1}


def test_sets_of_a_single_label_are_counted_in_the_older_kind_of_clustering(
    write_data: Callable[..., Any], run_job: Callable[..., Any], tiny_checkpoint: Any
) -> None:
    sets = [
        {"sentences": texts(8, start=at * 8), "labels": list("aaaaaaaa" if at == 1 else "abababab")} for at in range(3)
    ]
    folder = write_data("sets", {"test.jsonl": sets})
    found = run_job({"mteb": "TwentyNewsgroupsClustering", "data": folder}, tiny_checkpoint, "e5")
    assert found.counts == {"clustering sets with a single label": 1}
    alike = write_data("alike", {"test.jsonl": [{**row, "labels": ["a"] * 8} for row in sets]})
    with pytest.raises(DataError, match="same label"):
        run_job({"mteb": "TwentyNewsgroupsClustering", "data": alike}, tiny_checkpoint, "e5")


def test_a_secondary_metric_that_is_undefined_is_null_and_the_score_stays(
    write_data: Callable[..., Any], make_config: Callable[..., Any], tiny_checkpoint: Any
) -> None:
    """With one query, mteb's nAUC divides zero by zero; nDCG is defined."""
    from evaluation import run
    from evaluation.records.store import RunStore

    corpus = [{"_id": f"d{at}", "text": text} for at, text in enumerate(texts(12))]
    files = {
        "corpus.jsonl": corpus,
        "queries.jsonl": [{"_id": "q", "text": "river 3"}],
        "qrels/test.tsv": [("q", "d3", 1)],
    }
    task = {"local": "One", "type": "Retrieval", "data": write_data("one", files)}
    outcome = run(make_config([task], tiny_checkpoint, "e5"))
    (record,) = RunStore(outcome.folder).current_records()
    assert record.state == "done"
    assert record.main_score is not None
    undefined = [name for name, value in record.scores["test"][0].metrics.items() if value is None]
    assert undefined
    assert all(name.startswith("nauc") for name in undefined)
