"""What arrives: the strings at the tokenizer and the length of the vectors, by task type, side and protocol.

The tables are written by hand from the Protocols section of the design, not taken from evaluation/protocols.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.typed_data import CANDIDATES, DATA, JOINED, ONLY_TEXT, QUERY_TEXTS, RETRIEVAL, TEXTS, task_of

from evaluation import run
from evaluation.adapters.embedding import TaskEmbedder

pytestmark = [pytest.mark.usefixtures("single_thread"), pytest.mark.filterwarnings("ignore")]

PROTOCOLS = ("e5", "mteb", "none")

# Prefix of queries and of documents; of all texts where a task has no sides.
Q, P = "query: ", "passage: "
PREFIXES: dict[str, dict[str, tuple[str, str]]] = {
    "Retrieval": {"e5": (Q, P), "mteb": (Q, P), "none": ("", "")},
    "Reranking": {"e5": (Q, Q), "mteb": (Q, P), "none": ("", "")},
    "InstructionRetrieval": {"e5": (Q, P), "mteb": (Q, P), "none": ("", "")},
    "InstructionReranking": {"e5": (Q, P), "mteb": (Q, P), "none": ("", "")},
    "STS": {"e5": (Q, ""), "mteb": ("", ""), "none": ("", "")},
    "PairClassification": {"e5": (Q, ""), "mteb": ("", ""), "none": ("", "")},
    "BitextMining": {"e5": (Q, ""), "mteb": ("", ""), "none": ("", "")},
    "Classification": {"e5": (Q, ""), "mteb": ("", ""), "none": ("", "")},
    "MultilabelClassification": {"e5": (Q, ""), "mteb": ("", ""), "none": ("", "")},
    "Regression": {"e5": (Q, ""), "mteb": ("", ""), "none": ("", "")},
    "Clustering": {"e5": (Q, ""), "mteb": ("", ""), "none": ("", "")},
    "Clustering, legacy": {"e5": (Q, ""), "mteb": ("", ""), "none": ("", "")},
    "Summarization": {"e5": (Q, ""), "mteb": ("", ""), "none": ("", "")},
}
NEVER_NORMALIZED_BY_E5 = {"Classification", "MultilabelClassification", "Regression"}


@pytest.fixture
def lengths(monkeypatch):
    """Euclidean lengths of all vectors that a job handed to mteb or beir."""
    found: list[float] = []
    original = TaskEmbedder.embed

    def listening(self, texts, side):
        vectors = original(self, texts, side)
        found.extend(np.linalg.norm(vectors, axis=1).tolist())
        return vectors

    monkeypatch.setattr(TaskEmbedder, "embed", listening)
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", DATA)
def test_prefixes_follow_task_type_and_protocol(name, protocol, write_data, run_job, tiny_checkpoint, arrived):
    run_job(task_of(name, write_data("data", DATA[name])), tiny_checkpoint, protocol)
    first, second = PREFIXES[name][protocol]
    texts, documents = TEXTS[name]
    assert sorted(set(arrived)) == sorted({*(first + text for text in texts), *(second + text for text in documents)})


@pytest.mark.parametrize("name", DATA)
def test_e5_normalizes_all_but_classification_whatever_the_checkpoint_declares(
    name, write_data, run_job, tiny_checkpoint, raw_checkpoint, lengths
):
    unit = name not in NEVER_NORMALIZED_BY_E5
    result = run_job(task_of(name, write_data("data", DATA[name])), raw_checkpoint if unit else tiny_checkpoint, "e5")
    is_unit = np.isclose(lengths, 1, atol=1e-4)
    assert is_unit.all() if unit else not is_unit.any()
    assert result.audit.vectors.normalize == unit


@pytest.mark.parametrize("protocol", ["mteb", "none"])
@pytest.mark.parametrize("name", ["Retrieval", "STS", "Classification", "Clustering"])
def test_mteb_and_none_normalize_as_the_checkpoint_declares(
    name, protocol, write_data, run_job, tiny_checkpoint, raw_checkpoint, lengths
):
    task = task_of(name, write_data("data", DATA[name]))
    for checkpoint, declared in ((tiny_checkpoint, True), (raw_checkpoint, False)):
        lengths.clear()
        result = run_job(task, checkpoint, protocol)
        is_unit = np.isclose(lengths, 1, atol=1e-4)
        assert is_unit.all() if declared else not is_unit.any()
        assert result.audit.vectors.normalize == declared


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("e5", [Q + text for text in [*QUERY_TEXTS, *ONLY_TEXT]]),
        ("mteb", [*(Q + text for text in QUERY_TEXTS), *(P + text for text in JOINED)]),
        ("none", [*QUERY_TEXTS, *JOINED]),
    ],
)
@pytest.mark.parametrize(
    "task",
    [
        {"mteb": "QuoraRetrieval"},
        {"mteb": "QuoraRetrievalHardNegatives"},
        {"mteb": "NanoQuoraRetrieval", "splits": ["test"]},
        {"beir": "quora"},
    ],
    ids=lambda task: next(iter(task.values())),
)
def test_quora_has_questions_on_both_sides_and_no_titles(
    task, protocol, expected, write_data, run_job, tiny_checkpoint, arrived
):
    data = write_data("data", RETRIEVAL)
    run_job({**task, "data": data}, tiny_checkpoint, protocol)
    assert sorted(set(arrived)) == sorted(expected)


@pytest.mark.parametrize(("protocol", "query", "passage"), [("e5", Q, P), ("mteb", Q, P), ("none", "", "")])
def test_beir_receives_the_same_texts_as_mteb(
    protocol, query, passage, write_data, run_job, tiny_checkpoint, arrived, lengths
):
    run_job({"beir": "scifact", "data": write_data("data", RETRIEVAL)}, tiny_checkpoint, protocol)
    assert set(arrived) == {*(query + text for text in QUERY_TEXTS), *(passage + text for text in JOINED)}
    assert np.allclose(lengths, 1, atol=1e-4)


def test_own_protocol_changes_prefix_and_title_of_one_type(write_data, run_job, tiny_checkpoint, arrived):
    change = {"query_prefix": "Q> ", "passage_prefix": "", "join_title": False}
    own = {"mine": {"base": "e5", "types": {"Retrieval": change}}}
    run_job({"local": "Own", "type": "Retrieval", "data": write_data("data", RETRIEVAL)}, tiny_checkpoint, "mine", own)
    assert set(arrived) == {"Q> when do the bells ring", "Q>  where to park ", *ONLY_TEXT}
    arrived.clear()
    data = write_data("reranking", RETRIEVAL | CANDIDATES)
    run_job({"local": "Own", "type": "Reranking", "data": data}, tiny_checkpoint, "mine", own)
    assert set(arrived) == {*(Q + text for text in QUERY_TEXTS), *(Q + text for text in JOINED[:2])}


def test_audit_holds_strings_and_counts_of_each_side(write_data, run_job, tiny_checkpoint):
    result = run_job(
        {"local": "Own", "type": "Retrieval", "data": write_data("data", RETRIEVAL)}, tiny_checkpoint, "e5"
    )
    query, passage, vectors = result.audit.sides["query"], result.audit.sides["passage"], result.audit.vectors
    assert query.examples == ("query: when do the bells ring", "query:  where to park ")
    assert passage.examples == (P + JOINED[0], P + JOINED[1])
    assert (query.prefix, query.texts, query.unique_texts) == ("query: ", 2, 2)
    assert (passage.prefix, passage.texts, passage.unique_texts) == ("passage: ", 3, 3)
    assert (vectors.pooling, vectors.max_length, vectors.dtype, query.truncated) == ("mean", 64, "float32", 0)
    # [CLS] query : when do the bells ring [SEP] and [CLS] query : where to park [SEP]
    assert (query.longest, sum(query.token_lengths.counts)) == (9, 2)


# Datasets that were prefixed by mistake


def prefixed_sts(n_prefixed: int, n: int) -> dict[str, list[Any]]:
    rows = [{"sentence1": f"tree {row}", "sentence2": f"wood {row}", "score": float(row % 5)} for row in range(n)]
    for row in rows[:n_prefixed]:
        row["sentence1"] = "query: " + row["sentence1"]
    return {"test.jsonl": rows}


def run_sts(make_config, write_data, model, files, protocol="e5", own=None):
    task = {"local": "Own", "type": "STS", "data": write_data("data", files)}
    (record,) = run(make_config([task], model, protocol, own=own)).records
    return record


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_prefixed_dataset_fails_its_job(protocol, make_config, write_data, tiny_checkpoint):
    record = run_sts(make_config, write_data, tiny_checkpoint, prefixed_sts(60, 60), protocol)
    assert (record.state, record.main_score, record.scores) == ("failed", None, {})
    assert record.error.kind == "AuditError"
    assert "60 of 120 texts" in record.error.message
    assert "allow_prefixed_text" in record.error.message
    assert record.error.traceback is None


def test_single_prefixed_row_of_many_only_warns(make_config, write_data, tiny_checkpoint):
    record = run_sts(make_config, write_data, tiny_checkpoint, prefixed_sts(1, 120))
    assert record.state == "done"
    assert len(record.warnings) == 1
    assert "1 of 240 texts" in record.warnings[0]


def test_own_protocol_may_allow_prefixed_text(make_config, write_data, tiny_checkpoint):
    own = {"accepting": {"base": "e5", "allow_prefixed_text": True}}
    record = run_sts(make_config, write_data, tiny_checkpoint, prefixed_sts(60, 60), "accepting", own)
    assert record.state == "done"
    assert record.audit.sides["text"].examples == ("query: query: tree 0", "query: query: tree 1")
    assert "60 of 120 texts" in record.warnings[0]
