"""Runs -> one comparison: a row per task, a column per model. Renders nothing."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evaluation.analysis.comparison.columns import ScoredModel, chosen, column, position_of, read_columns
from evaluation.analysis.comparison.comparability import differences, faults, marks
from evaluation.analysis.comparison.evidence import Evidence, Finding
from evaluation.analysis.comparison.field import place_among
from evaluation.analysis.comparison.notes import comparison_notes
from evaluation.analysis.comparison.published import PublishedScores, load_published
from evaluation.analysis.comparison.results_repository import ResultsRepository, read_repository
from evaluation.analysis.comparison.stored_rows import compare_stored
from evaluation.analysis.comparison.summaries import benchmark_tasks, summarize
from evaluation.analysis.comparison.types import Aggregate, Cell, Comparison, ComparisonOptions, Row, Standings
from evaluation.analysis.task_scores import TaskScore
from evaluation.errors import ComparisonError
from evaluation.models.names import original_name
from evaluation.models.training_data import trained_on
from evaluation.tasks.beir_names import mteb_name

_REMEDY = (
    "Use --model to choose columns that agree, or add --mixed to see them together, marked; a difference then "
    "reflects more than the models."
)


def compare(
    runs: Sequence[str | Path] | str | Path,
    *,
    baseline: str | None = None,
    mixed: bool = False,
    options: ComparisonOptions | None = None,
) -> Comparison:
    """Compares the models of runs.

    Args:
        runs: Folders of runs, such as results/quickstart, and published tables (CSV files).
        baseline: Label of the column that the others are compared with.
        mixed: Allows rows whose columns differ in protocol, dataset, split, metric or limit; they are marked.
        options: What to compare, and how intervals and tests are made.

    Raises:
        ComparisonError: A path is not a run; an unknown label, task or benchmark; columns that may not be compared
            without `mixed`; samples of a task that do not pair.
        DamagedFileError: A stored file is missing or is not what was written.
        SchemaVersionError: A run was written by another version.

    Example:
        >>> comparison = compare("results/quickstart", baseline="MiniLM-L6")
        >>> [(row.task, row.cells[0].score, row.cells[0].delta) for row in comparison.rows]
    """
    options = options or ComparisonOptions()
    paths = [runs] if isinstance(runs, str | Path) else runs
    if isinstance(options.published, Path):
        return _compare_with_all(paths, options.published, baseline=baseline, mixed=mixed, options=options)
    published = load_published() if options.published else None
    models = read_columns(paths, published.rows if published else ())
    return compare_models(models, baseline=baseline, mixed=mixed, options=options, published=published)


def _compare_with_all(
    paths: Sequence[str | Path], folder: Path, *, baseline: str | None, mixed: bool, options: ComparisonOptions
) -> Comparison:
    """The comparison with a results repository; a pattern that matches models of it chooses among these."""
    repository = read_repository(folder)
    globs = [glob for glob in options.models if fnmatch.filter(repository.models, glob)]
    repository = repository.among(globs)
    if not paths:
        published = PublishedScores(repository.scores())
        alone = replace(options, models=tuple(glob for glob in options.models if glob not in globs))
        return compare_models(
            read_columns([], published.rows), baseline=baseline, mixed=mixed, options=alone, published=published
        )
    models = read_columns(paths)
    own = tuple(glob for glob in options.models if glob not in globs or fnmatch.filter([m.label for m in models], glob))
    names = {original_name(model.model) for model in models if model.view is not None}
    return compare_models(
        models,
        baseline=baseline,
        mixed=mixed,
        options=replace(options, models=own),
        published=PublishedScores(repository.scores(names)),
        repository=repository,
    )


def compare_models(
    models: list[ScoredModel],
    *,
    baseline: str | None,
    mixed: bool,
    options: ComparisonOptions,
    published: PublishedScores | None = None,
    repository: ResultsRepository | None = None,
) -> Comparison:
    """Compares models that were read already; the arguments and errors of `compare`.

    Args:
        models: With unique labels, as `read_columns` returns them.
        baseline: Label of the column that the others are compared with.
        mixed: Allows rows whose columns differ in what makes scores comparable.
        options: What to compare, and how.
        published: Published scores to set beside ours.
        repository: All models among which ours are ranked.
    """
    models = chosen(models, options.models)
    tasks = _tasks(models, options)
    position = position_of(models, baseline)
    sentences = faults(models, tasks)
    if sentences and not mixed:
        raise ComparisonError("\n".join([*sentences[:-1], f"{sentences[-1]} {_REMEDY}"]))
    evidence = Evidence(models, position, options)
    evidence.examine(tasks)
    rows = _adjusted([_row(models, task, position, evidence, published) for task in tasks], options.alpha)
    benchmark, aggregates = summarize(models, rows, position, evidence, published)
    comparison = Comparison(
        name=", ".join(dict.fromkeys(model.run for model in models)),
        columns=tuple(column(model, tasks) for model in models),
        rows=rows,
        aggregates=aggregates,
        benchmark=benchmark,
        baseline=baseline,
        mixed=mixed,
        options=options,
        notes=(),
        runs=tuple(dict.fromkeys(model.view for model in models if model.view is not None)),
        standings=_standings(models, rows, aggregates, evidence),
        field=place_among(models, rows, evidence, repository) if repository is not None else None,
        stored=compare_stored(models, tasks, evidence, options.margin),
    )
    return replace(comparison, notes=comparison_notes(comparison, sentences))


def _standings(
    models: Sequence[ScoredModel], rows: Sequence[Row], aggregates: Sequence[Aggregate], evidence: Evidence
) -> Standings | None:
    """All pairs of runs; None without intervals or with fewer than two runs, which need no numpy."""
    if not evidence.options.intervals or sum(model.view is not None for model in models) < 2:
        return None
    from evaluation.analysis.comparison.standings import common_tasks, compare_all_pairs, tested_columns

    columns = tested_columns(models, [row.task for row in rows])
    return compare_all_pairs(models, columns, common_tasks(columns, rows, aggregates), evidence)


def _tasks(models: Sequence[ScoredModel], options: ComparisonOptions) -> list[str]:
    """The tasks that were asked for, in the order in which they appear, those of one type together."""
    globs = options.only
    members = benchmark_tasks(options.benchmark) if options.benchmark is not None else None
    types = {name: task.type for model in models for name, task in model.tasks.items()}
    kinds = list(dict.fromkeys(types.values()))
    tasks = sorted(types, key=lambda task: kinds.index(types[task]))
    kept = [
        task
        for task in tasks
        if (not globs or any(fnmatch.fnmatchcase(task, glob) for glob in globs))
        and (members is None or mteb_name(task) in members)
    ]
    if not kept:
        known = ", ".join(tasks[:20]) or "none"
        wanted = ", ".join([*globs, *([options.benchmark] if options.benchmark else [])]) or "anything"
        raise ComparisonError(f"There is nothing to compare: no task matches {wanted} (tasks: {known}).")
    return kept


def _row(
    models: Sequence[ScoredModel],
    name: str,
    baseline: int | None,
    evidence: Evidence,
    published: PublishedScores | None,
) -> Row:
    tasks = [model.tasks.get(name) for model in models]
    conditions = [task.conditions if task is not None else {} for task in tasks]
    first = next((own for own in conditions if own), {})
    reference = (conditions[baseline] if baseline is not None else None) or first
    against = models[baseline].tasks.get(name) if baseline is not None else None
    cells = []
    for at, (model, finding) in enumerate(zip(models, evidence.row(name), strict=True)):
        cell = _cell(model, name, against if at != baseline else None, finding, published)
        cells.append(replace(cell, marks=marks(reference, conditions[at])))
    known = [task for task in tasks if task is not None]
    shown = next((task for task in known if task.score is not None), known[0])
    return Row(
        task=name,
        type=shown.type,
        metric=shown.metric,
        cells=tuple(cells),
        parts=shown.parts,
        differs=tuple(f"{aspect} ({'; '.join(values)})" for aspect, values in differences(models, name).items()),
    )


def _cell(
    model: ScoredModel, name: str, baseline: TaskScore | None, finding: Finding, published: PublishedScores | None
) -> Cell:
    task = model.tasks.get(name)
    if task is None:
        return Cell(note="not in this run")
    trained = _trained(model.model, task)
    if task.points is None:
        return Cell(note=task.note, stored=task, trained=trained)
    return Cell(
        score=task.points,
        interval=finding.interval,
        delta=task.points - baseline.points if baseline is not None and baseline.points is not None else None,
        difference=finding.difference,
        trained=trained,
        note=finding.note,
        stored=task,
        published=published.matches(model.model, model.protocol, task, finding.interval)
        if published is not None and model.view is not None
        else (),
    )


def _trained(model: str, task: TaskScore) -> bool | None:
    seen = trained_on(model)
    return None if seen is None else any(mteb_name(name) in seen for name in (task.task, *task.parts))


def _adjusted(rows: Sequence[Row], alpha: float) -> tuple[Row, ...]:
    """Corrects p by Holm's method over all tests of the table."""
    if not any(cell.difference for row in rows for cell in row.cells):
        return tuple(rows)
    from evaluation.analysis.statistics.corrections import holm

    cells = [cell for row in rows for cell in row.cells]
    p_values = holm([cell.difference.p_two_sided if cell.difference else None for cell in cells])
    corrected = iter(
        replace(cell, p_adjusted=p, significant=p is not None and p < alpha)
        for cell, p in zip(cells, p_values, strict=True)
    )
    return tuple(replace(row, cells=tuple(next(corrected) for _ in row.cells)) for row in rows)
