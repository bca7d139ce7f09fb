"""Batches and unique texts: numbers by hand, then the promises for any input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evaluation.encoding.batching import SHARD_CHARACTERS, SHARD_TEXTS, plan_batches, shard_bounds, unique_texts

LENGTHS = st.lists(st.integers(0, 600), max_size=200).map(lambda values: np.array(values, np.int64))
BUDGETS = st.integers(1, 5_000)


def batches_of(lengths: list[int], max_tokens: int) -> list[list[int]]:
    return [batch.tolist() for batch in plan_batches(np.array(lengths, np.int64), max_tokens)]


# -------------------------------------------------------------------------------------------------------- unique texts


def test_unique_texts_keep_their_first_appearance() -> None:
    texts, inverse = unique_texts(["b", "a", "b", "", "a"])
    assert texts == ["b", "a", ""]
    assert inverse.tolist() == [0, 1, 0, 2, 1]
    assert inverse.dtype == np.int64


def test_no_texts_have_no_unique_texts() -> None:
    texts, inverse = unique_texts([])
    assert texts == []
    assert inverse.shape == (0,)


def test_texts_that_differ_in_space_or_case_are_different() -> None:
    assert unique_texts(["a", "a ", "A", "a"]).texts == ["a", "a ", "A"]


@given(st.lists(st.sampled_from(["", " ", "a", "b", "ab", "é", "e\u0301"]) | st.text(max_size=3), max_size=60))
def test_unique_texts_and_inverse_give_the_input_back(texts: list[str]) -> None:
    before = list(texts)
    unique, inverse = unique_texts(texts)
    assert [unique[place] for place in inverse] == texts == before
    assert unique == list(dict.fromkeys(texts))


# -------------------------------------------------------------------------------------------------------------- shards


def test_shards_cover_all_texts_in_order() -> None:
    texts = ["a", "b", "c", "d", "e"]
    assert shard_bounds(texts, shard_texts=2) == [(0, 2), (2, 4), (4, 5)]
    assert shard_bounds(texts[:4], shard_texts=2) == [(0, 2), (2, 4)]
    assert shard_bounds([]) == []
    assert shard_bounds(["a"] * (SHARD_TEXTS + 1)) == [(0, SHARD_TEXTS), (SHARD_TEXTS, SHARD_TEXTS + 1)]


def test_shards_of_long_texts_hold_fewer() -> None:
    """Characters beyond what a model reads don't count: each of the last texts counts 4,096."""
    assert shard_bounds(["aaa", "b", "cc", "dddddd", "e"], shard_characters=4) == [(0, 2), (2, 3), (3, 4), (4, 5)]
    longest = ["x" * 1_000_000] * 500
    assert shard_bounds(longest) == [(0, SHARD_CHARACTERS // 4_096), (SHARD_CHARACTERS // 4_096, 500)]


# ------------------------------------------------------------------------------------------------------------- batches


def test_batches_hold_similar_lengths_longest_first() -> None:
    assert batches_of([3, 1, 4, 1, 5], max_tokens=8) == [[4], [2, 0], [1, 3]]


def test_batch_is_full_when_rows_times_longest_reach_the_budget() -> None:
    assert batches_of([4, 4, 4], max_tokens=8) == [[0, 1], [2]]
    assert batches_of([4, 4, 4], max_tokens=11) == [[0, 1], [2]]
    assert batches_of([4, 4, 4], max_tokens=12) == [[0, 1, 2]]


def test_text_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    assert batches_of([9, 2, 20], max_tokens=8) == [[2], [0], [1]]


def test_no_lengths_have_no_batches() -> None:
    assert batches_of([], max_tokens=8) == []


def test_lengths_of_zero_are_batched_too() -> None:
    assert batches_of([0, 0, 0], max_tokens=2) == [[0, 1], [2]]


@given(LENGTHS, BUDGETS)
def test_each_index_is_in_one_batch(lengths: NDArray[np.int64], max_tokens: int) -> None:
    batches = plan_batches(lengths, max_tokens)
    assert sorted(int(row) for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) for batch in batches)


@given(LENGTHS, BUDGETS)
def test_padded_size_stays_within_the_budget(lengths: NDArray[np.int64], max_tokens: int) -> None:
    for batch in plan_batches(lengths, max_tokens):
        assert len(batch) == 1 or len(batch) * int(lengths[batch].max()) <= max_tokens


@given(LENGTHS, BUDGETS)
def test_batches_are_sorted_by_length(lengths: NDArray[np.int64], max_tokens: int) -> None:
    order = [int(row) for batch in plan_batches(lengths, max_tokens) for row in batch]
    assert [int(lengths[row]) for row in order] == sorted(lengths.tolist(), reverse=True)


@given(LENGTHS, BUDGETS)
def test_batches_depend_on_lengths_and_budget_alone(lengths: NDArray[np.int64], max_tokens: int) -> None:
    before = lengths.copy()
    first = plan_batches(lengths, max_tokens)
    second = plan_batches(lengths.copy(), max_tokens)
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]
    assert np.array_equal(lengths, before)


@settings(max_examples=30)
@given(LENGTHS.filter(len), BUDGETS)
def test_no_batch_could_take_the_next_text_too(lengths: NDArray[np.int64], max_tokens: int) -> None:
    batches = plan_batches(lengths, max_tokens)
    for batch, following in zip(batches, batches[1:], strict=False):
        assert (len(batch) + 1) * max(int(lengths[batch[0]]), 1) > max_tokens, following


@pytest.mark.parametrize("max_tokens", [1, 7, 4_096])
def test_equal_lengths_stay_in_input_order(max_tokens: int) -> None:
    assert [row for batch in batches_of([5] * 30, max_tokens) for row in batch] == list(range(30))
