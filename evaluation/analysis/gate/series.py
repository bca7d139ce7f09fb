"""Judges the newest checkpoint of a training run by the one before it and by the best of the run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from evaluation.analysis.comparison.columns import ScoredModel, models_of, places_of
from evaluation.analysis.comparison.compare import compare_models
from evaluation.analysis.comparison.series import Checkpoint, Series, find_series
from evaluation.analysis.comparison.types import Comparison, ComparisonOptions
from evaluation.analysis.gate.rule import NEGLIGIBLE, Check, GateReport, GateRule, Verdict
from evaluation.analysis.gate.snapshots import read_run
from evaluation.analysis.number_formats import counted, p_equation
from evaluation.analysis.run_view import read_run_view
from evaluation.analysis.statistics.paired_tests import MIN_UNITS
from evaluation.analysis.task_scores import NEVER_ENDED, ScoredJob
from evaluation.errors import ComparisonError, UsageError


@dataclass(frozen=True, slots=True)
class SeriesRule(GateRule):
    """What counts as a regression of the newest checkpoint; the attributes are those of a gate."""

    def sentences(self) -> tuple[str, ...]:
        """The rule in words, in the order in which it is applied."""
        drop, alpha = f"{self.max_drop:.2f} points", f"{self.alpha:g}"
        return (
            "Fails: the newest checkpoint has no score on a task.",
            f"Regression, fails: the mean over the tasks that all checkpoints have and that can be tested dropped by "
            f"more than {NEGLIGIBLE:g} points, and its two-sided p, Holm-corrected over all pairs of checkpoints, is "
            f"below {alpha}. All pairs count because the best checkpoint was picked after its scores were known.",
            f"The tasks that cannot be tested, such as clustering, fail if their mean dropped by more than {drop}.",
            f"No drop beyond max-drop, passes: the 95 % interval of the change lies above -{drop}.",
            f"{self.inconclusive}: neither of the two is shown.",
        )


def check_series(
    run: str | Path, *, max_drop: float = 1.0, alpha: float = 0.05, require_conclusive: bool = False
) -> GateReport:
    """Judges the newest checkpoint of each series of a run; earlier ones without any score are left out.

    Args:
        run: A run's folder whose config has folders: in models.
        max_drop: Points that the mean may lose.
        alpha: Level of the tests, after Holm's correction over all pairs of checkpoints.
        require_conclusive: Whether an inconclusive verdict fails the gate.

    Raises:
        UsageError: The run cannot be read, is limited, has no series of two checkpoints that can be compared; a value
            is out of range.
    """
    rule = SeriesRule(max_drop, alpha, require_conclusive)
    snapshot = read_run(Path(run))
    view = read_run_view(Path(run))
    places = places_of(view.manifest.config)
    newest = {
        name: max((label for label, place in places.items() if place[0] == name), key=lambda label: places[label])
        for name in dict.fromkeys(name for name, _ in places.values())
    }
    faults = [fault for label in newest.values() for fault in _faults(label, snapshot.jobs)]
    in_series = [model for model in models_of(view) if model.place is not None]
    models = [model for model in in_series if any(task.score is not None for task in model.tasks.values())]
    try:
        options = ComparisonOptions(alpha=alpha)
        compared = compare_models(models, baseline=None, mixed=False, options=options) if models else None
    except ComparisonError as error:
        raise UsageError(f"--series: {error}") from error
    series = find_series(compared) if compared is not None else ()
    if not series and not faults:
        raise UsageError(
            f"--series: {run} holds no two checkpoints of one series with a common task that can be tested (at least "
            f"{MIN_UNITS} independent queries or examples); name them with folders: under models: in the config, such "
            "as folders: checkpoints/step-*."
        )
    judged = [one for one in series if one.checkpoints[-1].step == places[newest[one.name]][1]]
    checks = tuple(check for one in judged for check in (*_checks(one, rule), *_untested(one, compared, rule)))
    notes = (
        *(one.sentence for one in series),
        *_left_out(in_series, [*newest.values(), *(model.label for model in models)]),
    )
    return GateReport(str(run), "its earlier checkpoints", rule, tuple(faults), checks, notes)


def _faults(label: str, jobs: Sequence[ScoredJob]) -> list[Check]:
    """What the newest checkpoint has no score on; one check where none of its jobs has ended."""
    own = [job for job in jobs if job.label == label]
    if all(job.fault == NEVER_ENDED for job in own):
        return [Check(label, "all tasks", Verdict.FAILED, reason="it has not been run yet; start its config again")]
    return [Check(label, job.task, Verdict.FAILED, reason=f"no score: {job.fault}") for job in own if job.fault]


def _left_out(models: Sequence[ScoredModel], known: Collection[str]) -> tuple[str, ...]:
    """A sentence with the checkpoints that nothing else in the report speaks of."""
    names = [model.label for model in models if model.label not in known]
    return (f"Left out, because they have no score: {', '.join(names)}.",) if names else ()


def _checks(series: Series, rule: GateRule) -> list[Check]:
    newest = series.checkpoints[-1]
    return [_check(series, newest, other, what, rule) for other, what in _others(series)]


def _others(series: Series) -> list[tuple[Checkpoint, str]]:
    """The earlier checkpoints that the newest one is compared with, in words."""
    earlier = series.checkpoints[:-1]
    before, best = earlier[-1], max(earlier, key=lambda one: one.mean)
    if before is best:
        return [(before, "the one before and the best so far")]
    return [(before, "the one before"), (best, "the best so far")]


def _check(series: Series, newest: Checkpoint, other: Checkpoint, what: str, rule: GateRule) -> Check:
    """Judges the mean over the tasks that can be tested."""
    change, pair = newest.mean - other.mean, series.pair(newest, other)
    assert pair is not None, "all pairs of checkpoints are tested on the same tasks"
    interval, is_same = None, change == 0.0 and pair.difference.error == 0.0
    if pair.difference.interval is not None:
        low, high = pair.difference.interval.low, pair.difference.interval.high
        interval = (low, high) if pair.first == newest.label else (-high, -low)
    verdict, reason = Verdict.INCONCLUSIVE, ""
    if -change > NEGLIGIBLE and pair.p < rule.alpha:
        verdict = Verdict.REGRESSION
        reason = (
            f"the mean dropped by {-change:.2f} points, {p_equation(pair.p)} after Holm's correction over all pairs"
        )
    elif is_same or (interval is not None and interval[0] >= -rule.max_drop):
        verdict = Verdict.NO_DROP
    name = f"mean of {counted(series.standings.n_tasks, 'task')}, against {other.label} ({what})"
    return Check(newest.label, name, verdict, other.mean, newest.mean, change, interval, pair.p, reason, is_same)


def _untested(series: Series, comparison: Comparison | None, rule: GateRule) -> Iterator[Check]:
    """Yields a regression of the mean over the tasks that cannot be tested."""
    untested = series.standings.untested
    if comparison is None or not untested:
        return
    rows = [row for row in comparison.rows if row.task in untested]

    def mean_of(label: str) -> float:
        return fmean(row.cells[comparison.column(label)].score or 0.0 for row in rows)

    newest = series.checkpoints[-1].label
    now = mean_of(newest)
    for other, what in _others(series):
        before = mean_of(other.label)
        if before - now > rule.max_drop:
            name = f"mean of {counted(len(rows), 'task')} without a test, against {other.label} ({what})"
            reason = f"the mean of {', '.join(untested)} dropped by {before - now:.2f} points"
            yield Check(newest, name, Verdict.REGRESSION, before, now, now - before, None, None, reason)
