"""Loaded rows: what their hash depends on, and the refusal of other rows under one revision."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, concatenate_datasets

from evaluation.config.limit import Limit
from evaluation.errors import DataError
from evaluation.tasks.loaded_rows import check_rows, hash_rows
from evaluation.tasks.selection import TaskChoice

ROWS = [{"id": f"d{row}", "text": f"text {row}", "labels": [row, row + 1]} for row in range(25)]


def table(rows: list[dict[str, Any]]) -> Dataset:
    return Dataset.from_list(rows)


def retrieval(corpus: Dataset, grade: int = 1) -> dict[str, Any]:
    return {"default": {"test": {"corpus": corpus, "relevant_docs": {"q": {"d1": grade}}, "top_ranked": None}}}


def test_the_hash_does_not_depend_on_how_rows_are_stored() -> None:
    """Several files, a selection of a larger table and another order of columns are the same rows."""
    whole = hash_rows(retrieval(table(ROWS)))
    parts = concatenate_datasets([table(ROWS[:7]), table(ROWS[7:])])
    chosen = table([*ROWS[::-1], *ROWS]).select(range(25, 50))
    turned = table([dict(reversed(row.items())) for row in ROWS])
    assert [hash_rows(retrieval(rows)) for rows in (parts, chosen, turned)] == [whole] * 3


@pytest.mark.parametrize(
    "changed",
    [
        retrieval(table(ROWS[:12])),
        retrieval(table([ROWS[1], ROWS[0], *ROWS[2:]])),
        retrieval(table([{**ROWS[0], "text": "text 0 "}, *ROWS[1:]])),
        retrieval(table([{**ROWS[0], "labels": [1, 0]}, *ROWS[1:]])),
        retrieval(table(ROWS), grade=2),
        {"other": retrieval(table(ROWS))["default"]},
    ],
    ids=["cut in half", "order", "a blank", "a list", "a judgement", "a subset"],
)
def test_any_other_row_is_another_hash(changed: Any) -> None:
    assert hash_rows(changed) != hash_rows(retrieval(table(ROWS)))


@pytest.fixture
def choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskChoice:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))
    return TaskChoice("T", "STS", "mteb", "T", None, "some/data", "a" * 40, ("test",), ("default",), "main")


def test_other_rows_under_one_revision_are_refused_until_the_note_is_deleted(choice: TaskChoice) -> None:
    first = check_rows(table(ROWS), choice, None, 42)
    assert check_rows(table(ROWS), choice, None, 42) == first
    with pytest.raises(DataError, match=r"T: the rows of some/data \(revision a+\) are not those .* before") as refused:
        check_rows(table(ROWS[:12]), choice, None, 42)
    assert check_rows(table(ROWS), choice, None, 42) == first, "a refusal is no new truth"
    Path(str(refused.value).partition("delete ")[2].split(" as well")[0]).unlink()
    assert check_rows(table(ROWS[:12]), choice, None, 42) != first


def test_a_limited_run_and_another_seed_are_apart(choice: TaskChoice) -> None:
    check_rows(table(ROWS), choice, None, 42)
    check_rows(table(ROWS[:5]), choice, Limit(examples=5), 42)
    check_rows(table(ROWS[::-1]), choice, None, 43)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_stops_nothing(choice: TaskChoice, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    assert check_rows(table(ROWS), choice, None, 42)


def test_a_damaged_note_is_made_again(choice: TaskChoice, tmp_path: Path) -> None:
    first = check_rows(table(ROWS), choice, None, 42)
    (note,) = (tmp_path / "cache" / "loaded-rows").iterdir()
    note.write_text("{", encoding="utf-8")
    assert check_rows(table(ROWS), choice, None, 42) == first
    with pytest.raises(DataError):
        check_rows(table(ROWS[:12]), choice, None, 42)
