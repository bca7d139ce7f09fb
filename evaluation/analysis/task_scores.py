"""The score of a model on a task, with what must agree for it to be comparable and what it can be recomputed from.

Scores are 0-1, as stored; `TaskScore.points` is the same for people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from statistics import fmean
from typing import TYPE_CHECKING, Any

from evaluation.errors import ComparisonError
from evaluation.records.job_record import JobRecord
from evaluation.records.origin import METRIC_DISTRIBUTIONS
from evaluation.tasks.beir_names import BEIR_PREFIX, mteb_name
from evaluation.tasks.index import TaskIndex, load_index

if TYPE_CHECKING:
    from evaluation.analysis.statistics.units import Units

IDENTITY_NAME = "identity version"
"""Of the condition that says what a record's identity covers."""
NEVER_ENDED = "never ended, or its files are gone"
NO_SAMPLES = "no samples are stored, so no interval"


@dataclass(frozen=True, slots=True)
class ScoredJob:
    """One job of a run, of a baseline file or of a published table.

    Attributes:
        aggregate: The task that this one is a part of, such as CQADupstackRetrieval.
        score: 0-1; None where the job has none.
        fault: Why there is no score; empty where there is one.
        conditions: What must agree for scores to be comparable: plain values by name, unknown ones left out.
        units: What the score can be recomputed from, where it was read already.
        record: None for a job that never ended, and outside stored runs.
    """

    label: str
    task: str
    type: str
    metric: str
    aggregate: str | None
    score: float | None
    fault: str
    conditions: Mapping[str, Any]
    units: Units | None = None
    record: JobRecord | None = None


@dataclass(frozen=True)
class TaskScore:
    """One model on one task; an aggregate task such as CQADupstackRetrieval is the mean of its parts.

    Attributes:
        jobs: One, or the aggregate's parts.
        absent: Parts of the aggregate that were not run.
        read_units: Returns the units of one of the jobs.
    """

    task: str
    jobs: tuple[ScoredJob, ...]
    absent: tuple[str, ...] = ()
    read_units: Callable[[ScoredJob], Units | None] = field(default=attrgetter("units"), compare=False)

    @property
    def type(self) -> str:
        """mteb's type of the task."""
        return self.jobs[0].type

    @property
    def metric(self) -> str:
        """Name of the main metric; empty where no job ended."""
        return next((job.metric for job in self.jobs if job.metric), "")

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the aggregate's parts; empty for any other task."""
        return tuple(job.task for job in self.jobs) if self.jobs[0].task != self.task else ()

    @property
    def records(self) -> tuple[JobRecord, ...]:
        """The stored records."""
        return tuple(job.record for job in self.jobs if job.record is not None)

    @cached_property
    def score(self) -> float | None:
        """The mean over the jobs, 0-1; None where one of them has no score."""
        scores = [job.score for job in self.jobs if job.score is not None]
        return fmean(scores) if len(scores) == len(self.jobs) and not self.absent else None

    @property
    def points(self) -> float | None:
        """The score, 0-100."""
        return None if self.score is None else 100 * self.score

    @property
    def note(self) -> str:
        """Why there is no score; empty where there is one."""
        without = [job for job in self.jobs if job.score is None]
        gone = [*(job.task for job in without), *self.absent]
        if not gone:
            return ""
        if self.parts or self.absent:
            return f"no score of {', '.join(gone)}"
        error = without[0].record.error if without[0].record else None
        return f"failed: {error.message}" if error else "not run"

    @cached_property
    def conditions(self) -> dict[str, Any]:
        """What must agree for the score to be comparable; where parts differ, a tuple of their values."""
        if self.score is None:
            return {}
        first, *others = (job.conditions for job in self.jobs)
        return {
            name: value
            if all(other.get(name) == value for other in others)
            else (value, *(other.get(name) for other in others))
            for name, value in first.items()
        }

    def load_units(self) -> tuple[Units | None, str]:
        """Returns what the score can be recomputed from, an aggregate's parts as one task; or None and the reason."""
        found = [units for job in self.jobs if (units := self.read_units(job)) is not None]
        if len(found) < len(self.jobs) or self.absent:
            return None, NO_SAMPLES
        from evaluation.analysis.statistics.units import aggregate_units  # numpy, which published scores don't need

        try:
            return (found[0] if len(found) == 1 else aggregate_units(self.task, found)), ""
        except ComparisonError as error:
            return None, str(error)


def task_scores(
    jobs: Sequence[ScoredJob], read_units: Callable[[ScoredJob], Units | None] = attrgetter("units")
) -> dict[str, TaskScore]:
    """Groups the jobs of one model into tasks; a part that never ended belongs where its siblings do."""
    index = load_index()
    owners: dict[str, str] = {}
    for job in jobs:
        if job.aggregate:
            owners |= dict.fromkeys(_expected_parts(job.aggregate, [job.task], index), job.aggregate)
    groups: dict[str, list[ScoredJob]] = {}
    for job in jobs:
        groups.setdefault(owners.get(job.task, job.task), []).append(job)
    found = {}
    for task, members in groups.items():
        names = [job.task for job in members]
        absent = tuple(part for part in _expected_parts(task, names, index) if part not in names)
        found[task] = TaskScore(task, tuple(members), absent, read_units)
    return found


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Name -> "name before -> now", of the values in which two sets of named values differ, such as "seed 42 -> 43"."""
    names = dict.fromkeys([*before, *now])
    return {
        name: f"{name} {before.get(name)!r} -> {now.get(name)!r}" for name in names if before.get(name) != now.get(name)
    }


def _expected_parts(task: str, members: Sequence[str], index: TaskIndex) -> list[str]:
    """The parts that an aggregate should have, known ones first; a plain task is its own only part."""
    if list(members) == [task] or mteb_name(task) not in index:
        return list(members)
    prefix = BEIR_PREFIX if task.startswith(BEIR_PREFIX) else ""
    return list(dict.fromkeys([*members, *(prefix + part for part in index.task(mteb_name(task)).parts)]))


def conditions_of(record: JobRecord) -> dict[str, Any]:
    """What must be the same in two jobs for their scores to be comparable."""
    rules, origin = record.audit.rules.as_dict() if record.audit else {}, record.provenance
    is_bm25 = origin.model is not None and origin.model.words is not None
    if is_bm25:  # no prefix applies, so it compares with models of any protocol
        rules = {"ignore_identical_ids": rules.get("ignore_identical_ids")}
    versions = [f"{name} {origin.versions[name]}" for name in METRIC_DISTRIBUTIONS if name in origin.versions]
    return {
        **({} if is_bm25 else {"protocol": record.protocol}),
        **{f"protocol's {name}": value for name, value in rules.items() if name != "protocol"},
        "dataset": origin.dataset and origin.dataset.name,
        "dataset revision": origin.dataset and origin.dataset.revision,
        "dataset rows": origin.dataset and origin.dataset.rows_sha256,
        IDENTITY_NAME: origin.identity_version,
        "splits": list(record.splits),
        "subsets": list(record.subsets),
        "type": record.type,
        "metric": record.metric,
        "library": record.via,
        "aggregate": record.aggregate,
        "options": dict(origin.options),
        "seed": origin.seed,
        "metric versions": versions,
        "limit": record.limit and {name: n for name, n in record.limit if n},
    }
