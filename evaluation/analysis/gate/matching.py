"""Pairs the tasks of a baseline and of a run, and says why two of them can't be compared. Judges no score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from evaluation.analysis.gate.snapshots import Snapshot
from evaluation.analysis.statistics.units import Units
from evaluation.analysis.task_scores import IDENTITY_NAME, ScoredJob, TaskScore, differing
from evaluation.records.origin import missing_identity

FaultKind = Literal["missing", "failed", "changed", "new"]


class Fault(NamedTuple):
    """Why a case can't be compared."""

    kind: FaultKind
    reason: str


@dataclass(frozen=True, slots=True)
class Case:
    """One task of one model in both snapshots; an aggregate is one task.

    Attributes:
        label: The run's name of the model.
        baseline: The baseline's score, 0-1; None where it has none.
        score: The run's score, 0-1; None where it has none.
        units: The run's and the baseline's; None where one of them has none or the case has a fault.
    """

    label: str
    task: str
    baseline: float | None
    score: float | None
    units: tuple[Units, Units] | None
    fault: Fault | None


def match(baseline: Snapshot, run: Snapshot) -> list[Case]:
    """The cases in the run's order, then those that only the baseline has.

    Models are paired by label; a single model on each side is a pair whatever the labels.
    """
    names = paired_labels(baseline, run)
    before = _by_case(baseline, {label: names.get(label, label) for label in baseline.labels})
    now, known = _by_case(run, {}), frozenset(run.labels)
    return [
        _case(label, task, before.get((label, task), ()), now.get((label, task), ()), label in known)
        for label, task in dict.fromkeys([*now, *before])
    ]


def paired_labels(baseline: Snapshot, run: Snapshot) -> dict[str, str]:
    """The baseline's labels -> the run's."""
    if len(baseline.labels) == len(run.labels) == 1:
        return {baseline.labels[0]: run.labels[0]}
    known = frozenset(run.labels)
    return {label: label for label in baseline.labels if label in known}


def _by_case(snapshot: Snapshot, names: Mapping[str, str]) -> dict[tuple[str, str], list[ScoredJob]]:
    cases: dict[tuple[str, str], list[ScoredJob]] = {}
    for job in snapshot.jobs:
        cases.setdefault((names.get(job.label, job.label), job.aggregate or job.task), []).append(job)
    return cases


def _case(label: str, task: str, before: Sequence[ScoredJob], now: Sequence[ScoredJob], known: bool) -> Case:
    fault = _fault(before, now, known)
    baseline, run = (TaskScore(task, tuple(jobs)) if jobs else None for jobs in (before, now))
    units = None
    if fault is None and run is not None and baseline is not None:
        theirs, ours = (one.load_units()[0] for one in (baseline, run))
        units = (ours, theirs) if ours is not None and theirs is not None else None
    scores = [one.score if one is not None else None for one in (baseline, run)]
    return Case(label, task, scores[0], scores[1], units, fault)


def _fault(before: Sequence[ScoredJob], now: Sequence[ScoredJob], known: bool) -> Fault | None:
    failed = [job for job in now if job.fault]
    if failed:
        return Fault("failed", "; ".join(f"{job.task}: {job.fault}" if job.aggregate else job.fault for job in failed))
    if not before:
        return Fault("new", "the baseline has no such task")
    earlier, later = ({job.task: job for job in jobs} for jobs in (before, now))
    gone = [name for name in earlier if name not in later]
    if gone:
        what = ", ".join(gone) if now else "such task" if known else "such model"
        return Fault("missing", f"the run has no {what}")
    added = [name for name in later if name not in earlier]
    if added:
        return Fault("changed", f"the baseline has no {', '.join(added)}")
    for name, job in later.items():
        outdated = _outdated(earlier[name].conditions, job.conditions)
        if outdated:
            return Fault("changed", outdated)
        changes = differing(earlier[name].conditions, job.conditions)
        if changes:
            return Fault("changed", "; ".join(changes.values()))
    return None


def _outdated(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Returns why two jobs can't be matched whose identities cover different things; None if they cover the same."""
    versions = before.get(IDENTITY_NAME), now.get(IDENTITY_NAME)
    if versions[0] == versions[1]:
        return None
    if lacking := missing_identity(versions[0]):
        return f"the baseline is from an earlier release, and {lacking}; make it again with --update-baseline"
    return f"the run is from an earlier release, and {missing_identity(versions[1])}; run its config again"
