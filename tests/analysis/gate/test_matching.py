"""Which job of a baseline belongs to which of a run, and what makes two of them incomparable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation.analysis.gate.matching import match, paired_labels
from evaluation.analysis.gate.snapshots import Snapshot
from evaluation.analysis.statistics.units import UnitPart, Units
from evaluation.analysis.task_scores import ScoredJob, differing
from evaluation.records.origin import IDENTITY_VERSION

CONDITIONS = {"protocol": "e5", "protocol's text_prefix": "query: ", "dataset revision": "1", "splits": ["test"]}


def units(task: str = "A", values: tuple[float, ...] = (0.25, 0.75)) -> Units:
    part = UnitPart("test", "default", tuple(f"q{row}" for row in range(len(values))), {"value": np.array(values)})
    return Units(task, "Retrieval", "ndcg_at_10", "mean", "query", (part,))


def job(task: str = "A", label: str = "model", score: float = 0.5, **changes) -> ScoredJob:
    return replace(
        ScoredJob(label, task, "Retrieval", "ndcg_at_10", None, score, "", CONDITIONS, units(task)), **changes
    )


def snapshot(*jobs: ScoredJob) -> Snapshot:
    return Snapshot("run", jobs, {}, {})


def test_same_tasks_are_cases_with_run_first() -> None:
    later = job(score=0.25, units=units(values=(0.0, 0.5)))
    before = job()
    (case,) = match(snapshot(before), snapshot(later))
    assert (case.label, case.task, case.baseline, case.score, case.fault) == ("model", "A", 0.5, 0.25, None)
    assert case.units is not None
    assert case.units[0] is later.units and case.units[1] is before.units, "the run's first"


def test_cases_keep_the_run_s_order_and_end_with_what_is_missing() -> None:
    cases = match(snapshot(job("A"), job("B"), job("C")), snapshot(job("C"), job("D"), job("A")))
    assert [(case.task, case.fault and case.fault.kind) for case in cases] == [
        ("C", None),
        ("D", "new"),
        ("A", None),
        ("B", "missing"),
    ]


def test_single_models_are_a_pair_whatever_their_labels() -> None:
    before, now = snapshot(job(label="released")), snapshot(job(label="candidate"))
    assert paired_labels(before, now) == {"released": "candidate"}
    (case,) = match(before, now)
    assert (case.label, case.fault) == ("candidate", None)


def test_several_models_go_by_label() -> None:
    before = snapshot(job(label="a"), job(label="b"))
    now = snapshot(job(label="b"), job(label="c"))
    assert paired_labels(before, now) == {"b": "b"}
    found = {case.label: case.fault and (case.fault.kind, case.fault.reason) for case in match(before, now)}
    assert found == {
        "b": None,
        "c": ("new", "the baseline has no such task"),
        "a": ("missing", "the run has no such model"),
    }


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("protocol", "none", "protocol 'e5' -> 'none'"),
        ("protocol's text_prefix", "", "protocol's text_prefix 'query: ' -> ''"),
        ("dataset revision", "2", "dataset revision '1' -> '2'"),
        ("splits", ["dev"], "splits ['test'] -> ['dev']"),
    ],
)
def test_changed_condition_is_named_with_both_values(name: str, value: object, says: str) -> None:
    (case,) = match(snapshot(job()), snapshot(job(conditions=CONDITIONS | {name: value})))
    assert case.fault == ("changed", says)
    assert case.units is None


def test_failed_job_says_why() -> None:
    failed = job(score=None, fault="out of memory", conditions={}, units=None)
    (case,) = match(snapshot(job()), snapshot(failed))
    assert case.fault == ("failed", "out of memory")
    (case,) = match(snapshot(job("B")), snapshot(job("B"), failed))[1:]
    assert case.fault is not None and case.fault.kind == "failed", "a task that is new fails too, where its job failed"


def test_parts_of_an_aggregate_are_one_case() -> None:
    before = [job(f"P{n}", aggregate="All", score=score) for n, score in enumerate((0.25, 0.75))]
    now = [job(f"P{n}", aggregate="All", score=0.5, units=units(f"P{n}", (0.5, 0.5))) for n in (1, 0)]
    (case,) = match(snapshot(*before), snapshot(*now))
    assert (case.task, case.baseline, case.score, case.fault) == ("All", 0.5, 0.5, None)
    assert case.units is not None
    for merged in case.units:
        assert merged.task == "All"
        assert [part.subset for part in merged.parts] == ["P0/default", "P1/default"]


def test_aggregate_with_another_set_of_parts_is_named() -> None:
    one, two = (job(name, aggregate="All") for name in ("P1", "P2"))
    (case,) = match(snapshot(one, two), snapshot(one))
    assert case.fault == ("missing", "the run has no P2")
    (case,) = match(snapshot(one), snapshot(one, two))
    assert case.fault == ("changed", "the baseline has no P2")
    failed = job("P2", aggregate="All", score=None, fault="no memory", units=None)
    (case,) = match(snapshot(one, two), snapshot(one, failed))
    assert case.fault == ("failed", "P2: no memory")
    assert case.score is None


def test_task_without_units_on_one_side_has_its_scores_alone() -> None:
    (case,) = match(snapshot(job(units=None)), snapshot(job()))
    assert (case.units, case.fault, case.score) == (None, None, 0.5)


def test_differences_name_what_came_and_went() -> None:
    assert differing({"a": 1, "b": 2}, {"b": 3, "c": None}) == {"a": "a 1 -> None", "b": "b 2 -> 3"}


def test_a_baseline_from_before_is_refused_with_what_its_identity_lacks() -> None:
    """Never matched in silence; two snapshots from before are as comparable as they were."""
    old, new = job(), job(conditions=CONDITIONS | {"identity version": IDENTITY_VERSION})
    (case,) = match(snapshot(old), snapshot(new))
    assert case.fault is not None
    assert case.fault.kind == "changed"
    assert "the baseline is from an earlier release, and its identity lacks the checkpoint's files" in case.fault.reason
    assert "make it again with --update-baseline" in case.fault.reason
    (case,) = match(snapshot(new), snapshot(old))
    assert case.fault is not None
    assert "the run is from an earlier release" in case.fault.reason
    (case,) = match(snapshot(old), snapshot(old))
    assert case.fault is None
    (case,) = match(snapshot(new), snapshot(new))
    assert case.fault is None
