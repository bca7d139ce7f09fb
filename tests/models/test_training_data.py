"""What models were trained on, against mteb's registry."""

from __future__ import annotations

import pytest

from evaluation.models.names import original_name
from evaluation.models.training_data import trained_on
from evaluation.tasks.index import load_index

KNOWN = [
    *(f"intfloat/e5-{size}{version}" for size in ("small", "base", "large") for version in ("", "-v2")),
    *(f"intfloat/multilingual-e5-{size}" for size in ("small", "base", "large", "large-instruct")),
    "intfloat/e5-mistral-7b-instruct",
    "BAAI/bge-large-en-v1.5",
    "sentence-transformers/all-MiniLM-L6-v2",
    "sentence-transformers/all-mpnet-base-v2",
]
REPORT_OF_MULTILINGUAL_E5 = {"QuoraRetrieval", "DuRetrieval"}


@pytest.mark.parametrize("name", KNOWN)
def test_tasks_are_those_of_mteb_and_of_the_models_reports(name: str) -> None:
    import mteb

    theirs = mteb.get_model_meta(name, fetch_from_hf=False).get_training_datasets()
    assert theirs is not None
    extra = REPORT_OF_MULTILINGUAL_E5 if "multilingual-e5" in name else set()
    assert trained_on(name) == theirs | extra


def test_supervised_e5_saw_msmarco_and_nq_and_unsupervised_e5_saw_no_task() -> None:
    assert {"MSMARCO", "NQ"} <= (trained_on("intfloat/e5-large-v2") or set())
    assert trained_on("intfloat/e5-large-unsupervised") == frozenset()


def test_unknown_models_are_not_said_to_be_untrained() -> None:
    assert trained_on("someone/model") is None
    assert trained_on("intfloat/e5-large-v2-finetuned") is None


def test_builtin_models_are_those_they_are_made_of() -> None:
    assert original_name("builtin/multilingual-e5-small-q4") == "intfloat/multilingual-e5-small"
    assert trained_on("builtin/all-MiniLM-L6-v2") == trained_on("sentence-transformers/all-MiniLM-L6-v2")


def test_all_names_are_tasks_of_the_index() -> None:
    named = {task for name in KNOWN for task in trained_on(name) or ()}
    assert {task for task in named if task not in load_index()} <= {"FEVER-PL"}  # gone from mteb 2.26
