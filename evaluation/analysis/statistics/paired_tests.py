"""How sure a score, a difference of two models and a difference over a suite are. Pure numbers, all 0-1.

Seeds are derived from the task's name, so that the same results always give the same intervals. Differences are
first - second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from scipy.special import ndtri, stdtr

from evaluation.analysis.statistics.intervals import Estimate, estimate_of, standard_error
from evaluation.analysis.statistics.resampling import (
    Chances,
    Floats,
    Interval,
    Resampling,
    bca_interval,
    chances,
    percentile_interval,
    t_chances,
    t_interval,
)
from evaluation.analysis.statistics.scorers import RANKING
from evaluation.analysis.statistics.units import UnitPart, Units, score
from evaluation.errors import ComparisonError

MIN_UNITS: Final = 10
"""With fewer queries, examples or texts nothing is said; a bootstrap of so few is far too narrow."""
MIN_CLUSTERINGS: Final = 3
LARGE: Final = 5_000
"""Above so many numbers a resample, draws are normal to all digits that are shown: Student's t takes their place."""
POWER: Final = 0.8
DEFAULT: Final = Resampling()


@dataclass(frozen=True, slots=True)
class Difference:
    """What two models' units of one task say about the difference of their scores, first - second.

    Attributes:
        interval: None where there are too few units.
        p_two_sided: Of the paired permutation test; None where no test applies.
        p_drop: The same, one-sided: the chance of so low a difference were the first no worse than the second.
        n_units: Pairs of queries, examples or texts.
        detectable: The smallest true difference that data like this would show at `alpha`, two-sided, four times
            in five; None where unknown.
        note: Why something is missing: "algorithm noise only", "too few units", "no unit differs"; else empty.
        draws: (B,) bootstrap draws of the difference, which `suite_difference` uses; None where it takes no part.
    """

    value: float
    interval: Interval | None
    p_two_sided: float | None
    p_drop: float | None
    n_units: int
    detectable: float | None
    note: str = ""
    draws: Floats | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class SuiteDifference:
    """The mean difference over tasks, first - second, and how sure it is; tasks weigh the same.

    Attributes:
        value: Over the tasks that count: clustering, whose units are algorithm noise, and tasks with too few units
            do not.
        interval: None with fewer than two such tasks; likewise the p-values.
        n_tasks: Tasks that count.
    """

    value: float
    interval: Interval | None
    p_two_sided: float | None
    p_drop: float | None
    n_tasks: int


def score_interval(units: Units, *, confidence: float = 0.95, resampling: Resampling = DEFAULT) -> Interval | None:
    """Bootstrap interval of a task's score over its units; None with too few of them."""
    if _too_few(units):
        return None
    estimate = estimate_of(units)
    pulls = estimate.influence()
    if estimate.size > LARGE:
        return t_interval(estimate.point, *standard_error(pulls), confidence)
    draws = estimate.draws(resampling.generator(units.task, "score"), resampling)
    return _bootstrap_interval(estimate, draws, pulls, confidence)


