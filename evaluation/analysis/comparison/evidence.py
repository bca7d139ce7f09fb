"""How sure scores and differences are: stored samples -> intervals and tests, in points. Loads samples once."""

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
    from evaluation.analysis.statistics.paired_tests import Difference, SuiteDifference
    from evaluation.analysis.statistics.resampling import Interval, KeptDraws, Resampling
    from evaluation.analysis.statistics.units import Units

ALGORITHM = "algorithm"


class Evidence:
    """Intervals and tests of a comparison's cells; statistics are imported when first asked for.

    Args:
        options: Confidence, resamples, seed, and whether intervals are wanted at all.
    """

    def __init__(self, options: ComparisonOptions) -> None:
        self.options = options
        self._differences: dict[tuple[str, str, str], Difference] = {}
        self._kept: KeptDraws | None = None

    def interval(self, source: ScoredModel, task: str) -> tuple[Interval | None, str]:
        """The interval of a score, in points, or None and why there is none."""
        units, note = self.units(source, task)
        if units is None:
            return None, note
        from evaluation.analysis.statistics.paired_tests import score_interval

        found = score_interval(units, confidence=self.options.confidence, resampling=self._resampling())
        if found is None:
            return None, "too few units for an interval"
        return _interval_points(found), "algorithm noise only" if units.kind == ALGORITHM else ""

    def difference(self, first: ScoredModel, second: ScoredModel, task: str) -> tuple[Difference | None, str]:
        """The difference first - second on a task, in points, or None and why there is none.

        Raises:
            ComparisonError: Both are of the same data, but their samples do not pair.
        """
        (units, note), (others, why) = self.units(first, task), self.units(second, task)
        if units is None or others is None:
            return None, note or why
        from evaluation.analysis.statistics.paired_tests import compare_units

        options = self.options
        try:
            found = compare_units(
                units,
                others,
                confidence=options.confidence,
                alpha=options.alpha,
                resampling=self._resampling(),
            )
        except ComparisonError as error:
            if _same_data(first.tasks[task], second.tasks[task]):
                raise
            return None, f"no test: {error}"
        self._differences[first.label, second.label, task] = found
        return _points(found), found.note

    def suite(self, first: ScoredModel, second: ScoredModel, tasks: Sequence[str]) -> SuiteDifference | None:
        """The mean difference first - second over tasks, in points; None with fewer than two tasks that were tested.

        It is made of the tasks' differences: ask for those before.
        """
        keys = [(first.label, second.label, task) for task in tasks]
        differences = [self._differences[key] for key in keys if key in self._differences]
        if len(differences) < 2:
            return None
        from evaluation.analysis.statistics.paired_tests import suite_difference

        found = suite_difference(differences, confidence=self.options.confidence, seed=self.options.seed)
        return _suite_points(found) if found.n_tasks > 1 else None

    def units(self, source: ScoredModel, task: str) -> tuple[Units | None, str]:
        """The units of a column's task, an aggregate's parts together, or None and why there are none."""
        found = source.tasks.get(task)
        if not self.options.intervals or source.view is None or found is None or found.score is None:
            return None, ""
        return found.units, found.why_no_units

    def _resampling(self) -> Resampling:
        """With the draws of the models before, which on one task are the same."""
        from evaluation.analysis.statistics.resampling import KeptDraws, Resampling

        self._kept = self._kept or KeptDraws()
        return Resampling(self.options.n_resamples, self.options.seed, self._kept)


def _same_data(first: TaskScore, second: TaskScore) -> bool:
    return not {"dataset", "split", "limit"} & set(marks(first.conditions, second.conditions))


def _interval_points(interval: Interval) -> Interval:
    return replace(interval, low=100 * interval.low, high=100 * interval.high)


def _points(found: Difference) -> Difference:
    return replace(
        found,
        value=100 * found.value,
        interval=_interval_points(found.interval) if found.interval is not None else None,
        detectable=100 * found.detectable if found.detectable is not None else None,
        draws=None,
    )


def _suite_points(found: SuiteDifference) -> SuiteDifference:
    interval = _interval_points(found.interval) if found.interval is not None else None
    return replace(found, value=100 * found.value, interval=interval)
