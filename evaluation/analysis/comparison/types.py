"""The data of a comparison: tasks as rows, models as columns. All numbers are in points (0-100)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evaluation.analysis.comparison.means import competition_ranks

if TYPE_CHECKING:
    from evaluation.analysis.comparison.places import Field
    from evaluation.analysis.comparison.published import PublishedMatch
    from evaluation.analysis.comparison.stored_types import StoredComparison
    from evaluation.analysis.run_view import RunView
    from evaluation.analysis.statistics.intervals import Interval
    from evaluation.analysis.statistics.paired_tests import Difference
    from evaluation.analysis.statistics.suite_tests import SuiteDifference
    from evaluation.analysis.task_scores import TaskScore
    from evaluation.records.job_record import JobRecord, PeakMemory

AggregateKind = Literal["mean", "common", "type", "type_means", "borda"]


@dataclass(frozen=True, slots=True)
class ComparisonOptions:
    """What to compare, and how.

    Attributes:
        published: Sets published scores beside ours; without any run, compares those alone. A path names a checkout of
            mteb's results repository or an mteb ResultCache, among whose models ours are then ranked.
        models: Labels, or globs of labels, to keep, in this order; empty: all. Globs also choose among the models of a
            results repository, by name.
        only: Globs of tasks to keep; empty: all.
        benchmark: mteb's name of the benchmark that aggregates are made over; None: the one that a run's config names
            unfiltered, or whose tasks are exactly the compared ones, else all compared tasks.
        confidence, alpha, n_resamples, seed: Parameters of intervals and tests.
        intervals: Computes intervals and tests, beside scores and deltas.
        margin: The loss of a stored form that matters, in points.
    """

    published: bool | Path = False
    models: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    benchmark: str | None = None
    confidence: float = 0.95
    alpha: float = 0.05
    n_resamples: int = 10_000
    seed: int = 0
    intervals: bool = True
    margin: float = 1.0


@dataclass(frozen=True, slots=True)
class Speed:
    """What a column's tasks cost, as stored. Cached vectors cost nothing and count no tokens.

    Attributes:
        tokens: Tokens that went through the model.
        encoding_s: Seconds spent encoding, reading cached vectors included.
        total_s: Seconds of all jobs: loading, encoding and scoring.
        hardware: The processor or GPU, where all jobs agree.
        from_cache: Some vectors came from the cache, so that neither figure is the model's own.
        peak: The most memory of a job, where it was measured.
    """

    tokens: int
    encoding_s: float
    total_s: float
    hardware: str | None
    from_cache: bool
    peak: PeakMemory | None = None

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens per second of encoding; None where nothing was encoded."""
        return self.tokens / self.encoding_s if self.tokens and self.encoding_s else None

    @property
    def hours(self) -> float:
        """Hours of all jobs."""
        return self.total_s / 3600


@dataclass(frozen=True, slots=True)
class Column:
    """One model under one protocol, from a run or from a published table.

    Attributes:
        label: Unique in the comparison; with the run's name where two runs share a label.
        run: The run's name, or the published table's.
        folder: The run's folder; None for published scores.
        model: The checkpoint's name, such as intfloat/e5-base.
        settings: Pooling, maximum length, dtype, backend, device; empty for published scores.
        weights: sha256 of the weights, where known.
        limited: Some scores come from a limited run and are not to be reported.
        speed: None for published scores.
        series: The training run that it is a checkpoint of; None if it is in no series.
        step: Its number in the series.
    """

    label: str
    run: str
    folder: Path | None
    model: str
    revision: str | None
    protocol: str
    settings: Mapping[str, object]
    weights: str | None
    limited: bool
    speed: Speed | None
    series: str | None = None
    step: float | None = None

    @property
    def is_published(self) -> bool:
        """Whether others published its scores."""
        return self.folder is None


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one task.

    Attributes:
        score: Main score in points; None where there is none, never 0.
        interval: Confidence interval of the score, in points; None where no samples are stored.
        delta: Score minus the baseline's; None for the baseline itself.
        difference: The same with interval and test; None without samples of both.
        p_adjusted: Two-sided, after Holm's correction over all tests of the table.
        significant: p_adjusted is below the comparison's alpha.
        trained: Whether the task's training data is among the model's; None where that is not known.
        marks: In what the cell differs from the baseline's, or from the row's first score: "protocol", "dataset",
            "split", "metric", "limit". Empty unless `mixed`.
        note: Why there is no score or no interval; empty otherwise.
        stored: What the score was made of; None where the task is not in the run.
        published: Published scores of the same model on the same task, where asked for and known.
    """

    score: float | None = None
    interval: Interval | None = None
    delta: float | None = None
    difference: Difference | None = None
    p_adjusted: float | None = None
    significant: bool = False
    trained: bool | None = None
    marks: tuple[str, ...] = ()
    note: str = ""
    stored: TaskScore | None = None
    published: tuple[PublishedMatch, ...] = ()

    @property
    def records(self) -> tuple[JobRecord, ...]:
        """The stored jobs: one, or the parts of an aggregate task; empty for published scores."""
        return self.stored.records if self.stored is not None else ()


@dataclass(frozen=True, slots=True)
class Row:
    """One task; an aggregate task such as CQADupstackRetrieval is one, with its parts' names.

    Attributes:
        cells: In the order of the comparison's columns.
        differs: In what the row's cells differ, such as "protocol (e5; none)"; empty unless `mixed`.
    """

    task: str
    type: str
    metric: str
    cells: tuple[Cell, ...]
    parts: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()

    @property
    def ranks(self) -> tuple[int | None, ...]:
        """Rank of each cell among the scores as shown (`competition_ranks`)."""
        return competition_ranks([cell.score for cell in self.cells])


@dataclass(frozen=True, slots=True)
class AggregateCell:
    """An aggregate of one column.

    Attributes:
        value: Points, or a rank from 1; None where no task has a score.
        n_tasks: Tasks of the set, missing ones included.
        missing: Tasks of the set without a score here: the value is over the others, and not a fair comparison.
        delta: Value minus the baseline's, where both are over the same tasks; None otherwise and for ranks.
        difference: Over the tasks whose samples are stored, with interval and test; for kinds "mean" and "common" only.
        published: Published averages of the same model over the same benchmark, where asked for and known.
        significant: The p of `tested`, corrected over the columns, is below the comparison's alpha.
    """

    value: float | None
    n_tasks: int
    missing: tuple[str, ...] = ()
    delta: float | None = None
    difference: SuiteDifference | None = None
    published: tuple[PublishedMatch, ...] = ()
    significant: bool = False

    @property
    def n_scored(self) -> int:
        """Number of tasks that the value is over."""
        return self.n_tasks - len(self.missing)

    @property
    def tested(self) -> SuiteDifference | None:
        """The difference, if its test covers all tasks that the value is over; else None."""
        return self.difference if self.difference and self.difference.n_tasks == self.n_scored else None


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A summary over tasks, with a cell per column.

    Attributes:
        name: Such as "Mean over 56 tasks"; "Mean over 50 of 56 tasks" where that holds for every value.
        kind: mean (over all tasks), common (over the tasks that every column has), type (over the tasks of one type),
            type_means (mean of the types' means), borda (rank as mteb defines it).
        type: The task type of kind "type".
    """

    name: str
    kind: AggregateKind
    cells: tuple[AggregateCell, ...]
    type: str | None = None

    @property
    def ranks(self) -> tuple[int | None, ...]:
        """Rank of each complete cell among the values as shown (`competition_ranks`)."""
        values = [None if cell.missing else cell.value for cell in self.cells]
        return competition_ranks(values, lowest_first=self.kind == "borda")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a model stands among all.

    Attributes:
        mean: In points, over the tasks of the standings.
        rank: By the mean.
        ranks: The ranks by the mean that the tests leave possible, all at the comparison's confidence.
        borda: Rank by Borda count.
        borda_ranks: The same for the Borda count.
    """

    label: str
    mean: float
    rank: int
    ranks: tuple[int, int]
    borda: int
    borda_ranks: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models on the tasks that can be tested, in points; the first has the higher mean.

    Attributes:
        p: Two-sided, after Holm's correction over all pairs.
    """

    first: str
    second: str
    difference: SuiteDifference
    p: float


