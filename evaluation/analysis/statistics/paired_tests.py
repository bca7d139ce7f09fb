"""The difference of two models on one task, and the score of one model, with interval and p. All numbers are 0-1.

Differences are first - second. Interval and p come from the same method: random signs where there are few units,
Student's t where there are many, so that they never contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from scipy.special import ndtri, stdtrit

from evaluation.analysis.statistics.contributions import (
    Contributions,
    Estimate,
    Floats,
    contributions,
    estimate,
    stacked,
)
from evaluation.analysis.statistics.intervals import (
    Interval,
    t_interval,
    t_p_drop,
    uniform_change_interval,
    wilson_interval,
)
from evaluation.analysis.statistics.rare_losses import rare_loss_bound
from evaluation.analysis.statistics.scorers import RANKING
from evaluation.analysis.statistics.shared_texts import CLUSTER
from evaluation.analysis.statistics.sign_flips import EXACT_CLUSTERS, FlipTest, Resampling, exact_p_drop, flip_tests
from evaluation.analysis.statistics.units import UnitPart, Units, score
from evaluation.errors import ComparisonError

MIN_UNITS: Final = 10
"""With fewer independent units, or fewer units that changed, there is no interval."""
MIN_CORRELATED: Final = 50
"""With fewer independent units the difference of two correlations has no interval: the jackknife's is too wide."""
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
    score: float


@dataclass(frozen=True, slots=True)
class Difference:
    """What two models' units of one task say about the difference of their scores, first - second.

    Attributes:
        interval: None where fewer than `MIN_UNITS` units differ, or `MIN_CORRELATED` are correlated; `note` says so.
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
        rare_losses: How much lower than `value` the true difference can be because few units changed, at most 0
            (`rare_losses.py`); 0 where enough did, or none.
        residuals: (K,) how far each independent unit moves the difference, in the order of `Clusters.by_id`, for the
            mean over tasks; None once that is made.
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
    rare_losses: float = 0.0
    residuals: Floats | None = field(default=None, repr=False, compare=False)
    unit_ids: tuple[tuple[str, ...], ...] = field(default=(), repr=False, compare=False)

    @property
    def is_in_means(self) -> bool:
        """Whether means over tasks count this one: it has a test, and enough independent units for an error."""
        return self.p_drop is not None and self.n_clusters >= MIN_UNITS


def sample(units: Units, known: Sample | None = None) -> Sample:
    """Returns the units together with what each contributes to the score.

    Args:
        known: Another model's sample of the same task, whose clusters are taken over where the units are the same.
    """
    return Sample(units, contributions(units, known.contributions if known is not None else None), score(units))


def score_interval(units: Units, *, confidence: float = 0.95) -> Interval | None:
    """Returns the interval of a task's score over its units; None with fewer than `MIN_UNITS` of them.

    Wilson's interval: it stays within the score's limits and is not a single point at them.
    """
    return score_intervals([sample(units)], confidence=confidence)[0]


def score_intervals(samples: Sequence[Sample], *, confidence: float = 0.95) -> list[Interval | None]:
    """Does what `score_interval` does for several models."""
    found: list[Interval | None] = [None] * len(samples)
    for members in _together([own.contributions for own in samples]):
        estimates = estimate(stacked([samples[at].contributions for at in members]))
        for row, at in enumerate(members):
            found[at] = _score_interval(samples[at], estimates[row], confidence)
    return found


def _score_interval(found: Sample, whole: Estimate, confidence: float) -> Interval | None:
    kind = found.units.kind
    if whole.n_clusters < (MIN_CLUSTERINGS if kind == "algorithm" else MIN_UNITS):
        return None
    if kind == "algorithm":
        return t_interval(whole.point, whole.error, whole.df, confidence)
    quantile = _quantile(found.contributions, whole, confidence)
    return wilson_interval(whole.point, whole.error, whole.n_clusters, quantile, _limits(found))


def _together(found: Sequence[Contributions]) -> list[list[int]]:
    """The positions of contributions with the same clusters and numbers of experiments."""
    groups: dict[object, list[int]] = {}
    for at, own in enumerate(found):
        alike = id(own.clusters), tuple(len(deviations) for deviations in own.experiments)
        groups.setdefault(alike, []).append(at)
    return list(groups.values())


def compare_units(
    first: Units, second: Units, *, confidence: float = 0.95, resampling: Resampling = DEFAULT
) -> Difference:
    """Tests one task's difference of two models, paired by unit.

    Raises:
        ComparisonError: The two do not hold the same units of the same task and metric.
    """
    own = sample(first)
    (found,) = compare_pairs([(own, sample(second, own))], confidence=confidence, resampling=resampling)
    if isinstance(found, ComparisonError):
        raise found
    return found


def compare_pairs(
    pairs: Sequence[tuple[Sample, Sample]], *, confidence: float = 0.95, resampling: Resampling = DEFAULT
) -> list[Difference | ComparisonError]:
    """Does what `compare_units` does for several pairs of samples; those on the same units are tested together.

    Returns:
        For each pair its difference, or why it has none.
    """
    found: dict[int, Difference | ComparisonError] = {}
    places: list[int] = []
    paired: list[Contributions] = []
    for at, (first, second) in enumerate(pairs):
        try:
            paired.append(first.contributions - matched_contributions(first, second))
            places.append(at)
        except ComparisonError as error:
            found[at] = error
    for members in _together(paired):
        estimates = estimate(stacked([paired[at] for at in members]))
        rows = [estimates[row] for row in range(len(members))]
        by_flips = [row for row, own in enumerate(rows) if _flips_decide(own)]
        tests = flip_tests(estimates.added[by_flips], estimates.weights, confidence, resampling) if by_flips else []
        flips = dict(zip(by_flips, tests, strict=True))
        for row, at in enumerate(members):
            place = places[at]
            found[place] = _difference(*pairs[place], rows[row], confidence, flips.get(row))
    return [found[at] for at in range(len(pairs))]


def _difference(
    first: Sample, second: Sample, found: Estimate, confidence: float, flips: FlipTest | None
) -> Difference:
    interval: Interval | None = None
    p_two_sided: float | None = None
    p_drop: float | None = None
    lower_bound: float | None = None
    rare: float | None = None
    note = ""
    if first.units.kind == "algorithm":
        note = "algorithm noise only"
        if found.n_clusters >= MIN_CLUSTERINGS:
            interval = t_interval(found.point, found.error, found.df, confidence)
            lower_bound = interval.low
    elif found.n_changed == 0 and not found.experiments_differ:
        p_two_sided, p_drop, note = 1.0, 1.0, "no unit differs"
        lower_bound = 0.0 if found.n_clusters >= MIN_UNITS else None  # the same answers everywhere: the same model
    else:
        tested, p_drop, p_rise = _tested(found, confidence, flips)
        p_two_sided = min(1.0, 2 * min(p_drop, p_rise))
        rare = rare_loss_bound(found, first.contributions.clusters, confidence)
        if found.n_clusters < MIN_UNITS:
            note = f"only {found.n_clusters} independent units: no interval"
        elif found.n_changed < MIN_UNITS:
            note = f"only {found.n_changed} of {found.n_clusters} units differ: no interval"
            lower_bound = rare
        elif found.n_clusters < MIN_CORRELATED and first.units.statistic in _CORRELATIONS:
            lower_bound = tested.low
            note = f"only {found.n_clusters} units: too few for the interval of a correlation's difference"
        else:
            interval, lower_bound = tested, tested.low if rare is None else min(tested.low, rare)
    return Difference(
        value=first.score - second.score,
        interval=interval,
        p_two_sided=p_two_sided,
        p_drop=p_drop,
        n_units=first.units.n_units,
        note=note,
        n_changed=found.n_changed,
        error=found.error,
        df=found.df,
        n_clusters=found.n_clusters,
        n_effective=found.n_effective,
        lower_bound=lower_bound,
        rare_losses=0.0 if rare is None else min(rare - found.point, 0.0),
        residuals=found.residuals[first.contributions.clusters.by_id[1]],
        unit_ids=first.contributions.clusters.by_id[0],
    )


def matched_contributions(first: Sample, second: Sample) -> Contributions:
    """Returns the second sample's contributions in the order of the first one's units.

    Raises:
        ComparisonError: The two do not hold the same units of the same task and metric.
    """
    matched = _matched_units(first.units, second.units)
    return second.contributions if matched is second.units else contributions(matched, first.contributions)


def _flips_decide(found: Estimate) -> bool:
    """Whether a difference is tested by random signs, and not by Student's t."""
    many_or_sparse = found.n_clusters > MANY_UNITS or found.n_changed < MIN_UNITS
    return not (found.uniform or found.experiments_differ or many_or_sparse)


