"""Judges the newest checkpoint of a training run by the one before it and by the best of the run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.analysis.comparison.columns import ScoredModel, models_of, places_of
from evaluation.analysis.comparison.compare import compare_models
from evaluation.analysis.comparison.series import Checkpoint, Series, find_series
from evaluation.analysis.comparison.types import ComparisonOptions
from evaluation.analysis.gate.rule import NEGLIGIBLE, Check, GateReport, GateRule, Verdict
from evaluation.analysis.gate.snapshots import read_run
from evaluation.analysis.number_formats import p_equation
from evaluation.analysis.run_view import read_run_view
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
            f"Regression, fails: the mean over the tasks that all checkpoints have dropped by more than {NEGLIGIBLE:g} "
            f"points, and its two-sided p, Holm-corrected over all pairs of checkpoints, is below {alpha}. All pairs "
            "count because the best checkpoint was picked after its scores were known.",
            f"A drop of the mean by more than {drop} that cannot be tested fails as well.",
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
        series = find_series(compare_models(models, baseline=None, mixed=False, options=options)) if models else ()
    except ComparisonError as error:
        raise UsageError(f"--series: {error}") from error
    if not series and not faults:
        raise UsageError(
            f"--series: {run} holds no two checkpoints of one series with a common task that can be tested; name them "
            "with folders: under models: in the config, such as folders: checkpoints/step-*."
        )
    judged = [one for one in series if one.checkpoints[-1].step == places[newest[one.name]][1]]
    checks = tuple(check for one in judged for check in _checks(one, rule))
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
    *earlier, newest = series.checkpoints
    before, best = earlier[-1], max(earlier, key=lambda one: one.mean)
    if before is best:
        return [_check(series, newest, before, "the one before and the best so far", rule)]
    return [
        _check(series, newest, before, "the one before", rule),
        _check(series, newest, best, "the best so far", rule),
    ]


def _check(series: Series, newest: Checkpoint, other: Checkpoint, what: str, rule: GateRule) -> Check:
    change, pair = newest.mean - other.mean, series.pair(newest, other)
    interval, p = None, pair.p if pair is not None else None
    if pair is not None and pair.difference.interval is not None:
        low, high = pair.difference.interval.low, pair.difference.interval.high
        interval = (low, high) if pair.first == newest.label else (-high, -low)
    verdict, reason = Verdict.INCONCLUSIVE, ""
    if p is None:
        verdict = Verdict.REGRESSION if -change > rule.max_drop else Verdict.INCONCLUSIVE
        reason = "no task stores samples that can be tested"
    elif -change > NEGLIGIBLE and p < rule.alpha:
        verdict = Verdict.REGRESSION
        reason = f"the mean dropped by {-change:.2f} points, {p_equation(p)} after Holm's correction over all pairs"
    elif (interval is not None and interval[0] >= -rule.max_drop) or (interval is None and change >= 0):
        verdict = Verdict.NO_DROP
    n_tasks = series.standings.n_tasks
    name = f"mean of {n_tasks} task{'s' if n_tasks > 1 else ''}, against {other.label} ({what})"
    return Check(newest.label, name, verdict, other.mean, newest.mean, change, interval, p, reason)
