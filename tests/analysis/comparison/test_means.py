"""Means and ranks: by hand, then against mteb's own functions on 56 tasks and 13 models."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy.stats import rankdata

from evaluation.analysis.comparison.columns import read_columns
from evaluation.analysis.comparison.means import (
    borda_ranks,
    competition_ranks,
    mean_of_type_means,
    mean_over_tasks,
    means_by_type,
)
from evaluation.analysis.comparison.published import load_published
from evaluation.tasks.index import load_index

TYPES = {"a": "STS", "b": "STS", "c": "Retrieval"}


def test_means_by_hand() -> None:
    scores = {"a": 10.0, "b": 20.0, "c": 60.0}
    assert mean_over_tasks(scores, list(TYPES)) == (30.0, 3, ())
    assert {kind: mean.value for kind, mean in means_by_type(scores, TYPES).items()} == {"STS": 15.0, "Retrieval": 60.0}
    assert mean_of_type_means(scores, TYPES) == (37.5, 3, ())


def test_missing_scores_are_named_and_never_zero() -> None:
    scores = {"b": 20.0, "c": 60.0}
    assert mean_over_tasks(scores, list(TYPES)) == (40.0, 3, ("a",))
    assert means_by_type(scores, TYPES)["STS"] == (20.0, 2, ("a",))
    assert mean_of_type_means(scores, TYPES) == (40.0, 3, ("a",))
    assert mean_over_tasks({}, list(TYPES)) == (None, 3, ("a", "b", "c"))
    assert mean_of_type_means({"c": 60.0}, TYPES) == (60.0, 3, ("a", "b"))


def test_borda_ranks_by_hand() -> None:
    # Points of three models: task a 2, 1, 0; task b 0.5, 0.5, 2; together 2.5, 1.5, 2.
    first, second, third = {"a": 3.0, "b": 1.0}, {"a": 2.0, "b": 1.0}, {"a": 1.0, "b": 5.0}
    assert borda_ranks([first, second, third], ["a", "b"]) == [1, 3, 2]


def test_borda_gives_equal_counts_the_better_rank_and_absent_models_none() -> None:
    assert borda_ranks([{"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 1.0}, {}], ["a", "b"]) == [1, 1, None]
    assert borda_ranks([{"a": 1.0}, {"b": 5.0}], ["a", "b"]) == [1, 1]


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_aggregates_equal_those_of_mteb(missing: float) -> None:
    """mteb leaves means with missing tasks empty; there ours only has to say that it is incomplete."""
    import polars as pl
    from mteb.benchmarks import _create_table as theirs

    index = load_index()
    tasks = [task.name for task in index.benchmark("MTEB(eng, v1)")]
    types = {task: index.task(task).type for task in tasks}
    draw = random.Random(0)
    columns = read_columns([], load_published().rows)
    scores = [
        {task: c.tasks[task].points for task in tasks if task in c.tasks and draw.random() >= missing} for c in columns
    ]
    long = pl.DataFrame(
        [
            {"model_name": c.label, "task_name": task, "split": "test", "subset": "default", "score": score}
            for c, own in zip(columns, scores, strict=True)
            for task, score in own.items()
        ]
    )
    pivot = theirs._build_per_task_pivot(long)
    assert pivot is not None
    per_task, task_columns = pivot
    type_means, type_names = theirs._get_means_per_types(task_columns)
    wide = per_task.with_columns(type_means).with_columns(
        theirs._skipna_false_mean(task_columns).alias("mean"), theirs._skipna_false_mean(type_names).alias("type mean")
    )
    expected = {row["model_name"]: row for row in wide.to_dicts()}
    ranks = dict(theirs._borda_rank_from_long(long).iter_rows())
    assert [ranks[c.label] for c in columns] == borda_ranks(scores, tasks)
    n_complete = 0
    for column, own in zip(columns, scores, strict=True):
        row, whole = expected[column.label], mean_over_tasks(own, tasks)
        assert (row["mean"] is None) == bool(whole.missing)
        n_complete += not whole.missing
        for kind, mean in means_by_type(own, types).items():
            assert mean.missing or math.isclose(row[kind], mean.value, abs_tol=1e-9)
        if not whole.missing:
            assert row["mean"] == pytest.approx(whole.value, abs=1e-9)
            assert row["type mean"] == pytest.approx(mean_of_type_means(own, types).value, abs=1e-9)
    assert n_complete == (13 if not missing else 0)


def test_cqadupstack_counts_once_in_mteb_v1() -> None:
    tasks = [task.name for task in load_index().benchmark("MTEB(eng, v1)")]
    assert len(tasks) == 56
    assert [task for task in tasks if "CQADupstack" in task] == ["CQADupstackRetrieval"]


@pytest.mark.parametrize(
    ("values", "ranks"),
    [
        ([60, 60, 50], (1, 1, 3)),
        ([50, 60, 60, 40], (3, 1, 1, 4)),
        ([60, 50, 50], (1, 2, 2)),
        ([60.004, 60.001, 50], (1, 1, 3)),
        ([60, None, 50], (1, None, 2)),
        ([60, 60], (None, None)),
        ([60, None], (None, None)),
        ([], ()),
    ],
)
def test_competition_ranks_by_hand(values: list[float | None], ranks: tuple[int | None, ...]) -> None:
    assert competition_ranks(values) == ranks


def test_lowest_value_can_come_first() -> None:
    assert competition_ranks([2, 1, 1], lowest_first=True) == (3, 1, 1)


def test_competition_ranks_are_scipys() -> None:
    values = np.random.default_rng(0).integers(0, 20, 50).astype(float)
    assert competition_ranks(values.tolist()) == tuple(rankdata(-values, method="min"))