def _tested(found: Estimate, confidence: float, flips: FlipTest | None) -> tuple[Interval, float, float]:
    """The interval, and p of a drop and of a rise."""
    if found.uniform:
        p = max(2.0**-found.n_changed, np.finfo(float).tiny)
        p_drop, p_rise = (p, 1.0) if found.point < 0 else (1.0, p)
        return uniform_change_interval(found.point, found.n_changed, confidence), p_drop, p_rise
    interval = t_interval(found.point, found.error, found.df, confidence)
    p_drop, p_rise = t_p_drop(found.point, found.error, found.df), t_p_drop(-found.point, found.error, found.df)
    if found.n_changed <= EXACT_CLUSTERS and not found.experiments_differ:
        p_drop, p_rise = exact_p_drop(found.added), exact_p_drop(-found.added)
    if flips is None:
        return interval, p_drop, p_rise
    return flips.interval, flips.p_drop(p_drop), flips.p_rise(p_rise)


def _quantile(found: Contributions, whole: Estimate, confidence: float) -> float:
    """Of the normal distribution for shares, whose mean says how they spread; of Student's for other scores."""
    tail = 0.5 + confidence / 2.0
    if not whole.experiments_differ and all(((own == 0.0) | (own == 1.0)).all() for own in found.values):
        return float(ndtri(tail))
    df = whole.df if whole.experiments_differ else whole.n_clusters - 1
    return float(stdtrit(df, tail))


def _limits(found: Sample) -> tuple[float, float]:
    """The lowest and the highest possible score."""
    correlation = found.units.statistic in _CORRELATIONS or found.units.type == "Summarization"
    return (-1.0, 1.0) if correlation else (0.0, 1.0)


def _matched_units(first: Units, second: Units) -> Units:
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
    golds = [part.arrays["gold"] for part in (first, second) if "gold" in part.arrays]  # older baselines lack some
    if len(golds) == 2 and not np.array_equal(golds[0], golds[1]):
        raise ComparisonError(f"{where}: the two sides have different gold values. Run both on the same data.")
    shapes = [
        {name: array.shape[:-1] for name, array in part.arrays.items() if name not in (CLUSTER, "gold")}
        for part in (first, second)
    ]
    if units.statistic not in RANKING and shapes[0] != shapes[1]:
        raise ComparisonError(f"{where}: the two sides ran different numbers of experiments.")
    return second


def _listed(places: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{split}/{subset}" for split, subset in places)
