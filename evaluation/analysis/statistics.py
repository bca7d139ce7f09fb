"""How sure a score, a difference of two models and a difference over a suite are. Pure numbers, all 0-1.

Seeds are derived from the task's name, so that the same results always give the same intervals. Differences are
first - second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.analysis.units import Units


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval.

    Attributes:
        method: "BCa", "percentile" or "normal" (very many units).
    """

    low: float
    high: float
    method: str


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
        note: Why something is missing: "algorithm noise only", "too few units"; else empty.
    """

    value: float
    interval: Interval | None
    p_two_sided: float | None
    p_drop: float | None
    n_units: int
    detectable: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class SuiteDifference:
    """The mean difference over tasks, first - second, and how sure it is; tasks weigh the same.

    Attributes:
        interval: None with fewer than two tasks.
        n_tasks: Tasks that count; clustering, whose units are algorithm noise, does not.
    """

    value: float
    interval: Interval | None
    p_two_sided: float | None
    p_drop: float | None
    n_tasks: int


def score_interval(
    units: Units, *, confidence: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> Interval | None:
    """Bootstrap interval of a task's score over its units; None with fewer than three units in a part."""
    raise NotImplementedError


def compare_units(
    first: Units,
    second: Units,
    *,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
    alpha: float = 0.05,
) -> Difference:
    """Paired bootstrap interval and permutation test of one task's difference.

    Raises:
        ComparisonError: The two do not hold the same units of the same task and metric.
    """
    raise NotImplementedError


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (Holm 1979), input order; None stays None and is not counted."""
    raise NotImplementedError


def compare_suites(
    pairs: Sequence[tuple[Units, Units]],
    *,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> SuiteDifference:
    """Bootstrap of the mean difference: tasks are resampled and, within each, its units.

    Raises:
        ComparisonError: A pair does not hold the same units of the same task and metric.
    """
    raise NotImplementedError
