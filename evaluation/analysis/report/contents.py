"""Gathers everything that a report shows from stored runs. Reads records only; knows no page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.analysis.comparison.columns import read_columns
from evaluation.analysis.comparison.compare import compare_models
from evaluation.analysis.comparison.published import load_published
from evaluation.analysis.comparison.types import Comparison, ComparisonOptions
from evaluation.analysis.report.answer import Answer, answer
from evaluation.analysis.report.input_audit import LengthRow, TaskAudit, audit_tasks, length_rows
from evaluation.analysis.report.provenance import RunOrigin, run_origin
from evaluation.analysis.report.score_grid import Grid, score_grid
from evaluation.analysis.report.sizes import Sizes, sizes
from evaluation.analysis.report.wins import Duel, ScoredTask, duel, scored_task
from evaluation.records.job_record import JobRecord
from evaluation.tasks.types import TASK_CLASS_BY_TYPE

_ALL_PAIRS = 3
"""Up to this many models, every pair is shown."""
_RANKED = "AbsTaskRetrieval"
PHASES = {"loading_s": "loading", "encoding_s": "encoding", "scoring_s": "scoring"}


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a page shows."""

    comparison: Comparison
    answer: Answer
    grid: Grid
    audits: tuple[TaskAudit, ...]
    lengths: tuple[LengthRow, ...]
    seconds: Mapping[str, Mapping[str, float]]
    scored: tuple[ScoredTask, ...]
    duels: tuple[Duel, ...]
    origins: tuple[RunOrigin, ...]
    sizes: Sizes | None


def gather(runs: Sequence[str | Path], *, baseline: str | None = None) -> Report:
    """Reads everything that a report shows.

    Args:
        runs: Folders of runs, such as results/quickstart.
        baseline: Label that the other models are compared with; None: the first.

    Raises:
        StoreError: A folder is not a run.
        ComparisonError: An unknown label; runs that can't be compared.
    """
    options, published = ComparisonOptions(published=True), load_published()
    models = read_columns(runs, published.rows)
    for view in dict.fromkeys(model.view for model in models if model.view is not None):
        view.check_files()
    baseline = baseline or models[0].label
    comparison = compare_models(models, baseline=baseline, mixed=True, options=options, published=published)
    origins = tuple(run_origin(view) for view in comparison.runs)
    records = _labelled_records(comparison)
    scored = _scored_tasks(comparison)
    pairs = compared_pairs(comparison, scored)
    n_queries = 3 if len(pairs) <= 12 else 2 if len(pairs) <= 24 else 1
    return Report(
        comparison=comparison,
        answer=answer(comparison),
        grid=score_grid(comparison),
        audits=tuple(audit_tasks(records)),
        lengths=tuple(length_rows(records)),
        seconds=_seconds(records),
        scored=tuple(scored),
        duels=tuple(duel(first, second, n_queries=n_queries) for first, second in pairs),
        origins=origins,
        sizes=sizes(comparison),
    )


def _labelled_records(comparison: Comparison) -> list[JobRecord]:
    """All records in the order of tasks, each with the label that the comparison gives its column."""
    return [
        record.model_copy(update={"label": column.label})
        for row in comparison.rows
        for column, cell in zip(comparison.columns, row.cells, strict=True)
        for record in cell.records
    ]


def _scored_tasks(comparison: Comparison) -> list[ScoredTask]:
    found = [
        scored_task(column.folder, column.label, job.record, cell.stored.read_units(job))
        for row in comparison.rows
        for column, cell in zip(comparison.columns, row.cells, strict=True)
        for job in (cell.stored.jobs if cell.stored is not None else ())
        if column.folder is not None and job.record is not None and job.record.state == "done"
        if cell.stored is not None and TASK_CLASS_BY_TYPE.get(job.record.type) == _RANKED
    ]
    return [scored for scored in found if scored is not None]


def compared_pairs(comparison: Comparison, scored: Sequence[ScoredTask]) -> list[tuple[ScoredTask, ScoredTask]]:
    """The pairs of models that are set against each other on each task.

    With up to three models these are all pairs; with more, the best rival against the baseline and against the next.
    """
    by_task: dict[str, dict[str, ScoredTask]] = {}
    for one in scored:
        by_task.setdefault(one.task, {})[one.label] = one
    pairs = []
    for found in by_task.values():
        labels = list(found)
        if len(labels) > _ALL_PAIRS:
            mean = {label: sum(found[label].scores.values()) / max(len(found[label].scores), 1) for label in labels}
            rivals = sorted((label for label in labels if label != comparison.baseline), key=lambda label: -mean[label])
            first = comparison.baseline if comparison.baseline in found else rivals.pop(0)
            pairs += [(found[rivals[0]], found[str(first)]), (found[rivals[0]], found[rivals[1]])]
        else:
            pairs += [(found[b], found[a]) for i, a in enumerate(labels) for b in labels[i + 1 :]]
    return pairs


def _seconds(records: Sequence[JobRecord]) -> dict[str, dict[str, float]]:
    """Label -> phase -> seconds over all tasks."""
    found: dict[str, dict[str, float]] = {}
    for record in records:
        if record.timing is not None:
            phases = found.setdefault(record.label, dict.fromkeys(PHASES.values(), 0.0))
            for key, phase in PHASES.items():
                phases[phase] += max(float(getattr(record.timing, key)), 0.0)
    return found
