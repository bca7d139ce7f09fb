"""Checkpoints of a training run: the best, the first that is significantly worse, the gate and the chart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.fake_runs import clustering, query_record, retrieval, write_run
from typer.testing import CliRunner

from evaluation.analysis.comparison.compare import compare
from evaluation.analysis.comparison.series import Series, find_series
from evaluation.analysis.gate.rule import Verdict
from evaluation.analysis.gate.series import check_series
from evaluation.analysis.report.canvas import Canvas
from evaluation.analysis.report.series_chart import series_charts, series_rows
from evaluation.commands.check_regression.command import app
from evaluation.errors import UsageError

N = 300


def values(mean: float, seed: int) -> list[float]:
    """Queries' scores with exactly this mean; all checkpoints share the queries' difficulty."""
    noise = np.random.default_rng(seed).normal(0, 0.02, N)
    return list(np.linspace(-0.3, 0.3, N) + mean + noise - noise.mean())


@pytest.fixture
def series_run(write_run: Callable[..., Path]) -> Callable[[Mapping[int, float | None]], Path]:
    """A function: step -> mean score (None: failed) -> the run's folder."""

    def write(means: Mapping[int, float | None]) -> Path:
        own = {step: None if mean is None else values(mean, step) for step, mean in means.items()}
        jobs = [(query_record(f"step-{step}", "Search", scores), scores) for step, scores in own.items()]
        rows = [{"label": f"step-{step}", "model": f"./{step}", "series": "steps", "step": step} for step in means]
        return write_run("run", jobs, config={"name": "run", "models": rows})

    return write


def only(run: Path) -> Series:
    (found,) = find_series(compare(run))
    return found


def test_a_row_that_all_pairs_leave_out_is_in_no_series(series_run: Callable[..., Path]) -> None:
    comparison = compare(series_run({1: 0.40, 2: 0.60, 3: 0.50}))
    assert comparison.standings is not None
    others = tuple(one for one in comparison.standings.models if one.label != "step-2")
    (found,) = find_series(replace(comparison, standings=replace(comparison.standings, models=others)))
    assert [one.step for one in found.checkpoints] == [1, 3]


def test_first_checkpoint_after_the_best_that_is_significantly_worse(series_run: Callable[..., Path]) -> None:
    # step 1 is worse than the best, but earlier; step 3 is too little worse; steps 4 and 5 are worse
    found = only(series_run({1: 0.40, 2: 0.60, 3: 0.5995, 4: 0.55, 5: 0.50}))
    assert [one.step for one in found.checkpoints] == [1, 2, 3, 4, 5]
    assert [round(one.mean, 2) for one in found.checkpoints] == [40.0, 60.0, 59.95, 55.0, 50.0]
    assert found.best.label == "step-2"
    assert found.worse is not None
    assert found.worse.label == "step-4"
    assert "best checkpoint is step-2 (mean 60.00)" in found.sentence
    assert "significantly worse is step-4 (-5.00, p < 0.0001" in found.sentence


def test_numbers_order_the_checkpoints_and_no_drop_is_said(series_run: Callable[..., Path]) -> None:
    run = series_run({1000: 0.6, 200: 0.5})
    assert [one.step for one in only(run).checkpoints] == [200, 1000]
    said = "Series steps: the best checkpoint is step-1000 (mean 60.00); no later one is significantly worse."
    assert said in compare(run).notes


def test_gate_takes_the_newest_against_the_one_before_and_the_best(series_run: Callable[..., Path]) -> None:
    report = check_series(series_run({1: 0.60, 2: 0.50, 3: 0.505}))
    before, best = report.checks
    assert "against step-2 (the one before)" in before.name
    assert (before.label, before.verdict, round(before.change or 0, 2)) == ("step-3", Verdict.NO_DROP, 0.5)
    assert "against step-1 (the best so far)" in best.name
    assert (best.verdict, round(best.change or 0, 2)) == (Verdict.REGRESSION, -9.5)
    assert best.interval is not None
    assert best.interval[0] < -9.5 < best.interval[1] < 0
    assert not report.passed


