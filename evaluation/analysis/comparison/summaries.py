"""The summary rows of a comparison: means, means of types and Borda ranks, over a benchmark or all compared tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from evaluation.analysis.comparison.columns import ScoredModel
from evaluation.analysis.comparison.evidence import Evidence
from evaluation.analysis.comparison.means import Mean, borda_ranks, mean_of_type_means, mean_over_tasks, means_by_type
from evaluation.analysis.comparison.published import PublishedScores
from evaluation.analysis.comparison.types import Aggregate, AggregateCell, AggregateKind, Row
from evaluation.analysis.task_scores import TaskScore
from evaluation.errors import ComparisonError
from evaluation.tasks.beir_names import mteb_name
from evaluation.tasks.index import load_index


def benchmark_tasks(name: str) -> dict[str, str]:
    """A benchmark's tasks with their types, in mteb's order.

    Raises:
        ComparisonError: mteb has no such benchmark.
    """
    index = load_index()
    try:
        return {task.name: index.task(task.name).type for task in index.benchmark(name)}
    except KeyError:
        near = index.nearest_benchmarks(name)
        raise ComparisonError(
            f"--benchmark {name!r}: mteb has no benchmark of this name. Nearest: {', '.join(near) or 'none'}."
        ) from None


def summarize(
    sources: Sequence[ScoredModel],
    rows: Sequence[Row],
    baseline: int | None,
    evidence: Evidence,
    published: PublishedScores | None,
) -> tuple[str | None, tuple[Aggregate, ...]]:
    """The benchmark that the summaries are over (None: all rows), and the summaries; none for a single task."""
    benchmark, types = _tasks_that_count(sources, rows, evidence.options.benchmark, whole=not evidence.options.only)
    if len(types) < 2:
        return benchmark, ()
    row_of = _rows_by_task(rows, types)
    subsets = {task.name: task.subsets for task in load_index().benchmark(benchmark)} if benchmark else {}
    scores = [
        {
            task: score
            for task, row in row_of.items()
            if (score := row.cells[column].score) is not None
            and _are_the_benchmarks(source.tasks[row.task], subsets.get(task))
        }
        for column, source in enumerate(sources)
    ]
    builder = _Builder(sources, {task: row.task for task, row in row_of.items()}, scores, baseline)
    common = [task for task in types if all(task in own for own in scores)]
    kinds = dict.fromkeys(types.values())
    by_type = 1 < len(kinds) < len(types)  # else they repeat the rows, or the mean over all
    per_model = [means_by_type(own, types) for own in scores]
    of_types = {kind: [own[kind] for own in per_model] for kind in kinds if by_type}
    aggregates = [
        builder.means(f"Mean of {_counted(means)} {kind}", "type", means, kind) for kind, means in of_types.items()
    ]
    over_all = [mean_over_tasks(own, list(types)) for own in scores]
    whole = builder.means(f"Mean over {_counted(over_all)} task{'s' * (len(types) != 1)}", "mean", over_all)
    aggregates.append(builder.with_evidence(whole, list(types), evidence, published))
    if any(set(own) & set(types) != set(common) for own in scores) and len(common) > 1:
        name = f"Mean over the {len(common)} tasks of all"
        shared = builder.means(name, "common", [mean_over_tasks(own, common) for own in scores])
        aggregates.append(builder.with_evidence(shared, common, evidence, None))
    if by_type:
        means = [mean_of_type_means(own, types) for own in scores]
        aggregates.append(builder.means("Mean of type means", "type_means", means))
    if len(sources) > 1:
        aggregates.append(_borda(scores, list(types)))
    return benchmark, tuple(aggregates)


def _counted(means: Sequence[Mean]) -> str:
    """The number of tasks of means over one set, such as "3"; "2 of 3" where each is over two of them."""
    n_tasks = means[0].n_tasks
    n_scored = {n_tasks - len(mean.missing) for mean in means if mean.value is not None}
    return f"{n_scored.pop()} of {n_tasks}" if len(n_scored) == 1 and n_tasks not in n_scored else str(n_tasks)


class _Builder:
    """Aggregates of one comparison: its columns, the rows' tasks and the scores that count."""

    def __init__(
        self,
        sources: Sequence[ScoredModel],
        tasks: Mapping[str, str],
        scores: Sequence[Mapping[str, float]],
        baseline: int | None,
    ) -> None:
        self._sources, self._tasks, self._scores, self._baseline = sources, tasks, scores, baseline

    def means(self, name: str, kind: AggregateKind, means: Sequence[Mean], type_: str | None = None) -> Aggregate:
        """One cell per column, with the difference to the baseline's where both are over the same tasks."""
        against = means[self._baseline] if self._baseline is not None else None
        cells = []
        for column, mean in enumerate(means):
            delta = None
            if against is not None and column != self._baseline and mean.missing == against.missing:
                delta = mean.value - against.value if mean.value is not None and against.value is not None else None
            cells.append(AggregateCell(mean.value, mean.n_tasks, mean.missing, delta))
        return Aggregate(name, kind, tuple(cells), type_)

    def with_evidence(
        self, aggregate: Aggregate, tasks: Sequence[str], evidence: Evidence, published: PublishedScores | None
    ) -> Aggregate:
        """Adds tests over the aggregate's tasks, and published averages over the same tasks."""
        cells = []
        for column, cell in enumerate(aggregate.cells):
            source, difference, matches = self._sources[column], None, cell.published
            if cell.delta is not None and self._baseline is not None:
                own = [self._tasks[task] for task in tasks if task in self._tasks and task not in cell.missing]
                difference = evidence.suite(column, own)
            limited = any(record.limit for record in source.records)
            if published and source.view and not limited and not cell.missing and cell.value is not None:
                names = [mteb_name(task) for task in tasks]
                matches = published.average(source.model, source.protocol, names, cell.value)
            cells.append(AggregateCell(cell.value, cell.n_tasks, cell.missing, cell.delta, difference, matches))
        p_values = [cell.tested.p_two_sided if cell.tested is not None else None for cell in cells]
        if any(p is not None for p in p_values):
            from evaluation.analysis.statistics.corrections import holm

            alpha = evidence.options.alpha
            cells = [
                replace(cell, significant=p is not None and p < alpha)
                for cell, p in zip(cells, holm(p_values), strict=True)
            ]
        return Aggregate(aggregate.name, aggregate.kind, tuple(cells), aggregate.type)