def compare_units(
    first: Units,
    second: Units,
    *,
    confidence: float = 0.95,
    alpha: float = 0.05,
    resampling: Resampling = DEFAULT,
) -> Difference:
    """Paired bootstrap interval and permutation test of one task's difference.

    Raises:
        ComparisonError: The two do not hold the same units of the same task and metric.
    """
    second = _matched(first, second)
    plain = Difference(score(first) - score(second), None, None, None, first.n_units, None)
    if _too_few(first):
        return replace(plain, note="too few units")
    estimate = estimate_of(first, second)
    pulls = estimate.influence()
    error, df = standard_error(pulls)
    rng = resampling.generator(first.task, "difference")
    if error == 0.0:
        nothing = Interval(estimate.point, estimate.point, "percentile")
        known = replace(plain, interval=nothing, note="no unit differs" if estimate.point == 0.0 else "")
        if first.kind == "algorithm" or estimate.point != 0.0:
            return known
        return replace(known, p_two_sided=1.0, p_drop=1.0, draws=np.zeros(resampling.n_resamples))
    if estimate.size > LARGE:
        draws = rng.normal(estimate.point, error, resampling.n_resamples)
        interval = t_interval(estimate.point, error, df, confidence)
        found = t_chances(estimate.point, error, df)
    else:
        draws = estimate.draws(rng, resampling)
        interval = _bootstrap_interval(estimate, draws, pulls, confidence)
        found = _permutation(estimate, df, resampling.generator(first.task, "permutation"), resampling)
    if first.kind == "algorithm":
        return replace(plain, interval=interval, note="algorithm noise only")
    detectable = float(ndtri(1.0 - alpha / 2.0) + ndtri(POWER)) * error
    return replace(
        plain, interval=interval, p_two_sided=found.two_sided, p_drop=found.drop, detectable=detectable, draws=draws
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (Holm 1979), input order; None stays None and is not counted."""
    known = sorted((p, at) for at, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, at) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[at] = highest
    return adjusted


def suite_difference(differences: Sequence[Difference], *, confidence: float = 0.95, seed: int = 0) -> SuiteDifference:
    """The suite's difference from those of its tasks, whose bootstrap draws are used again.

    Tasks are few, so that the bootstrap over them is widened as Student's t is (expanded percentiles, Hesterberg
    2015, The American Statistician 69); the p-values follow from the same draws, moved to a difference of 0.
    """
    counted = [difference for difference in differences if difference.draws is not None]
    n_tasks = len(counted)
    value = float(np.mean([difference.value for difference in counted])) if counted else 0.0
    if n_tasks < 2:
        return SuiteDifference(value, None, None, None, n_tasks)
    inner = np.array([difference.draws for difference in counted])  # (tasks, B)
    n_resamples = inner.shape[1]
    rng = Resampling(seed=seed).generator("", "suite")
    tasks = rng.integers(0, n_tasks, (n_resamples, n_tasks))
    resamples = rng.integers(0, n_resamples, (n_resamples, n_tasks))
    means = inner[tasks, resamples].mean(axis=1)
    widened = value + (means - value) * np.sqrt(n_tasks / (n_tasks - 1))
    if not np.ptp(widened):
        return SuiteDifference(value, Interval(value, value, "percentile"), 1.0, 1.0, n_tasks)
    interval = percentile_interval(widened, confidence, df=n_tasks - 1)
    found = _expanded(chances(value, widened - value, exact=False), n_tasks - 1)
    return SuiteDifference(value, interval, found.two_sided, found.drop, n_tasks)


def _permutation(estimate: Estimate, df: float, rng: np.random.Generator, resampling: Resampling) -> Chances:
    permuted, exact = estimate.permuted(rng, resampling)
    found = chances(estimate.point, permuted, exact=exact)
    return _expanded(found, df) if estimate.experiments else found


def _expanded(found: Chances, df: float) -> Chances:
    """P-values of a normal deviate as those of a Student's t with few degrees of freedom."""
    two_sided, drop = stdtr(df, ndtri(np.array([found.two_sided / 2.0, found.drop])))
    return Chances(float(2.0 * two_sided), float(drop))


def _bootstrap_interval(estimate: Estimate, draws: Floats, pulls: Sequence[Floats], confidence: float) -> Interval:
    df = standard_error(pulls)[1] if estimate.experiments else np.inf
    return bca_interval(draws, estimate.point, np.concatenate(pulls), confidence, df)


def _too_few(units: Units) -> bool:
    needed = MIN_CLUSTERINGS if units.kind == "algorithm" else MIN_UNITS
    return units.n_units < needed or any(len(part.ids) < 2 for part in units.parts)


def _matched(first: Units, second: Units) -> Units:
    """The second model's units in the first one's order.

    Raises:
        ComparisonError: They are not the same units of the same task and metric.
    """
    if (first.task, first.metric, first.statistic) != (second.task, second.metric, second.statistic):
        raise ComparisonError(
            f"{first.task} ({first.metric}) can't be compared with {second.task} ({second.metric}): "
            "a difference takes two models' scores of one task under one metric."
        )
    others = {(part.split, part.subset): part for part in second.parts}
    places = [(part.split, part.subset) for part in first.parts]
    if set(places) != set(others):
        raise ComparisonError(
            f"{first.task}: one side was scored on {_listed(places)}, the other on {_listed(others)}. "
            "Run both on the same splits and subsets."
        )
    parts = [_matched_part(first, part, others[place]) for part, place in zip(first.parts, places, strict=True)]
    return replace(second, parts=tuple(parts))


def _matched_part(units: Units, first: UnitPart, second: UnitPart) -> UnitPart:
    where = f"{units.task}, split {first.split!r}, subset {first.subset!r}"
    if first.ids != second.ids:
        rows = {id_: row for row, id_ in enumerate(second.ids)}
        only = [id_ for id_ in first.ids if id_ not in rows] or sorted(set(second.ids) - set(first.ids))
        if only:
            raise ComparisonError(
                f"{where}: the two sides scored different {len(first.ids)} and {len(second.ids)} units "
                f"({only[0]!r} is in one of them only). Run both on the same data."
            )
        order = [rows[id_] for id_ in first.ids]
        second = replace(second, ids=first.ids, arrays={k: v[..., order] for k, v in second.arrays.items()})
    if "gold" in first.arrays and not np.array_equal(first.arrays["gold"], second.arrays["gold"]):
        raise ComparisonError(f"{where}: the two sides have different gold values. Run both on the same data.")
    shapes = [{name: array.shape[:-1] for name, array in part.arrays.items()} for part in (first, second)]
    if units.statistic not in RANKING and shapes[0] != shapes[1]:
        raise ComparisonError(f"{where}: the two sides ran different numbers of experiments.")
    return second


def _listed(places: Sequence[tuple[str, str]] | dict[tuple[str, str], UnitPart]) -> str:
    return ", ".join(f"{split}/{subset}" for split, subset in places)
