"""Sequences of ids in one array: by hand, then against lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evaluation.encoding.token_rows import TokenRows


def test_rows_are_taken_in_any_order_by_hand() -> None:
    rows = TokenRows.of([[5, 6], [7], [8, 9, 4]])
    assert (rows.ids.dtype, rows.ids.tolist(), rows.bounds.tolist()) == (np.int32, [5, 6, 7, 8, 9, 4], [0, 2, 3, 6])
    taken = rows.take(np.array([2, 0]))
    assert (taken.ids.tolist(), taken.bounds.tolist(), len(taken)) == ([8, 9, 4, 5, 6], [0, 3, 5], 2)
    assert TokenRows.of([]).lists() == TokenRows.joined([]).lists() == []


lists = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), max_size=6)


@given(first=lists, second=lists, data=st.data())
def test_the_same_as_lists(first: list[list[int]], second: list[list[int]], data: st.DataObject) -> None:
    rows = TokenRows.joined([TokenRows.of(first), TokenRows.of(second)])
    both = first + second
    assert rows.lists() == both
    assert rows.lengths.tolist() == [len(row) for row in both]
    chosen = data.draw(st.lists(st.integers(0, len(both) - 1), max_size=8)) if both else []
    assert rows.take(np.array(chosen, np.int64)).lists() == [both[row] for row in chosen]