def _borda(scores: Sequence[Mapping[str, float]], tasks: Sequence[str]) -> Aggregate:
    cells = [
        AggregateCell(rank, len(tasks), tuple(task for task in tasks if task not in own))
        for rank, own in zip(borda_ranks(scores, tasks), scores, strict=True)
    ]
    return Aggregate("Rank (Borda)", "borda", tuple(cells))


def _tasks_that_count(
    sources: Sequence[ScoredModel], rows: Sequence[Row], asked: str | None, *, whole: bool
) -> tuple[str | None, dict[str, str]]:
    """The benchmark and task -> type: the benchmark's tasks under mteb's names, or the rows' under their own."""
    compared = {row.task: row.type for row in rows}
    if asked is not None:
        return load_index().benchmark_entry(asked).name, benchmark_tasks(asked)
    index = load_index()
    if len(compared) > 1 and whole:
        declared = {name for source in sources for name in source.benchmarks}
        own = {mteb_name(task) for task in compared}
        exact = [name for name in index.benchmark_names if {task.name for task in index.benchmark(name)} == own]
        found = sorted(declared) if len(declared) == 1 else exact[:1]
        if found:
            return index.benchmark_entry(found[0]).name, benchmark_tasks(found[0])
    return None, compared


def _are_the_benchmarks(task: TaskScore, wanted: tuple[str, ...] | None) -> bool:
    """Whether a score is over the subsets that the benchmark names; else its task counts as missing."""
    return wanted is None or {name for job in task.jobs for name in job.conditions["subsets"]} == set(wanted)


def _rows_by_task(rows: Sequence[Row], tasks: Mapping[str, str]) -> dict[str, Row]:
    """The row of each task that counts; a run of a task by mteb itself comes before one through beir."""
    found: dict[str, Row] = {}
    for row in rows:
        name = row.task if row.task in tasks else mteb_name(row.task)
        if name in tasks and (name not in found or row.task == name):
            found[name] = row
    return found
