"""The difference of two models on one task, and the score of one model, with interval and p. All numbers are 0-1.

Differences are first - second. Interval and p come from the same method: random signs where there are few units,
Student's t where there are many, so that they never contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from scipy.special import betaincinv, ndtri, stdtrit

from evaluation.analysis.statistics.contributions import Contributions, Estimate, Floats, contributions, estimate
from evaluation.analysis.statistics.intervals import (
    Interval,
    t_interval,
    t_p_drop,
    uniform_change_interval,
    wilson_interval,
)
from evaluation.analysis.statistics.scorers import RANKING
from evaluation.analysis.statistics.shared_documents import CLUSTER
from evaluation.analysis.statistics.sign_flips import EXACT_CLUSTERS, Resampling, exact_p_drop, flip_test
from evaluation.analysis.statistics.units import UnitPart, Units, score
from evaluation.errors import ComparisonError

MIN_UNITS: Final = 10
"""With fewer independent units, or fewer units that changed, there is no interval."""
MIN_CLUSTERINGS: Final = 3
MANY_UNITS: Final = 200
"""Above so many independent units Student's t takes the place of random signs; the two then agree."""
DEFAULT: Final = Resampling()
_CORRELATIONS: Final = frozenset({"spearman", "kendalltau"})


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A model's units of one task with what each contributes to the score; made once, compared often."""

    units: Units
    contributions: Contributions


@dataclass(frozen=True, slots=True)
class Difference:
    """What two models' units of one task say about the difference of their scores, first - second.

    Attributes:
        interval: None where fewer than `MIN_UNITS` units differ; `note` says so.
        p_two_sided: Of the paired test; None where no test applies.
        p_drop: One-sided: the chance of so low a difference if the first model were no worse than the second.
        n_units: Pairs of queries, examples or texts.
        note: Why something is missing, or what it means: "algorithm noise only", "no unit differs"; otherwise empty.
        n_changed: Independent units on which the two models differ.
        error: Standard error, clustered; None where no test applies.
        df: Its degrees of freedom.
        n_clusters: Independent units.
        n_effective: As many independent units of equal weight say as much as these.
        lower_bound: A cautious lower limit of the true difference: the interval's, or one from the share of units that
            can have changed where too few did for an interval; None where nothing can be said.
        residuals: (K,) how far each independent unit moves the difference, for the mean over tasks; None once that is
            made.
        unit_ids: Equal for tasks with the same ids, whose units the mean over tasks takes as the same.
    """

    value: float
    interval: Interval | None
    p_two_sided: float | None
    p_drop: float | None
    n_units: int
    note: str = ""
    n_changed: int = 0
    error: float | None = None
    df: float = np.inf
    n_clusters: int = 0
    n_effective: float = 0.0
    lower_bound: float | None = None
    residuals: Floats | None = field(default=None, repr=False, compare=False)
    unit_ids: tuple[tuple[str, ...], ...] = field(default=(), repr=False, compare=False)


def sample(units: Units) -> Sample:
    """Returns the units together with what each contributes to the score."""
    return Sample(units, contributions(units))


def score_interval(units: Units | Sample, *, confidence: float = 0.95) -> Interval | None:
    """Returns the interval of a task's score over its units; None with fewer than `MIN_UNITS` of them.

    Wilson's interval: it stays within the score's limits and is no single point at them.
    """
    found = units if isinstance(units, Sample) else sample(units)
    whole, kind = estimate(found.contributions), found.units.kind
    if whole.n_clusters < (MIN_CLUSTERINGS if kind == "algorithm" else MIN_UNITS):
        return None
    if kind == "algorithm":
        return t_interval(whole.point, whole.error, whole.df, confidence)
    quantile = _quantile(found.contributions, whole, confidence)
    return wilson_interval(whole.point, whole.error, whole.n_clusters, quantile, _limits(found))


def compare_units(
    first: Units, second: Units, *, confidence: float = 0.95, resampling: Resampling = DEFAULT
) -> Difference:
    """Tests one task's difference of two models, paired by unit.

    Raises:
        ComparisonError: The two do not hold the same units of the same task and metric.
    """
    return compare(sample(first), sample(second), confidence=confidence, resampling=resampling)


def compare(first: Sample, second: Sample, *, confidence: float = 0.95, resampling: Resampling = DEFAULT) -> Difference:
    """Does what `compare_units` does, for samples that are made already."""
    found = paired_estimate(first, second)
    plain = Difference(
        score(first.units) - score(second.units),
        None,
        None,
        None,
        first.units.n_units,
        n_changed=found.n_changed,
        error=found.error,
        df=found.df,
        n_clusters=found.n_clusters,
        n_effective=found.n_effective,
        residuals=found.residuals,
        unit_ids=tuple(part.ids for part in first.units.parts),
    )
    if first.units.kind == "algorithm":
        plain = replace(plain, note="algorithm noise only")
        if found.n_clusters < MIN_CLUSTERINGS:
            return plain
        interval = t_interval(found.point, found.error, found.df, confidence)
        return replace(plain, interval=interval, lower_bound=interval.low)
    if found.n_changed == 0 and not found.experiments_differ:
        return replace(plain, p_two_sided=1.0, p_drop=1.0, lower_bound=0.0, note="no unit differs")
    interval, p_drop, p_rise = _tested(found, confidence, resampling)
    tested = replace(plain, p_two_sided=min(1.0, 2 * min(p_drop, p_rise)), p_drop=p_drop)
    if found.n_clusters < MIN_UNITS:
        return replace(tested, note=f"only {found.n_clusters} independent units: no interval")
    if found.n_changed < MIN_UNITS:
        note = f"only {found.n_changed} of {found.n_clusters} units differ: no interval"
        return replace(tested, lower_bound=_bound_of_few(found, confidence), note=note)
    return replace(tested, interval=interval, lower_bound=interval.low)


