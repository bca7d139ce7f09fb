"""What a comparison is made of: the columns of stored runs and of published tables, with a result a task.

Reads run folders and CSV files; compares nothing. Scores are in points.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from evaluation.errors import ComparisonError, StoreError
from evaluation.jobs import METRIC_DISTRIBUTIONS
from evaluation.protocols import DEV_TASKS
from evaluation.records.job_record import JobRecord
from evaluation.records.run_manifest import ListedJob
from evaluation.records.store import RUN_FILE, RunStore
from evaluation.tasks.index import TaskIndex, load_index
from evaluation.tasks.selection import BEIR_TASKS

PUBLISHED_COLUMNS = (
    *("model", "source", "revision", "protocol", "task", "task_type"),
    *("split", "subset", "metric", "main_score"),
)
_BEIR_PREFIX = "beir-"
_SOURCE_NAMES = {"MTEB results repository": "MTEB", "model card": "card"}


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """One row of a published table, in points."""

    model: str
    source: str
    revision: str
    protocol: str
    task: str
    type: str
    split: str
    subset: str
    metric: str
    score: float


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One column's result of one task, of all its parts where it is an aggregate.

    Attributes:
        score: In points; None where it has none.
        note: Why it has none.
        identity: What must agree for scores to be comparable, by name: "dataset", "split", "metric", "limit". A value
            that is not known, as in published tables, is left out.
    """

    task: str
    type: str
    metric: str
    score: float | None
    note: str = ""
    parts: tuple[str, ...] = ()
    records: tuple[JobRecord, ...] = ()
    identity: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """A column before it is compared.

    Attributes:
        run: The run's name, or the published table's.
        store: The run; None for published scores.
        benchmarks: Benchmarks that the run's config names without a filter.
        results: Task -> result, in the run's order.
    """

    label: str
    run: str
    store: RunStore | None
    model: str
    revision: str | None
    protocol: str
    benchmarks: tuple[str, ...]
    results: Mapping[str, TaskResult]

    @property
    def records(self) -> list[JobRecord]:
        """All records behind the results that have a score."""
        return [record for result in self.results.values() if result.score is not None for record in result.records]


def mteb_name(task: str) -> str:
    """mteb's name of the task with the same data as a task that runs through beir; other names as they are."""
    own = task.removeprefix(_BEIR_PREFIX) if task.startswith(_BEIR_PREFIX) else task
    return BEIR_TASKS.get(own, own)


def read_sources(path: Path) -> list[Source]:
    """The columns of a run's folder, or of a published table.

    Raises:
        ComparisonError: It is neither.
    """
    if path.is_file():
        return published_sources(read_published([path]), run=path.stem)
    if not (path / RUN_FILE).is_file():
        what = "holds no run.json" if path.is_dir() else "does not exist"
        raise ComparisonError(
            f"{path} is no run: it {what}. Name the folder of a run, such as results/quickstart, or a table of "
            "published scores, such as results/published/mteb_scores.csv."
        )
    return _run_sources(RunStore(path))


# ------------------------------------------------------------------------------------------------------------- runs


def _run_sources(store: RunStore) -> list[Source]:
    try:
        run = store.read_run()
    except StoreError as error:
        raise ComparisonError(str(error)) from error
    index, benchmarks = load_index(), _whole_benchmarks(run.config)
    sources = []
    for label in dict.fromkeys(job.label for job in run.jobs):
        jobs = [job for job in run.jobs if job.label == label]
        found = {job.task: store.load(label, job.task, job.fingerprint, complete=False) for job in jobs}
        records = {task: record for task, record in found.items() if record is not None}
        model = next((r.provenance.model for r in records.values() if r.provenance.model is not None), None)
        sources.append(
            Source(
                label=label,
                run=run.name,
                store=store,
                model=model.name if model else _declared(run.config, label),
                revision=model.revision if model else None,
                protocol=jobs[0].protocol,
                benchmarks=benchmarks,
                results=_task_results(jobs, records, index),
            )
        )
    return sources


