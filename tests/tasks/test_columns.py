"""Columns as lists: the same values as datasets' own, read once, kept through a selection."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset
from sklearn.metrics import f1_score

from evaluation.tasks.columns import ColumnsDataset

ROWS = {"text": ["a", "b", "c", "d"], "label": [1, 0, 1, 2]}


@pytest.fixture
def dataset() -> ColumnsDataset:
    return ColumnsDataset.of(Dataset.from_dict(ROWS))


def test_a_column_is_a_list_that_is_read_once(dataset: ColumnsDataset) -> None:
    assert dataset["label"] == ROWS["label"]
    assert dataset["label"] is dataset["label"]
    assert dataset["label"][:2] == [1, 0]


def test_rows_and_slices_are_as_ever(dataset: ColumnsDataset) -> None:
    assert dataset[1] == {"text": "b", "label": 0}
    assert dataset[1:3] == {"text": ["b", "c"], "label": [0, 1]}
    assert [row["text"] for row in dataset] == ROWS["text"]
    assert len(dataset) == 4


def test_selected_rows_have_list_columns_of_their_own(dataset: ColumnsDataset) -> None:
    assert dataset["label"] == [1, 0, 1, 2]
    chosen = dataset.select([3, 0])
    assert isinstance(chosen, ColumnsDataset)
    assert chosen["label"] == [2, 1]
    assert chosen.select([1])["text"] == ["a"]


def test_a_dataset_with_chosen_rows_keeps_its_choice() -> None:
    shuffled = Dataset.from_dict(ROWS).select([2, 3])
    assert ColumnsDataset.of(shuffled)["text"] == ["c", "d"]


def test_unknown_column_is_an_error_at_once(dataset: ColumnsDataset) -> None:
    with pytest.raises(ValueError, match="'score' doesn't exist"):
        dataset["score"]


def test_metrics_are_those_of_lazy_columns(dataset: ColumnsDataset) -> None:
    lazy = Dataset.from_dict(ROWS)["label"]
    predicted = np.array([1, 1, 1, 2])
    assert f1_score(dataset["label"], predicted, average="macro") == f1_score(lazy, predicted, average="macro")
