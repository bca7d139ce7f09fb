"""Stored forms beside their model's own vectors: what is paired, judged and claimed, in every format."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support.populations import units
from support.small_runs import write_small_run

from evaluation import compare, load_config, run
from evaluation.analysis.comparison.columns import ScoredModel, models_of
from evaluation.analysis.comparison.compare import compare_models
from evaluation.analysis.comparison.stored_rows import _judged, _skewness_of_mean
from evaluation.analysis.comparison.types import Comparison, ComparisonOptions
from evaluation.analysis.number_formats import peak_memory
from evaluation.analysis.report.sizes import sizes
from evaluation.analysis.run_view import read_run_view
from evaluation.analysis.statistics.paired_tests import Difference, sample
from evaluation.analysis.statistics.suite_tests import suite_difference
from evaluation.analysis.statistics.units import UnitPart, Units
from evaluation.analysis.tables.comparison_table import comparison_tables
from evaluation.analysis.tables.csv_json import comparison_csv, comparison_json
from evaluation.analysis.tables.formats import render_latex
from evaluation.analysis.tables.terminal import render_plain

FORMS: list[Any] = ["float16", {"dims": 4}, {"as": "binary", "rescore": {"candidates": 20}}]


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stored")
    file = write_small_run(place, ["Search", "Pairs"], {"tiny": "e5", "bare": "none"}, model=tiny_checkpoint, name="s")
    document = json.loads(file.read_text(encoding="utf-8"))
    document["models"][0]["stored"] = FORMS
    file.write_text(json.dumps(document), encoding="utf-8")
    outcome = run(load_config(file))
    assert not outcome.failed
    return outcome.folder


@pytest.fixture(scope="module")
def compared(folder: Path) -> Comparison:
    return compare([folder], mixed=True)


def test_each_form_is_paired_with_its_model_on_each_task(compared: Comparison) -> None:
    assert compared.stored is not None
    rows = {(row.label, row.task): row for row in compared.stored.rows}
    assert {row.model for row in compared.stored.rows} == {"tiny"}
    assert rows["tiny", "Search"].verdict is rows["tiny", "Pairs"].verdict is rows["tiny", "Search"].change is None
    for task in ("Search", "Pairs"):
        own, cut = rows["tiny", task], rows["tiny@dims=4", task]
        assert own.score is not None and cut.score is not None and own.vectors is not None and cut.vectors is not None
        assert cut.change == pytest.approx(cut.score - own.score)
        assert cut.verdict is not None
        assert 100 * cut.verdict.change == pytest.approx(cut.change, abs=1e-3)  # mteb rounds scores
        assert cut.verdict.low <= cut.verdict.change <= cut.verdict.high
        assert (cut.vectors.bytes_per_vector, cut.vectors.vectors) == (16, own.vectors.vectors)
    mean = rows["tiny@dims=4", None]
    changes = [rows["tiny@dims=4", task].change or 0.0 for task in ("Search", "Pairs")]
    assert mean.change == pytest.approx(sum(changes) / 2, abs=1e-3)
    assert rows["tiny@binary,rescore=int8x20", None].note == "without Pairs"


def test_a_margin_that_nothing_exceeds_lets_the_smallest_form_be_claimed(folder: Path) -> None:
    found = compare([folder], mixed=True, options=ComparisonOptions(margin=99.0, models=("tiny*",))).stored
    assert found is not None
    (sentence,) = found.sentences
    assert "lose less than 99 points is dims=4, 16 bytes per vector" in sentence
    assert "Holm over 3 forms" in sentence


def test_the_order_of_forms_changes_nothing(folder: Path) -> None:
    """The form that rescores, which has no score on pairs, comes last in the config, and here first."""
    view = read_run_view(folder)
    models = [model for model in models_of(view) if model.label != "bare"]

    def claims(order: Sequence[ScoredModel]) -> set[tuple[str, str | None, float | None]]:
        found = compare_models(list(order), baseline=None, mixed=True, options=ComparisonOptions(margin=99.0)).stored
        assert found is not None
        return {(found.sentences[0], None, None), *((row.label, row.task, row.change) for row in found.rows)}

    assert claims(models) == claims(models[::-1])


def test_a_form_that_rescores_takes_no_task_from_the_tests_of_all_models(compared: Comparison) -> None:
    assert compared.standings is not None
    assert {one.label for one in compared.standings.models} == {"tiny", "tiny@float16", "tiny@dims=4", "bare"}
    assert compared.standings.n_tasks == 2
    assert any(note.startswith("Not in these tests: tiny@binary,rescore=int8x20;") for note in compared.notes)


def test_few_queries_are_inconclusive_with_the_number_that_would_decide(compared: Comparison) -> None:
    """50 queries of which none lost leave room for 5.8 % that lose everything."""
    assert compared.stored is not None
    half = next(row for row in compared.stored.rows if (row.label, row.task) == ("tiny@float16", "Search"))
    assert half.verdict is not None and half.verdict.outcome == "inconclusive" and half.verdict.n_needed is not None
    assert 295 <= half.verdict.n_needed <= 305
    assert f"{half.verdict.n_needed:,} units would decide" in render_plain(comparison_tables(compared))


@pytest.mark.parametrize(("ids", "expected"), [("ab", -(2**-0.5)), ("aa", -1.0)])
def test_tasks_with_the_same_units_keep_their_skewness_in_the_mean(ids: str, expected: float) -> None:
    """One unit of 100 carries all: skewness is near -1; of the mean of two independent sums 1 / sqrt(2) of it."""
    residuals = np.where(np.arange(100) == 0, -0.99, 0.01) / 100
    error = float(np.sqrt((residuals**2).sum() * 100 / 99))
    tasks = [
        Difference(-0.01, None, 1.0, 0.5, 100, "", 1, error, 99, 100, residuals=residuals, unit_ids=((own,),))
        for own in ids
    ]
    assert _skewness_of_mean(tasks, suite_difference(tasks)) == pytest.approx(expected, abs=0.03)


def test_every_format_has_the_stored_forms(compared: Comparison) -> None:
    tables = comparison_tables(compared)
    assert tables[1].title == "Stored forms"
    assert r"\caption{Stored forms}" in render_latex(tables)
    rows = {(row["label"], row["task"]): row for row in csv.DictReader(io.StringIO(comparison_csv(compared)))}
    cut = rows["tiny@dims=4", "Search"]
    assert (cut["stored"], cut["bytes_per_vector"], cut["bytes"]) == ("dims=4", "16", str(240 * 16))
    assert cut["loss"] in ("shown", "inconclusive", "ruled out")
    assert float(cut["change_low"]) <= float(cut["change"]) <= float(cut["change_high"])
    assert rows["bare", "Search"]["stored"] == ""
    mean = rows["tiny@dims=4", "Mean over tested tasks"]
    assert (mean["kind"], mean["bytes_per_vector"], mean["loss"]) == ("stored mean", "16", cut["loss"])
    assert float(mean["change_low"]) <= float(mean["change"]) <= float(mean["change_high"]) and mean["loss_p"]
    assert len(json.loads(comparison_json(compared))["stored"]["rows"]) == 4 + 3 + 3


def test_the_report_has_the_loss_of_each_form_beside_its_score(compared: Comparison) -> None:
    found = sizes(compared)
    assert found is not None and compared.stored is not None
    losses = {(scored.label, scored.task): scored.loss for scored in found.scores}
    assert losses["tiny", "Search"] is losses["bare", "Search"] is None
    cut = losses["tiny@dims=4", "Search"]
    assert cut is not None and (cut.label, cut.task, cut.verdict is not None) == ("tiny@dims=4", "Search", True)
    assert [row.label for row in found.means] == [row.label for row in compared.stored.rows if row.task is None]


def test_without_stored_forms_there_is_no_table(folder: Path) -> None:
    alone = compare([folder], options=ComparisonOptions(models=("bare",)))
    assert alone.stored is None
    assert len(comparison_tables(alone)) == 1


def test_peak_memory_is_beside_the_scores_in_every_format(folder: Path, compared: Comparison) -> None:
    speed = compared.columns[0].speed
    assert speed is not None and speed.peak is not None and speed.peak.where == "process"
    assert 100 * 2**20 < speed.peak.bytes < 100 * 2**30
    told = peak_memory(speed.peak)
    first = next(row for row in csv.DictReader(io.StringIO(comparison_csv(compared))) if row["label"] == "tiny")
    assert (int(first["peak_bytes"]), first["peak_where"]) == (speed.peak.bytes, "process")
    assert json.loads(comparison_json(compared))["columns"][0]["speed"]["peak"] == speed.peak.model_dump()
    assert told in render_plain(comparison_tables(compared))


@pytest.mark.parametrize(
    ("sizes", "same_ids", "outcome"),
    [((299,), True, "ruled out"), ((150,), True, "inconclusive"), ((140, 140), True, "inconclusive")]
    + [((400, 12), False, "inconclusive"), ((400, 400), False, "ruled out")],
)
def test_unchanged_units_count_once_and_for_their_own_subset(
    sizes: tuple[int, ...], same_ids: bool, outcome: str
) -> None:
    """Sentences in two languages are as many as in one; a subset of 12 queries has half of the score."""
    parts = tuple(
        UnitPart("test", f"s{at}", tuple(f"{at * (not same_ids)}-{row}" for row in range(n)), {"value": np.ones(n)})
        for at, n in enumerate(sizes)
    )
    own = sample(Units("Task", "Retrieval", "metric", "mean", "query", parts))
    verdict, _ = _judged(own, own, 0.01)
    assert verdict is not None and verdict.outcome == outcome


def test_a_loss_in_one_pair_is_not_ruled_out_although_a_bootstrap_would() -> None:
    """100 pairs, of which one is turned over: it costs 5.9 points, and few resamples have it five times."""
    rng = np.random.default_rng(0)
    gold = np.arange(100.0)
    own = gold + rng.normal(0, 10, 100)
    form = own.copy()
    form[0] = 200.0
    first, second = (sample(units("spearman", "example", {"gold": gold, "prediction": side})) for side in (form, own))
    verdict, _ = _judged(first, second, 0.24)
    assert verdict is not None and verdict.outcome == "inconclusive"
    assert verdict.change == pytest.approx(stats.spearmanr(gold, form)[0] - stats.spearmanr(gold, own)[0])
    drawn = [rng.integers(0, 100, 100) for _ in range(300)]
    changes = [stats.spearmanr(gold[i], form[i])[0] - stats.spearmanr(gold[i], own[i])[0] for i in drawn]
    assert np.quantile(changes, 0.025) > -0.24