def _declared(config: Mapping[str, Any], label: str) -> str:
    models = config.get("models", [])
    return str(next((model["model"] for model in models if model.get("label") == label), label))


def _whole_benchmarks(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Benchmarks that the config takes as they are."""
    entries = config.get("tasks", [])
    filters = ("types", "languages", "only", "exclude")
    return tuple(
        entry["mteb_benchmark"]
        for entry in entries
        if "mteb_benchmark" in entry and not any(entry.get(name) for name in filters)
    )


def _task_results(
    jobs: Sequence[ListedJob], records: Mapping[str, JobRecord], index: TaskIndex
) -> dict[str, TaskResult]:
    """A result a task, aggregates as one; jobs without a record have none and say so."""
    groups: dict[str, list[str]] = {}
    owners = _owners(records.values(), index)
    for job in jobs:
        groups.setdefault(owners.get(job.task, job.task), []).append(job.task)
    types = {job.task: job.type for job in jobs}
    results = {}
    for task, members in groups.items():
        expected = expected_parts(task, members, index)
        own = [records[member] for member in members if member in records]
        gone = [part for part in expected if records.get(part) is None or records[part].state != "done"]
        if gone:
            results[task] = _unscored(task, types[members[0]], own, gone, is_aggregate=task not in members)
        else:
            results[task] = _scored(task, own)
    return results


def _owners(records: Iterable[JobRecord], index: TaskIndex) -> dict[str, str]:
    """Part -> aggregate, also for parts that have no record, as long as one of their siblings has."""
    owners: dict[str, str] = {}
    for record in records:
        if record.aggregate:
            owners |= dict.fromkeys(expected_parts(record.aggregate, [record.task], index), record.aggregate)
    return owners


def expected_parts(task: str, members: Sequence[str], index: TaskIndex) -> list[str]:
    """The parts an aggregate should have, those it has (`members`) first; a plain task is its own only part."""
    if list(members) == [task] or mteb_name(task) not in index:
        return list(members)
    prefix = _BEIR_PREFIX if task.startswith(_BEIR_PREFIX) else ""
    return list(dict.fromkeys([*members, *(prefix + part for part in index.task(mteb_name(task)).parts)]))


def _unscored(
    task: str, task_type: str, records: Sequence[JobRecord], gone: Sequence[str], *, is_aggregate: bool
) -> TaskResult:
    errors = [record.error.message for record in records if record.error]
    alone = f"failed: {errors[0]}" if errors else "not run"
    note = f"no score of {', '.join(gone)}" if is_aggregate else alone
    metric = records[0].metric if records else ""
    return TaskResult(task, task_type, metric, None, note, records=tuple(records))


def _scored(task: str, records: Sequence[JobRecord]) -> TaskResult:
    scores = [record.main_score for record in records if record.main_score is not None]
    first = records[0]
    return TaskResult(
        task=task,
        type=first.type,
        metric=first.metric,
        score=100 * fmean(scores),
        parts=tuple(record.task for record in records) if first.aggregate else (),
        records=tuple(records),
        identity=_identity(records),
    )


def _identity(records: Sequence[JobRecord]) -> dict[str, str]:
    datasets, places, metrics = [], [], set()
    for record in records:
        dataset, options = record.provenance.dataset, record.provenance.options or ""
        if dataset is not None:
            datasets.append(f"{dataset.name} at {str(dataset.revision)[:14]}{options}")
        places.append(f"{', '.join(record.splits)}: {', '.join(record.subsets)}")
        versions = record.provenance.versions
        used = [f"{name} {versions[name]}" for name in METRIC_DISTRIBUTIONS if name in versions]
        metrics.add(f"{record.metric} by {', '.join(used)}")
    limits = {", ".join(f"{n} {what}" for what, n in record.limit if n) for record in records if record.limit}
    return {
        "dataset": "; ".join(datasets),
        "split": "; ".join(dict.fromkeys(places)),
        "metric": "; ".join(sorted(metrics)),
        "limit": "; ".join(sorted(limits)) or "none",
    }


# -------------------------------------------------------------------------------------------------------- published


def read_published(files: Iterable[Path]) -> list[PublishedScore]:
    """The rows of published tables.

    Raises:
        ComparisonError: A file can't be read, lacks a column, or a row has no source or no number; names file and line.
    """
    rows: list[PublishedScore] = []
    for file in files:
        try:
            with file.open(encoding="utf-8", newline="") as stream:
                reader = csv.DictReader(stream)
                absent = [name for name in PUBLISHED_COLUMNS if name not in (reader.fieldnames or ())]
                if absent:
                    raise ComparisonError(
                        f"{file} is no table of published scores: it has no column {', '.join(absent)} "
                        f"(wanted: {', '.join(PUBLISHED_COLUMNS)})."
                    )
                rows += [_published_score(row, file, reader.line_num) for row in reader]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ComparisonError(f"{file} can't be read: {error}.") from error
    return rows


def _published_score(row: Mapping[str, str | None], file: Path, line: int) -> PublishedScore:
    try:
        score = float(row["main_score"] or "")
    except ValueError:
        score = float("nan")
    if not row["source"] or not isfinite(score) or abs(score) > 1:
        wanted = "a main_score from -1 to 1" if row["source"] else "a source"
        raise ComparisonError(f"{file}, line {line}: a published score needs {wanted} (found {row['main_score']!r}).")
    text = {name: row[name] or "" for name in PUBLISHED_COLUMNS}
    return PublishedScore(
        **{name: text[name] for name in ("model", "source", "revision", "protocol", "task", "split", "subset")},
        type=text["task_type"],
        metric=text["metric"],
        score=100 * score,
    )


def published_sources(rows: Sequence[PublishedScore], *, run: str) -> list[Source]:
    """Published scores as columns: one a model and protocol; averages over a whole benchmark are left out."""
    index = load_index()
    tables: dict[tuple[str, str], list[PublishedScore]] = {}
    for row in rows:
        if row.task in index:
            tables.setdefault((row.model, row.protocol), []).append(row)
    labels = {key: f"{key[0].rpartition('/')[2]} {_source_name(own)}" for key, own in tables.items()}
    counts = Counter(labels.values())
    return [
        Source(
            label=f"{label} {protocol}" if counts[label := labels[model, protocol]] > 1 else label,
            run=run,
            store=None,
            model=model,
            revision=next((row.revision for row in own if row.revision != "external"), None),
            protocol=protocol,
            benchmarks=(),
            results={task: _published_result(own, task) for task in dict.fromkeys(row.task for row in own)},
        )
        for (model, protocol), own in tables.items()
    ]


def _source_name(rows: Sequence[PublishedScore]) -> str:
    source = rows[0].source
    return next((short for start, short in _SOURCE_NAMES.items() if source.startswith(start)), source)


def _published_result(rows: Sequence[PublishedScore], task: str) -> TaskResult:
    own = chosen_splits([row for row in rows if row.task == task])
    return TaskResult(
        task=task,
        type=own[0].type,
        metric=own[0].metric,
        score=fmean(row.score for row in own),
        identity={"split": published_places(own)},
    )


def chosen_splits(rows: Sequence[PublishedScore]) -> list[PublishedScore]:
    """The rows of the split that counts: test (dev for MSMARCO), or all where the table has no such split."""
    wanted = "dev" if rows and rows[0].task in DEV_TASKS else "test"
    return [row for row in rows if row.split == wanted] or list(rows)


def published_places(rows: Sequence[PublishedScore]) -> str:
    """Splits and subsets in the words of `TaskResult.identity`."""
    splits, subsets = dict.fromkeys(row.split for row in rows), dict.fromkeys(row.subset for row in rows)
    return f"{', '.join(splits)}: {', '.join(subsets)}"
