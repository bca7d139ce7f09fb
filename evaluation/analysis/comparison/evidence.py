"""Intervals and tests of a comparison, in points, from stored samples. Reads and jackknifes each sample once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from evaluation.analysis.comparison.columns import ScoredModel
from evaluation.analysis.comparison.comparability import marks
from evaluation.analysis.comparison.types import ComparisonOptions
from evaluation.analysis.run_view import MANY_JOBS
from evaluation.analysis.task_scores import TaskScore
from evaluation.errors import ComparisonError
from evaluation.system.forked_map import map_forked

if TYPE_CHECKING:
    from evaluation.analysis.statistics.intervals import Interval
    from evaluation.analysis.statistics.paired_tests import Difference, Sample
    from evaluation.analysis.statistics.suite_tests import SuiteDifference
    from evaluation.analysis.statistics.units import Units

ALGORITHM = "algorithm"


class Finding(NamedTuple):
    """What the samples of one model on one task say, in points.

    Attributes:
        interval: Of the score; None where `note` says why.
        difference: To the baseline; None where there is no test.
        note: Why something is missing, or what it means.
    """

    interval: Interval | None = None
    difference: Difference | None = None
    note: str = ""


class _Examined(NamedTuple):
    """What the samples of a task say: all that is read and tested without a look at other tasks.

    Attributes:
        samples: Of each column; None where it has none.
        notes: Why a column has none.
        intervals: See `Evidence._intervals`.
        differences: See `Evidence._compare`.
        units: Of each column's jobs, as they were read.
    """

    samples: list[Sample | None]
    notes: list[str]
    intervals: dict[int, tuple[Interval | None, str]]
    differences: dict[int, Difference | ComparisonError]
    units: list[list[Units | None]]


class Evidence:
    """Intervals and tests of a comparison's rows; statistics are imported when first asked for.

    Args:
        models: The columns.
        baseline: Position of the column that the others are compared with; None: no differences.
        options: Confidence, resamples, seed, and whether intervals are wanted at all.
    """

    def __init__(self, models: Sequence[ScoredModel], baseline: int | None, options: ComparisonOptions) -> None:
        self.options = options
        self._models, self._baseline = models, baseline
        self._examined: dict[str, _Examined] = {}
        self._differences: dict[tuple[int, str], Difference] = {}

    def examine(self, tasks: Sequence[str]) -> None:
        """Reads and tests tasks before their rows are asked for: many jobs on all processors.

        Raises:
            ComparisonError: Two columns are of the same data, but their samples do not pair.
        """
        new = [task for task in tasks if task not in self._examined]
        n_runs = sum(model.view is not None for model in self._models)
        if len(new) * n_runs < MANY_JOBS or not self.options.intervals:
            found = [self._examine(task) for task in new]
        else:
            import evaluation.analysis.statistics.paired_tests  # noqa: F401 (imported once, not in each process)

            found = map_forked(self._examine, new)
        for task, own in zip(new, found, strict=True):
            self._examined[task] = own
            for model, read in zip(self._models, own.units, strict=True):
                if model.view is not None and read:
                    model.view.hold_units(zip(model.tasks[task].jobs, read, strict=True))

    def row(self, task: str) -> list[Finding]:
        """Returns what the samples of each column say of a task.

        Raises:
            ComparisonError: Two columns are of the same data, but their samples do not pair.
        """
        self.examine([task])
        samples, notes, intervals, differences, _ = self._examined[task]
        found = []
        for column, own in enumerate(samples):
            interval, note = intervals.get(column, (None, notes[column]))
            difference = differences.get(column)
            if isinstance(difference, ComparisonError):
                note, difference = note or f"no test: {difference}", None
            elif difference is not None:
                self._differences[column, task] = difference
                note, difference = note or difference.note, _points(difference)
            elif self._baseline is not None and own is not None and column != self._baseline:
                note = note or notes[self._baseline]
            found.append(Finding(interval, difference, note))
        return found

    def suite(self, column: int, tasks: Sequence[str]) -> SuiteDifference | None:
        """Returns a column's mean difference to the baseline, in points; None with fewer than two tested tasks.

        It is made of the tasks' differences: ask for their rows before.
        """
        differences = [self._differences[column, task] for task in tasks if (column, task) in self._differences]
        if len(differences) < 2:
            return None
        from evaluation.analysis.statistics.suite_tests import suite_difference

        found = suite_difference(differences, confidence=self.options.confidence)
        return self.in_points(found) if found.n_tasks > 1 else None

    def samples(self, task: str) -> list[Sample | None]:
        """Returns each column's units of a task with their contributions, once its row was asked for."""
        return self._examined[task].samples

    def _examine(self, task: str) -> _Examined:
        """Reads the samples of a task, an aggregate's parts together, and tests them."""
        samples: list[Sample | None] = []
        notes: list[str] = []
        read: list[list[Units | None]] = []
        known: Sample | None = None
        for model in self._models:
            found, note = model.tasks.get(task), ""
            own, units_of_jobs = None, []
            if self.options.intervals and model.view is not None and found is not None and found.score is not None:
                from evaluation.analysis.statistics.paired_tests import sample

                units, note = found.load_units()
                own = None if units is None else sample(units, known)
                units_of_jobs = [found.read_units(job) for job in found.jobs]
            known = known or own
            samples.append(own)
            notes.append(note)
            read.append(units_of_jobs)
        return _Examined(samples, notes, self._intervals(samples), self._compare(task, samples), read)

    def _intervals(self, found: Sequence[Sample | None]) -> dict[int, tuple[Interval | None, str]]:
        """Column -> the interval of its score, in points, or None; and the reason, or what it means."""
        samples = {column: own for column, own in enumerate(found) if own is not None}
        if not samples:
            return {}
        from evaluation.analysis.statistics.paired_tests import MIN_UNITS, score_intervals

        intervals: dict[int, tuple[Interval | None, str]] = {}
        made = score_intervals(list(samples.values()), confidence=self.options.confidence)
        for (column, own), interval in zip(samples.items(), made, strict=True):
            note = "algorithm noise only" if own.units.kind == ALGORITHM else ""
            if interval is None:
                intervals[column] = None, f"fewer than {MIN_UNITS} independent units: no interval"
            else:
                intervals[column] = _interval_points(interval), note
        return intervals

    def _compare(self, task: str, samples: Sequence[Sample | None]) -> dict[int, Difference | ComparisonError]:
        """Column -> its difference to the baseline, 0-1; or why samples of other data do not pair."""
        baseline = samples[self._baseline] if self._baseline is not None else None
        if self._baseline is None or baseline is None:
            return {}
        from evaluation.analysis.statistics.paired_tests import compare_pairs
        from evaluation.analysis.statistics.sign_flips import Resampling

        pairs = {at: (own, baseline) for at, own in enumerate(samples) if own is not None and at != self._baseline}
        options, reference = self.options, self._models[self._baseline].tasks[task]
        resampling = Resampling(options.n_resamples, options.seed)
        found = compare_pairs(list(pairs.values()), confidence=options.confidence, resampling=resampling)
        for column, difference in zip(pairs, found, strict=True):
            if isinstance(difference, ComparisonError) and _same_data(self._models[column].tasks[task], reference):
                raise difference
        return dict(zip(pairs, found, strict=True))

    @staticmethod
    def in_points(found: SuiteDifference, sign: int = 1) -> SuiteDifference:
        """Returns a mean difference, 0-1, in points; with the sign -1 that of the opposite order."""
        others = found.other_tasks
        p_drop = found.p_drop
        if sign < 0 and p_drop is not None:
            p_drop = 1.0 - p_drop
        return replace(
            found,
            value=100 * sign * found.value,
            interval=_interval_points(found.interval, sign) if found.interval is not None else None,
            p_drop=p_drop,
            error=100 * found.error,
            lower_bound=0.0 if sign < 0 else 100 * found.lower_bound,
            other_tasks=replace(others, interval=_interval_points(others.interval, sign)) if others else None,
        )


def _same_data(first: TaskScore, second: TaskScore) -> bool:
    return not {"dataset", "split", "limit"} & set(marks(first.conditions, second.conditions))


def _interval_points(interval: Interval, sign: int = 1) -> Interval:
    ends = sorted((100 * sign * interval.low, 100 * sign * interval.high))
    return replace(interval, low=ends[0], high=ends[1])


def _points(found: Difference) -> Difference:
    return replace(
        found,
        value=100 * found.value,
        interval=_interval_points(found.interval) if found.interval is not None else None,
        error=None if found.error is None else 100 * found.error,
        lower_bound=None if found.lower_bound is None else 100 * found.lower_bound,
        rare_losses=100 * found.rare_losses,
        residuals=None,
        unit_ids=(),
    )
