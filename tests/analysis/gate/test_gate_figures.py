"""Figures of the gate: how often it fails equal models, and how often it finds a true drop. Simulated, stated seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator
from scipy.stats import binom

from evaluation import load_config, run
from evaluation.analysis.gate.baseline_file import load_baseline
from evaluation.analysis.gate.rule import GateRule, Verdict
from evaluation.analysis.gate.snapshots import Snapshot, read_run
from evaluation.analysis.gate.verdicts import judge
from evaluation.analysis.statistics.contributions import contributions
from evaluation.analysis.statistics.paired_tests import compare_units
from evaluation.analysis.statistics.units import UnitPart, Units, score
from evaluation.analysis.task_scores import ScoredJob

pytestmark = pytest.mark.full
N_GATES, N_DROPS, SUITE_TESTS = 2_000, 500, 9


def as_job(task: str, kind: str, statistic: str, arrays: dict[str, np.ndarray]) -> ScoredJob:
    n = next(iter(arrays.values())).shape[-1]
    part = UnitPart("test", "default", tuple(map(str, range(n))), arrays)
    units = Units(task, "type", "metric", statistic, kind, (part,))
    return ScoredJob("model", task, "type", "metric", None, score(units), "", {}, units)


def snapshot(*jobs: ScoredJob) -> Snapshot:
    return Snapshot("run", jobs, {}, {})


def identical_pair(rng: Generator) -> tuple[Snapshot, Snapshot]:
    """Two models of the same quality that share what is hard and differ by noise of their own: six tasks."""
    hard = {n: rng.random(n) for n in (60, 150)}
    gold = rng.integers(0, 6, 90)
    human = gold + rng.normal(0, 2, 90)
    sure = rng.random(120)
    labels = rng.integers(0, 2, 80)
    close = labels + rng.normal(0, 1.5, 80)
    sets = rng.normal(0.4, 0.02, 10)

    def model() -> Snapshot:
        """Noise of its own around what both share."""
        return snapshot(
            as_job("Queries", "query", "mean", {"value": np.clip(hard[60] + rng.normal(0, 0.3, 60), 0, 1)}),
            as_job(
                "More queries", "query", "mean", {"value": np.round(hard[150] + rng.normal(0, 0.2, 150)).clip(0, 1)}
            ),
            as_job("Similarity", "example", "spearman", {"gold": gold, "prediction": human + rng.normal(0, 1, 90)}),
            as_job("Labels", "example", "mean", {"value": (rng.random((5, 120)) < sure).astype(np.int64)}),
            as_job("Pairs", "example", "ap", {"gold": labels, "prediction": (close + rng.normal(0, 1, 80))[None]}),
            as_job("Clusters", "algorithm", "mean", {"value": sets + rng.normal(0, 0.02, 10)}),
        )

    return model(), model()


def test_gate_cries_wolf_no_more_often_than_alpha(record_testsuite_property: Callable[[str, object], None]) -> None:
    """2,000 pairs: with the default rule, and with --max-drop 0, where the statistics alone decide."""
    rng = np.random.default_rng(20_261)
    alarms = {0.0: 0, 1.0: 0}
    for _ in range(N_GATES):
        before, now = identical_pair(rng)
        for max_drop in alarms:  # what the default fails, --max-drop 0 fails too
            if judge(before, now, GateRule(max_drop), n_resamples=1_000).passed:
                break
            alarms[max_drop] += 1
    record_testsuite_property("false alarms by max_drop", alarms)
    for n in alarms.values():
        assert n <= binom.ppf(0.99, N_GATES, 0.05), alarms
    assert alarms[1.0] / N_GATES <= 0.05


@pytest.fixture(scope="module")
def banking(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """(10, 3080) which examples of Banking77 MiniLM gets right, in each of mteb's ten experiments."""
    folder = tmp_path_factory.mktemp("banking")
    task = {"mteb": "Banking77Classification", "data": str(shared_data / "Banking77Classification")}
    model = {"label": "MiniLM", "model": "builtin:all-MiniLM-L6-v2", "protocol": "none", "dtype": "float32"}
    document = {"name": "banking", "models": [model], "tasks": [task], "output": str(folder)}
    (folder / "config.yaml").write_text(json.dumps(document), encoding="utf-8")
    (job,) = read_run(run(load_config(folder / "config.yaml")).folder).jobs
    assert job.units is not None
    return job.units.parts[0].arrays["value"]


@pytest.mark.parametrize("true_drop", [0.0, 0.01, 0.02, 0.03])
def test_true_drop_on_banking_is_found(
    banking: np.ndarray, true_drop: float, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """Examples are drawn anew; of all examples 5 % become right and as many become wrong as the drop asks for."""
    right, n = banking.mean(), banking.shape[1]
    gained = 0.05
    lost = (true_drop + gained * (1 - right)) / right
    rng = np.random.default_rng(77)
    found = {"alone": 0, "in a suite of eight": 0}
    for _ in range(N_DROPS):
        before = banking[:, rng.integers(0, n, n)]
        fate = rng.random(n)
        now = np.where(fate < lost, 0, np.where(fate > 1 - gained, 1, before))
        pair = [snapshot(as_job("Banking77", "example", "mean", {"value": values})) for values in (before, now)]
        (check,) = judge(*pair, GateRule()).checks
        assert check.p is not None and check.change is not None
        found["alone"] += check.verdict is Verdict.REGRESSION
        found["in a suite of eight"] += check.change < -1 and check.p * SUITE_TESTS < 0.05
    rates = {name: count / N_DROPS for name, count in found.items()}
    record_testsuite_property(f"found of a true drop of {true_drop}", rates)
    if true_drop >= 0.02:
        assert min(rates.values()) > 0.95, rates
    if true_drop == 0.0:
        assert max(rates.values()) <= 0.05, rates


QUICKSTART = Path(__file__).parents[3] / "results" / "baselines" / "quickstart.json"


@pytest.mark.parametrize(("drop", "least", "most"), [(0.025, 0.9, 1.0), (0.0, 0.0, 0.08)])
def test_quickstart_finds_a_model_that_loses_on_all_tasks_and_passes_equal_ones(
    drop: float, least: float, most: float, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """Of three models one loses `drop`; each task's examples scatter two thirds as much as between prefix and none."""
    jobs = [job for job in load_baseline(QUICKSTART).jobs if job.units is not None and job.units.kind != "algorithm"]
    units = {(job.label, job.task): job.units for job in jobs}
    tasks = dict.fromkeys(job.task for job in jobs)
    spread = {}
    for task in tasks:
        first, second = units["E5-small", task], units["E5-small bare", task]
        assert first is not None and second is not None
        found = compare_units(first, second)
        assert found.error is not None
        spread[task] = 2 / 3 * found.error * found.n_clusters**0.5
    rng = np.random.default_rng(8)

    def labelled(label: str, task: str, values: np.ndarray) -> ScoredJob:
        return replace(as_job(task, "example", "mean", {"value": values}), label=label)

    base = {(job.label, job.task): contributions(job.units).values[0] for job in jobs if job.units is not None}
    before = snapshot(*(labelled(*key, values) for key, values in base.items()))
    failed = 0
    for _ in range(200):
        now = [
            labelled(
                *key,
                values + rng.normal(-drop if key[0] == "E5-small" else 0.0, spread[key[1]], len(values)),
            )
            for key, values in base.items()
        ]
        failed += not judge(before, snapshot(*now), GateRule(), n_resamples=2_000).passed
    record_testsuite_property(f"quickstart gates failed, true drop {drop}", failed / 200)
    assert least <= failed / 200 <= most, failed