def paired_estimate(first: Sample, second: Sample) -> Estimate:
    """Returns the difference first - second with its standard error, without a test.

    Raises:
        ComparisonError: The two do not hold the same units of the same task and metric.
    """
    matched = matched_units(first.units, second.units)
    others = second.contributions if matched is second.units else contributions(matched)
    return estimate(first.contributions - others)


def _bound_of_few(found: Estimate, confidence: float) -> float:
    """The lowest true difference if as many units change as the few seen allow, each as much as the largest seen.

    That many is the upper limit of Clopper and Pearson (1934).
    """
    n, k = found.n_clusters, found.n_changed
    share = float(betaincinv(k + 1, n - k, 0.5 + confidence / 2.0))
    return -share * n * float(np.abs(found.added).max())


def _tested(found: Estimate, confidence: float, resampling: Resampling) -> tuple[Interval, float, float]:
    """The interval, and p of a drop and of a rise."""
    if found.uniform:
        p = max(2.0**-found.n_changed, np.finfo(float).tiny)
        p_drop, p_rise = (p, 1.0) if found.point < 0 else (1.0, p)
        return uniform_change_interval(found.point, found.n_changed, confidence), p_drop, p_rise
    by_t = t_interval(found.point, found.error, found.df, confidence)
    p_t = t_p_drop(found.point, found.error, found.df), t_p_drop(-found.point, found.error, found.df)
    if found.experiments_differ or found.n_clusters > MANY_UNITS and found.n_changed > EXACT_CLUSTERS:
        return by_t, *p_t
    exact = None
    if found.n_changed <= EXACT_CLUSTERS:
        exact = exact_p_drop(found.added), exact_p_drop(-found.added)
    if found.n_clusters > MANY_UNITS or found.n_changed < MIN_UNITS:
        assert exact is not None
        return by_t, *exact
    flips = flip_test(found.added, found.weights, confidence, resampling)
    beyond = exact or p_t  # what random signs do not resolve
    p_drop = beyond[0] if flips.p_drop is None else flips.p_drop
    p_rise = beyond[1] if flips.p_rise is None else flips.p_rise
    return flips.interval, p_drop, p_rise


def _quantile(found: Contributions, whole: Estimate, confidence: float) -> float:
    """Of the normal distribution for shares, whose mean says how they spread; of Student's for other scores."""
    tail = 0.5 + confidence / 2.0
    if not whole.experiments_differ and all(np.isin(own, (0.0, 1.0)).all() for own in found.values):
        return float(ndtri(tail))
    df = whole.df if whole.experiments_differ else whole.n_clusters - 1
    return float(stdtrit(df, tail))


def _limits(found: Sample) -> tuple[float, float]:
    """The lowest and the highest possible score."""
    correlation = found.units.statistic in _CORRELATIONS or found.units.type == "Summarization"
    return (-1.0, 1.0) if correlation else (0.0, 1.0)


def matched_units(first: Units, second: Units) -> Units:
    """Returns the second model's units in the first one's order.

    Raises:
        ComparisonError: They are not the same units of the same task and metric.
    """
    if (first.task, first.metric, first.statistic) != (second.task, second.metric, second.statistic):
        raise ComparisonError(
            f"{first.task} ({first.metric}) cannot be compared with {second.task} ({second.metric}): "
            "a difference is of two models' scores on one task under one metric."
        )
    others = {(part.split, part.subset): part for part in second.parts}
    places = [(part.split, part.subset) for part in first.parts]
    if set(places) != set(others):
        raise ComparisonError(
            f"{first.task}: one side was scored on {_listed(places)}, the other on {_listed(list(others))}. "
            "Run both on the same splits and subsets."
        )
    parts = [_matched_part(first, part, others[place]) for part, place in zip(first.parts, places, strict=True)]
    if all(one is two for one, two in zip(parts, second.parts, strict=True)):
        return second
    return replace(second, parts=tuple(parts))


def _matched_part(units: Units, first: UnitPart, second: UnitPart) -> UnitPart:
    where = f"{units.task}, split {first.split!r}, subset {first.subset!r}"
    if first.ids != second.ids:
        rows = {id_: row for row, id_ in enumerate(second.ids)}
        only = [id_ for id_ in first.ids if id_ not in rows] or sorted(set(second.ids) - set(first.ids))
        if only:
            raise ComparisonError(
                f"{where}: the two sides scored different {len(first.ids)} and {len(second.ids)} units "
                f"(only one of them has {only[0]!r}). Run both on the same data."
            )
        order = [rows[id_] for id_ in first.ids]
        second = replace(second, ids=first.ids, arrays={k: v[..., order] for k, v in second.arrays.items()})
    if "gold" in first.arrays and not np.array_equal(first.arrays["gold"], second.arrays["gold"]):
        raise ComparisonError(f"{where}: the two sides have different gold values. Run both on the same data.")
    shapes = [
        {name: array.shape[:-1] for name, array in part.arrays.items() if name != CLUSTER} for part in (first, second)
    ]
    if units.statistic not in RANKING and shapes[0] != shapes[1]:
        raise ComparisonError(f"{where}: the two sides ran different numbers of experiments.")
    return second


def _listed(places: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{split}/{subset}" for split, subset in places)
