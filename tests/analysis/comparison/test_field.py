"""Ranks of a run among all models of a results repository, and what the page says of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from support.published_results import write_result

from evaluation.analysis.comparison.compare import compare
from evaluation.analysis.comparison.places import Field
from evaluation.analysis.comparison.types import ComparisonOptions
from evaluation.analysis.tables.comparison_table import comparison_tables
from evaluation.analysis.tables.csv_json import comparison_csv, comparison_json
from evaluation.errors import ComparisonError

TEST = ("test", "default")
VALUES = list(np.tile([0.4, 0.6], 50))  # mean 50, standard error 1.005 points: 95 % from 48.0 to 52.0
Write = Callable[..., Path]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five models on SciFact; one of them is our own, one has another dataset revision, two lack NFCorpus."""
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "published"
    for model, score in {"x/high": 0.6, "x/near": 0.51, "x/below": 0.49, "x/low": 0.3, "org/a": 0.9}.items():
        write_result(folder, model, "SciFact", {TEST: score}, dataset_revision="d0" if model == "x/low" else "d1")
    write_result(folder, "x/high", "NFCorpus", {TEST: 0.2}, dataset_revision="d1")
    write_result(folder, "x/near", "NFCorpus", {TEST: 0.7}, dataset_revision="d1")
    write_result(folder, "x/below", "NFCorpus", {("dev", "default"): 0.7}, dataset_revision="d1")
    return folder


def options(folder: Path, *models: str) -> ComparisonOptions:
    return ComparisonOptions(published=folder, models=models)


def field_of(run: Path, folder: Path, *models: str) -> Field:
    found = compare(run, options=options(folder, *models)).field
    assert found is not None
    return found


def test_rank_carries_our_interval(query_run: Write, repository: Path) -> None:
    (place,) = field_of(query_run("r", {"a": {"SciFact": VALUES}}), repository).places
    assert (place.rank, place.ranks, place.n_models) == (3, (2, 4), 5)
    assert (place.leader, place.near) == (("x/high", 60.0), ("x/near", "x/below"))


def test_rank_without_intervals_has_no_range(query_run: Write, repository: Path) -> None:
    found = compare(
        query_run("r", {"a": {"SciFact": VALUES}}), options=replace(options(repository), intervals=False)
    ).field
    assert found is not None
    assert (found.places[0].rank, found.places[0].ranks, found.places[0].interval) == (3, None, None)


def test_mean_is_ranked_among_models_with_the_same_tasks_and_splits(query_run: Write, repository: Path) -> None:
    run = query_run("r", {"a": {"SciFact": VALUES, "NFCorpus": [value + 0.01 for value in VALUES]}})
    found = field_of(run, repository)
    mean = found.places[-1]
    assert (mean.task, mean.n_models, mean.leader) == (None, 3, ("x/near", 60.5))
    assert mean.points == pytest.approx(fmean([50.0, 51.0]))
    assert mean.rank == 2 and mean.ranks == (2, 2)
    # Both tasks have the same queries, so their errors add up as they do within a task.
    assert mean.interval is not None and mean.interval.high - mean.points == pytest.approx(1.984 * 1.005, abs=0.01)
    comparison = compare(run, options=options(repository))
    of_csv = list(csv.DictReader(io.StringIO(comparison_csv(comparison))))
    names = ("kind", "task", "rank", "rank_low", "rank_high", "ranked_models")
    ranked = [[row[name] for name in names] for row in of_csv if row["rank"]]
    assert ranked == [
        ["task", "SciFact", "3", "2", "4", "5"],
        ["task", "NFCorpus", "2", "2", "2", "3"],
        ["ranked mean", "Mean over 2 tasks", "2", "2", "2", "3"],
    ]
    text = " ".join(comparison_tables(comparison)[-1].notes)
    assert "Means are over the models that have all 2 tasks: 2 of 5." in text


def test_page_says_what_ranks_do_not_carry(query_run: Write, repository: Path) -> None:
    comparison = compare(query_run("r", {"a": {"SciFact": VALUES, "Own": VALUES}}), options=options(repository))
    table = comparison_tables(comparison)[-1]
    text = " ".join(table.notes)
    assert table.title == "Rank among published scores"
    assert "Ranks carry the interval of our own score only" in text
    assert "ours are under e5" in text
    assert f"5 models in {repository} (8 files, sha256 " in text
    assert "Scored on another revision of the dataset than ours: SciFact (1 model)" in text
    assert "No other model has the same splits and subsets of Own." in text
    assert json.loads(comparison_json(comparison))["field"]["places"][0]["rank"] == 3


def test_limited_runs_are_not_ranked(query_run: Write, repository: Path) -> None:
    found = field_of(query_run("r", {"a": {"SciFact": VALUES}}, limit={"queries": 3}), repository)
    assert (found.places, found.limited) == ((), ("a",))


def test_globs_choose_among_published_models_and_our_columns(query_run: Write, repository: Path) -> None:
    run = query_run("r", {"a": {"SciFact": VALUES}, "b": {"SciFact": VALUES}})
    both = field_of(run, repository, "x/*e*")
    assert {place.label for place in both.places} == {"a", "b"}
    assert {place.n_models for place in both.places} == {3}
    one = field_of(run, repository, "x/*e*", "b")
    assert [place.label for place in one.places] == ["b"]
    with pytest.raises(ComparisonError, match="--model 'nobody/\\*': no column has this label"):
        field_of(run, repository, "nobody/*")


def test_scores_of_our_own_model_stand_beside_ours(query_run: Write, repository: Path) -> None:
    comparison = compare(query_run("r", {"a": {"SciFact": VALUES}}), options=options(repository))
    (match,) = comparison.rows[0].cells[0].published
    assert (match.score, match.protocol, match.verdict) == (pytest.approx(90.0), "mteb", "differs")


def test_repository_is_compared_alone(repository: Path) -> None:
    comparison = compare([], options=options(repository, "x/high", "x/near"))
    assert [column.model for column in comparison.columns] == ["x/high", "x/near"]
    scores = {row.task: [cell.score for cell in row.cells] for row in comparison.rows}
    assert scores["SciFact"] == [pytest.approx(60.0), pytest.approx(51.0)]
