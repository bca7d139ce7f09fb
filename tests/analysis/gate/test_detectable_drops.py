"""The planned power of a gate, by hand: unequal subsets, aggregates, and models that share no task."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.analysis.gate.detectable_drops import TaskPlan, measure_pilot, plan_gate
from evaluation.analysis.gate.rule import GateRule
from evaluation.analysis.gate.snapshots import Snapshot
from evaluation.analysis.statistics.units import UnitPart, Units, score
from evaluation.analysis.task_scores import ScoredJob

REACH = 1.644854 + 0.841621  # quantiles of 0.95 and 0.8


def job(task: str, *sizes: int, label: str = "m", aggregate: str | None = None, shift: float = 0.0) -> ScoredJob:
    parts = []
    for at, n in enumerate(sizes):
        values = 0.5 + shift * np.where(np.arange(n) % 2, 1.0, -1.0)
        parts.append(UnitPart("test", f"s{at}", tuple(map(str, range(n))), {"value": values}))
    units = Units(task, "Retrieval", "map", "mean", "query", tuple(parts))
    return ScoredJob(label, task, "Retrieval", "map", aggregate, score(units), "", {}, units)


def plans(*jobs: ScoredJob, share: float = 0.1, max_drop: float = 1.0) -> list[TaskPlan]:
    return plan_gate(Snapshot("run", jobs, {}, {}), GateRule(max_drop), None, share)


def test_unequal_subsets_count_as_their_effective_number() -> None:
    """Weights of 1 / 1980 and 1 / 20: effective 4 / (1 / 990 + 1 / 10) = 39.6 of 1,000."""
    (one,), (two,) = plans(job("A", 1000)), plans(job("A", 990, 10))
    assert one.needed == math.ceil((REACH * 100 * math.sqrt(0.1)) ** 2) == 6183
    assert two.needed == pytest.approx(6183 * 1000 / 39.6, rel=1e-3) and two.n_examples == 1000
    assert one.drop is not None and two.drop is not None
    assert one.drop == pytest.approx(REACH * 100 * math.sqrt(0.1 / 1000), abs=0.01)
    assert two.drop >= REACH * 100 * math.sqrt(0.1 / 39.6)


def test_aggregate_is_one_task() -> None:
    (found,) = plans(*(job(f"Part{at}", 100, aggregate="Whole") for at in range(12)))
    (plain,) = plans(job("A", 1200))
    assert (found.task, found.n_examples, found.needed) == ("Whole", 1200, plain.needed)
    assert found.drop == pytest.approx(plain.drop)


def test_mean_is_planned_only_where_a_model_has_two_tasks() -> None:
    apart = plans(job("X", 100, label="a"), job("Y", 100, label="b"))
    assert [plan.task for plan in apart] == ["X", "Y"]
    at_half_alpha = 1.959964 + 0.841621  # two tests, and no family of means to share alpha with
    assert apart[0].needed == math.ceil((at_half_alpha * 100 * math.sqrt(0.1)) ** 2)
    together = plans(job("X", 100), job("Y", 100))
    assert [plan.task for plan in together] == ["X", "Y", "mean of 2 tasks"]


def test_pilot_of_unequal_subsets_tells_the_error_that_it_had() -> None:
    """Every query moves by 10 points: the spread of one is 10 however its subset weighs."""
    base, other = (Snapshot("run", (job("A", 200, 20, shift=shift),), {}, {}) for shift in (0.0, 0.1))
    assert measure_pilot(base, other, "pilot").spread["A"] == pytest.approx(10.0, rel=0.01)
