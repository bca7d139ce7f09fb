"""The jobs of a baseline and of a run as pairs: one case a task, with the reason where the two can't be compared.

Pure; judges no score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal, NamedTuple

from evaluation.analysis.gate.snapshots import IDENTITY_NAME, ScoredJob, Snapshot
from evaluation.analysis.statistics.units import Units, aggregate_units
from evaluation.errors import ComparisonError
from evaluation.jobs import missing_identity

FaultKind = Literal["missing", "failed", "changed", "new"]


class Fault(NamedTuple):
    """Why a case has no comparison."""

    kind: FaultKind
    reason: str


@dataclass(frozen=True, slots=True)
class Case:
    """One task (an aggregate is one) of one model in both snapshots.

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
    """Cases in the run's order, then what only the baseline has.

    Models go by label; one model on each side is a pair whatever the labels.
    """
    names = paired_labels(baseline, run)
    before = _by_case(baseline, {label: names.get(label, label) for label in baseline.labels})
    now = _by_case(run, {})
    return [
        _case(label, task, before.get((label, task), ()), now.get((label, task), ()), label in run.labels)
        for label, task in dict.fromkeys([*now, *before])
    ]


def paired_labels(baseline: Snapshot, run: Snapshot) -> dict[str, str]:
    """The baseline's labels -> the run's."""
    if len(baseline.labels) == len(run.labels) == 1:
        return {baseline.labels[0]: run.labels[0]}
    return {label: label for label in baseline.labels if label in run.labels}


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What changed between two sets of named values, such as "seed 42 -> 43"."""
    names = dict.fromkeys([*before, *now])
    return [f"{name} {before.get(name)!r} -> {now.get(name)!r}" for name in names if before.get(name) != now.get(name)]


def _by_case(snapshot: Snapshot, names: Mapping[str, str]) -> dict[tuple[str, str], list[ScoredJob]]:
    cases: dict[tuple[str, str], list[ScoredJob]] = {}
    for job in snapshot.jobs:
        cases.setdefault((names.get(job.label, job.label), job.aggregate or job.task), []).append(job)
    return cases


def _case(label: str, task: str, before: Sequence[ScoredJob], now: Sequence[ScoredJob], known: bool) -> Case:
    fault = _fault(before, now, known)
    units = None
    if fault is None:
        first, second = _merged(task, now), _merged(task, before)
        units = (first, second) if first is not None and second is not None else None
    return Case(label, task, _mean_score(before), _mean_score(now), units, fault)


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
            return Fault("changed", "; ".join(changes))
    return None


def _outdated(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Why two jobs can't be matched whose identities cover different things; None where they cover the same."""
    versions = before.get(IDENTITY_NAME), now.get(IDENTITY_NAME)
    if versions[0] == versions[1]:
        return None
    remedies = "the baseline", "make it again with --update-baseline", "the run", "run its config again"
    which, remedy = remedies[:2] if missing_identity(versions[0]) else remedies[2:]
    lacking = missing_identity(versions[0]) or missing_identity(versions[1])
    return f"{which} is from an earlier release, and {lacking}; {remedy}"


def _mean_score(jobs: Sequence[ScoredJob]) -> float | None:
    scores = [job.score for job in jobs]
    return fmean(score for score in scores if score is not None) if scores and None not in scores else None


def _merged(task: str, jobs: Sequence[ScoredJob]) -> Units | None:
    """The units of a task, or of all parts of an aggregate as one task's; None where they can't be put together."""
    found = [job.units for job in jobs if job.units is not None]
    if len(found) != len(jobs):
        return None
    try:
        return found[0] if len(found) == 1 else aggregate_units(task, found)
    except ComparisonError:
        return None
