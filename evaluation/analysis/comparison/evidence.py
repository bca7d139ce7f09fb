"""Intervals and tests of a comparison, in points, from stored samples. Loads and jackknifes each sample once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from evaluation.analysis.comparison.columns import ScoredModel
from evaluation.analysis.comparison.comparability import marks
from evaluation.analysis.comparison.types import ComparisonOptions
from evaluation.analysis.run_view import TaskScore
from evaluation.errors import ComparisonError

if TYPE_CHECKING:
    from evaluation.analysis.statistics.intervals import Interval
    from evaluation.analysis.statistics.paired_tests import Difference, Sample
    from evaluation.analysis.statistics.suite_tests import SuiteDifference

ALGORITHM = "algorithm"


class Evidence:
    """Intervals and tests of a comparison's cells; statistics are imported when first asked for.

    Args:
        options: Confidence, resamples, seed, and whether intervals are wanted at all.
    """

    def __init__(self, options: ComparisonOptions) -> None:
        self.options = options
        self._samples: dict[tuple[str, str], Sample | None] = {}
        self._differences: dict[tuple[str, str, str], Difference] = {}

    def interval(self, source: ScoredModel, task: str) -> tuple[Interval | None, str]:
        """Returns the interval of a score, in points; or None and the reason."""
        found, note = self._sample(source, task)
        if found is None:
            return None, note
        from evaluation.analysis.statistics.paired_tests import MIN_UNITS, score_interval

        interval = score_interval(found, confidence=self.options.confidence)
        if interval is None:
            return None, f"fewer than {MIN_UNITS} independent units: no interval"
        return _interval_points(interval), "algorithm noise only" if found.units.kind == ALGORITHM else ""

    def difference(self, first: ScoredModel, second: ScoredModel, task: str) -> tuple[Difference | None, str]:
        """Returns the difference first - second on a task, in points; or None and the reason.

        Raises:
            ComparisonError: Both are of the same data, but their samples do not pair.
        """
        (own, note), (other, why) = self._sample(first, task), self._sample(second, task)
        if own is None or other is None:
            return None, note or why
        from evaluation.analysis.statistics.paired_tests import compare
        from evaluation.analysis.statistics.sign_flips import Resampling

        options = self.options
        try:
            found = compare(
                own,
                other,
                confidence=options.confidence,
                resampling=Resampling(options.n_resamples, options.seed),
            )
        except ComparisonError as error:
            if _same_data(first.tasks[task], second.tasks[task]):
                raise
            return None, f"no test: {error}"
        self._differences[first.label, second.label, task] = found
        return _points(found), found.note

    def suite(self, first: ScoredModel, second: ScoredModel, tasks: Sequence[str]) -> SuiteDifference | None:
        """Returns the mean difference first - second over tasks, in points; None with fewer than two tested tasks.

        It is made of the tasks' differences: ask for those before.
        """
        keys = [(first.label, second.label, task) for task in tasks]
        differences = [self._differences[key] for key in keys if key in self._differences]
        if len(differences) < 2:
            return None
        from evaluation.analysis.statistics.suite_tests import suite_difference

        found = suite_difference(differences, confidence=self.options.confidence)
        return self.in_points(found) if found.n_tasks > 1 else None

    def sample(self, source: ScoredModel, task: str) -> Sample | None:
        """Returns the units of a column's task with their contributions; None where there are none."""
        return self._sample(source, task)[0]

    def _sample(self, source: ScoredModel, task: str) -> tuple[Sample | None, str]:
        """The sample of a column's task, an aggregate's parts together, or None and the reason."""
        found = source.tasks.get(task)
        if not self.options.intervals or source.view is None or found is None or found.score is None:
            return None, ""
        key = (source.label, task)
        if key not in self._samples:
            from evaluation.analysis.statistics.paired_tests import sample

            self._samples[key] = None if found.units is None else sample(found.units)
        return self._samples[key], found.why_no_units

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
        residuals=None,
        unit_ids=(),
    )