@pytest.mark.parametrize(
    ("search", "cluster", "verdicts"),
    [
        ((0.50, 0.50), (0.50, 0.05), [Verdict.NO_DROP, Verdict.REGRESSION]),  # clustering collapses alone
        ((0.50, 0.52), (0.50, 0.40), [Verdict.NO_DROP, Verdict.REGRESSION]),  # a rise has no p of a drop
        ((0.50, 0.45), (0.50, 0.70), [Verdict.REGRESSION]),  # a rise of clustering hides no drop
    ],
)
def test_tested_tasks_and_clustering_are_judged_apart(
    search: tuple[float, float], cluster: tuple[float, float], verdicts: list[Verdict], tmp_path: Path
) -> None:
    jobs = []
    for step, (mean, v_measure) in enumerate(zip(search, cluster, strict=True), 1):
        own = np.array(values(mean, 1))  # the same noise: every query changes alike
        jobs.append(retrieval(own, label=f"step-{step}"))
        jobs.append(clustering(np.linspace(-0.01, 0.01, 10) + v_measure, label=f"step-{step}"))
    rows = [{"label": f"step-{step}", "model": f"./{step}", "series": "steps", "step": step} for step in (1, 2)]
    report = check_series(write_run(tmp_path / "run", jobs, config={"name": "run", "models": rows}))
    assert [check.verdict for check in report.checks] == verdicts
    assert report.checks[0].change == pytest.approx(100 * (search[1] - search[0]), abs=0.01)
    assert all("without a test" in check.name for check in report.checks[1:])


def test_best_is_corrected_over_all_pairs(series_run: Callable[..., Path]) -> None:
    run = series_run({1: 0.500, 2: 0.502, 3: 0.498, 4: 0.501})
    found = only(run)
    pair = found.pair(found.checkpoints[1], found.checkpoints[3])
    assert pair is not None
    assert pair.p >= (pair.difference.p_two_sided or 0)  # six pairs
    (first, second) = check_series(run).checks
    assert second.p == pair.p
    assert first.verdict is Verdict.NO_DROP


def test_best_that_is_the_one_before_is_one_check(series_run: Callable[..., Path]) -> None:
    (check,) = check_series(series_run({1: 0.5, 2: 0.6, 3: 0.55})).checks
    assert "against step-2 (the one before and the best so far)" in check.name


def test_newest_checkpoint_that_failed_fails_the_gate(series_run: Callable[..., Path]) -> None:
    report = check_series(series_run({1: 0.5, 2: 0.6, 3: None}))
    assert ("step-3", Verdict.FAILED) in [(check.label, check.verdict) for check in report.checks]
    assert not report.passed


@pytest.mark.parametrize("waiting", [[], [("step-3", "Search"), ("step-3", "Other")]])
def test_newest_checkpoint_that_never_started_fails_the_gate_in_one_sentence(
    write_run: Callable[..., Path], waiting: list[tuple[str, str]]
) -> None:
    own = {label: values(mean, 1) for label, mean in {"step-1": 0.6, "step-2": 0.5}.items()}
    jobs = [(query_record(label, "Search", scores), scores) for label, scores in own.items()]
    rows = [{"label": f"step-{step}", "model": f"./{step}", "series": "steps", "step": step} for step in (1, 2, 3)]
    run = write_run("run", jobs, config={"name": "run", "models": rows}, waiting=waiting)
    (check,) = check_series(run).checks  # step 2 is not judged as the newest
    assert (check.label, check.name, check.verdict) == ("step-3", "all tasks", Verdict.FAILED)
    assert check.reason == "it has not been run yet; start its config again"
    shown = CliRunner().invoke(app, [str(run), "--series"])
    assert shown.exit_code == 1
    said = [line for line in shown.stdout.splitlines() if "not been run" in line]
    assert said == ["step-3, all tasks: failed: it has not been run yet; start its config again."]


def test_earlier_checkpoint_without_scores_is_left_out_and_named(series_run: Callable[..., Path]) -> None:
    report = check_series(series_run({1: 0.6, 2: None, 3: 0.5}))
    (check,) = report.checks
    assert (check.label, check.verdict, round(check.change or 0, 2)) == ("step-3", Verdict.REGRESSION, -10.0)
    assert check.name == "mean of 1 task, against step-1 (the one before and the best so far)"
    assert report.notes[-1] == "Left out, because they have no score: step-2."


def test_run_without_a_series_is_refused(query_run: Callable[..., Path]) -> None:
    run = query_run("plain", {"a": {"Search": values(0.5, 1)}, "b": {"Search": values(0.6, 2)}})
    with pytest.raises(UsageError, match="no two checkpoints of one series"):
        check_series(run)


def test_chart_has_the_mean_its_interval_and_two_marks(series_run: Callable[..., Path]) -> None:
    comparison = compare(series_run({1: 0.60, 2: 0.599, 3: 0.50}))
    (series,) = find_series(comparison)
    rows = series_rows(comparison, series)
    assert [(row["step"], round(float(row["score"]), 1), row["mark"]) for row in rows] == [
        (1, 60.0, "best"),
        (2, 59.9, ""),
        (3, 50.0, "first significantly worse"),
    ]
    assert "low" not in rows[0]  # the best has no difference to itself
    assert rows[2]["low"] < 50.0 < rows[2]["high"] < 60.0
    (chart,) = series_charts(Canvas(comparison))
    assert chart is not None
    assert chart.name == "series"
    assert "best checkpoint is step-1" in chart.caption
