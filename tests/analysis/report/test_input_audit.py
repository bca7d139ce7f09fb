"""What the audit shows of what reached the models, and what it calls suspicious."""

from __future__ import annotations

from typing import Any

import pytest
from support.fake_runs import job_record
from support.record_parts import job_audit, vector_rules
from support.record_parts import side_audit as side

from evaluation.analysis.report.input_audit import audit_tasks, length_rows, warnings_by_sentence
from evaluation.models.facts import SERVER_POOLING, UNLIMITED
from evaluation.records.job_audit import SideAudit
from evaluation.records.job_record import JobRecord

SERVED = {"pooling": SERVER_POOLING, "max_length": UNLIMITED, "normalize": True}


def record(
    label: str = "e5",
    *,
    declared: str = "intfloat/e5-base",
    counts: Any = None,
    max_length: int = 512,
    **sides: SideAudit,
) -> JobRecord:
    audit = job_audit(vectors=vector_rules(max_length=max_length), **sides)
    return job_record(label, "Harbours", counts=counts or {}, audit=audit, model={"declared": declared})


def warnings(*records: JobRecord) -> str:
    return "\n".join(warnings_by_sentence(audit_tasks(records)))


def test_prefix_stands_apart_from_the_text() -> None:
    (audit,) = audit_tasks([record(query=side())])
    example = audit.sides[0].examples[0]
    assert (example.prefix, example.text, example.shortened) == ("query: ", "where is the harbour", False)
    assert audit.warnings == ()


def test_long_examples_are_shortened_and_say_so() -> None:
    (audit,) = audit_tasks([record(query=side(examples=["query: " + "x" * 900]))])
    assert audit.sides[0].examples[0].shortened
    assert len(audit.sides[0].examples[0].text) < 900


def test_models_that_received_the_same_stand_together() -> None:
    bare = side(prefix="", examples=["where is the harbour", "who mends bicycles"], longest=38)
    (audit,) = audit_tasks([record("a", query=side()), record("b", query=side(longest=44)), record("c", query=bare)])
    assert [found.labels for found in audit.sides] == [("a", "b"), ("c",)]
    assert audit.sides[0].longest == (40, 44)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"truncated": 100, "truncated_share": 1.0, "longest": 900},
            "Every text of the passage side is longer than 512",
        ),
        ({"truncated": 30, "truncated_share": 0.3, "longest": 900}, "30% of the passage side's texts were cut at 512"),
        ({"longest": 512}, "reach 512 tokens and none was cut"),
        ({"texts": 200}, "50% of the passage side's 200 texts repeat another one"),
    ],
)
def test_smells_are_named(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in warnings(record(passage=side(**changes)))
    assert warnings(record(passage=side())) == ""


def test_few_texts_smell_of_nothing() -> None:
    few = side(texts=10, unique_texts=5, longest=512)
    assert warnings(record(passage=few)) == ""


def test_long_query_and_dropped_rows_are_named() -> None:
    found = warnings(record(query=side(longest=600, truncated=1, truncated_share=0.01), counts={"dropped_qrels": 3}))
    assert "The longest query has 600 tokens, the model reads 512." in found
    assert "Data: dropped qrels: 3." in found


def test_e5_model_without_prefix_is_named_and_another_model_is_not() -> None:
    bare = side(prefix="", examples=["where is the harbour"])
    assert "An E5 model without a prefix" in warnings(record(query=bare))
    assert warnings(record(query=bare, declared="sentence-transformers/all-MiniLM-L6-v2")) == ""


def test_truncation_of_a_served_model_is_the_server_s_affair() -> None:
    served = job_record("far", "Harbours", audit=job_audit(vectors=vector_rules(**SERVED), query=side()))
    (audit,) = audit_tasks([served])
    assert audit.sides[0].settings == ("pooling and truncation are left to the server, L2-normalised",)
    cut = side(texts=40, unique_texts=40, truncated=20, truncated_share=0.5)
    told = warnings(job_record("far", "Harbours", audit=job_audit(vectors=vector_rules(**SERVED), query=cut)))
    assert "50% of the query side's texts were cut before they were sent." in told
    assert "1000000" not in told


def test_different_maximum_lengths_matter_only_where_something_is_cut() -> None:
    long, short = record("long", passage=side()), record("short", max_length=256, passage=side())
    assert warnings(long, short) == ""
    cut = record("short", max_length=256, passage=side(truncated=5, truncated_share=0.05, longest=300))
    assert "Models read different lengths of the passage side" in warnings(long, cut)


def test_different_numbers_of_texts_are_named() -> None:
    assert "not the same data" in warnings(
        record("a", query=side()), record("b", query=side(texts=99, unique_texts=99))
    )


def test_warnings_name_the_models_they_are_true_of() -> None:
    cut = side(truncated=30, truncated_share=0.3, longest=900)
    assert warnings(record("a", query=side()), record("b", passage=cut)).startswith("b: 30%")


def test_length_rows_keep_the_histogram() -> None:
    (row,) = length_rows([record(query=side(truncated_share=0.25))])
    assert (row.label, row.task, row.side, row.truncated) == ("e5", "Harbours", "query", 0.25)
    assert sum(row.counts) == 100
    assert row.edges[2] == 16