@dataclass(frozen=True, slots=True)
class Standings:
    """All pairs of models.

    Attributes:
        models: The best mean first.
        pairs: Every pair that can be tested.
        groups: Runs of neighbours by the mean that the tests do not separate.
        n_tasks: Tasks of the means: those that can be tested.
        untested: The other tasks on which all models have a score: clustering, tasks without samples or with few units.
    """

    models: tuple[Standing, ...]
    pairs: tuple[Pair, ...]
    groups: tuple[tuple[str, ...], ...]
    n_tasks: int
    untested: tuple[str, ...]

    def pair(self, first: str, second: str) -> Pair | None:
        """Returns the pair of two labels, whatever their order; None where it cannot be tested."""
        return next((pair for pair in self.pairs if {pair.first, pair.second} == {first, second}), None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that tables and reports show of one or several runs.

    Attributes:
        name: The names of the runs, joined.
        benchmark: mteb's benchmark that the aggregates are over; None: all compared tasks.
        baseline: Label of the column that the others are compared with; None: no differences.
        mixed: Rows whose columns differ in protocol, dataset or metric version were allowed.
        notes: Sentences to print below: protocols, what is mixed, missing, limited, how intervals were made.
        runs: The stored runs that were compared.
        standings: All models against each other on the tasks that all have; None where that cannot be tested.
        field: Our models among all of a results repository, where one was named.
        stored: The stored forms of models, where there are any.
    """

    name: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    aggregates: tuple[Aggregate, ...]
    benchmark: str | None
    baseline: str | None
    mixed: bool
    options: ComparisonOptions
    notes: tuple[str, ...]
    runs: tuple[RunView, ...] = ()
    standings: Standings | None = None
    field: Field | None = None
    stored: StoredComparison | None = None

    def __repr__(self) -> str:
        """One line: what is compared."""
        labels = ", ".join(column.label for column in self.columns)
        return f"Comparison({self.name}: {labels}; {len(self.rows)} tasks, baseline {self.baseline})"

    def _repr_html_(self) -> str:
        """A table for notebooks: a row per task and aggregate, a column per model, in points."""
        head = "".join(f"<th>{escape(column.label)}</th>" for column in self.columns)
        scored = [(row.task, [cell.score for cell in row.cells]) for row in self.rows]
        scored += [(aggregate.name, [cell.value for cell in aggregate.cells]) for aggregate in self.aggregates]
        rows = [
            f"<tr><th>{escape(name)}</th>"
            + "".join(f"<td>{'' if score is None else f'{score:.2f}'}</td>" for score in scores)
            + "</tr>"
            for name, scores in scored
        ]
        return f"<table><caption>{escape(repr(self))}</caption><tr><th></th>{head}</tr>{''.join(rows)}</table>"

    def column(self, label: str) -> int:
        """The position of a label; KeyError if no column has it."""
        for position, column in enumerate(self.columns):
            if column.label == label:
                return position
        raise KeyError(label)
