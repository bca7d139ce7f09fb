"""Verdicts on the loss of stored forms: by hand, and how often they are wrong where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from evaluation.analysis.statistics.corrections import holm
from evaluation.analysis.statistics.loss_verdicts import (
    ONE_SIDED,
    Losses,
    PairedChange,
    interval_ends,
    judge_loss,
    p_no_loss,
    skewness_of,
)

MARGIN = 0.01
SIZES = (50, 225, 300, 1_000)
N_SETS = 2_000
Floats = NDArray[np.float64]


def change_of(differences: Floats) -> PairedChange:
    """Returns the change of independent units from their (..., N) differences."""
    n, value = differences.shape[-1], differences.mean(axis=-1)
    error = differences.std(axis=-1, ddof=1) / np.sqrt(n)
    return PairedChange(
        value=value,
        error=error,
        df=n - 1,
        skewness=skewness_of((differences - value[..., None]) / n, error),
        losses=(losses_of(differences),),
    )


def losses_of(differences: Floats, weight: float = 1.0) -> Losses:
    largest = np.maximum(-differences.min(axis=-1), 0.0)
    return Losses(differences.shape[-1], (differences < 0).sum(axis=-1), largest, weight)


def mean_change_of(tasks: list[Floats]) -> PairedChange:
    """Returns the change of the mean over tasks of independent units, from the (..., N) differences on each."""
    k, found = len(tasks), [change_of(task) for task in tasks]
    squares = [one.error**2 / k**2 for one in found]
    error = np.sqrt(sum(squares))
    freedom = sum(square**2 / one.df for square, one in zip(squares, found, strict=True))
    return PairedChange(
        value=sum(one.value for one in found) / k,
        error=error,
        df=np.divide(error**4, freedom, out=np.ones_like(error), where=freedom > 0),
        skewness=skewness_of(
            np.concatenate([(d - d.mean(axis=-1, keepdims=True)) / d.shape[-1] / k for d in tasks], axis=-1), error
        ),
        losses=(losses_of(np.concatenate(tasks, axis=-1)), *(losses_of(task, 1 / k) for task in tasks)),
    )


def change(
    value: float, error: float, *, n_lost: int = 30, largest: float = 0.2, skewness: float = 0.0
) -> PairedChange:
    return PairedChange(value, error, 299, skewness, (Losses(300, n_lost, largest),))


@pytest.mark.parametrize(
    ("value", "error", "outcome"),
    [
        (0.0, 0.001, "ruled out"),
        (-0.005, 0.004, "inconclusive"),
        (-0.05, 0.005, "shown"),
        (-0.02, 0.006, "inconclusive"),
    ],
)
def test_the_interval_decides(value: float, error: float, outcome: str) -> None:
    """With 299 degrees of freedom, the interval reaches 1.968 standard errors to each side."""
    found = judge_loss(change(value, error), MARGIN)
    assert (found.low, found.high) == pytest.approx((value - 1.9679 * error, value + 1.9679 * error), abs=1e-6)
    assert found.outcome == outcome
    assert (found.p <= ONE_SIDED) == (found.low > -MARGIN)


def test_interval_and_p_are_those_of_scipy() -> None:
    half = np.random.default_rng(1).normal(-0.004, 0.1, 200)
    differences = np.append(half, -0.008 - half)
    found = change_of(differences)
    expected = stats.ttest_1samp(differences, -MARGIN, alternative="greater")
    assert p_no_loss(found, MARGIN) == pytest.approx(expected.pvalue)
    own = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert interval_ends(found) == pytest.approx((own.low, own.high))


def test_skewness_is_that_of_scipy() -> None:
    differences = np.random.default_rng(1).exponential(0.1, (2, 400)) * [[1.0], [-1.0]]
    expected = stats.skew(differences, axis=1) / np.sqrt(400) * (399 / 400) ** 1.5
    assert change_of(differences).skewness == pytest.approx(expected)
    assert change_of(np.zeros(400)).skewness == 0.0


@pytest.mark.parametrize(("skewness", "t"), [(-0.3, 2 - 0.45 + 0.72 / 27), (0.3, 2.0)])
def test_skewness_towards_losses_lowers_t_as_in_hall(skewness: float, t: float) -> None:
    """At t = 2 and skewness -0.3: -0.3 (4 / 3 + 1 / 6) = -0.45, and 0.09 * 8 / 27 = 0.72 / 27."""
    found = judge_loss(change(-0.004, 0.003, skewness=skewness), MARGIN)
    assert found.p == pytest.approx(stats.t.sf(t, 299))
    assert found.outcome == ("ruled out" if skewness > 0 else "inconclusive")
    assert found.low == pytest.approx(-0.004 - 1.9679 * 0.003, abs=1e-6)


def test_units_that_would_decide_shrink_error_and_skewness() -> None:
    found = judge_loss(change(-0.004, 0.003, skewness=-0.3), MARGIN)
    assert found.n_needed is not None
    for n, ruled_out in ((found.n_needed, True), (round(0.99 * found.n_needed), False)):
        shrink = (300 / n) ** 0.5
        larger = change(-0.004, 0.003 * shrink, skewness=-0.3 * shrink)
        assert (p_no_loss(larger, MARGIN) <= ONE_SIDED) == ruled_out


@pytest.mark.parametrize(("n", "outcome"), [(298, "inconclusive"), (299, "ruled out")])
def test_without_any_loss_rare_total_ones_must_be_unlikely(n: int, outcome: str) -> None:
    """1 - 0.05^(1 / 298) is 1.0003 %, 1 - 0.05^(1 / 299) is 0.9969 %."""
    found = judge_loss(change_of(np.zeros(n)), MARGIN)
    assert found.outcome == outcome
    assert found.n_needed is None or 299 <= found.n_needed <= 305


@pytest.mark.parametrize(("largest", "outcome"), [(0.25, "ruled out"), (0.40, "inconclusive")])
def test_few_losses_are_limited_by_clopper_and_pearson(largest: float, outcome: str) -> None:
    """The upper limit of 3 of 300 is 2.57 %: of losses of 25 points at most 0.64 points, of 40 points 1.03."""
    assert stats.beta.ppf(0.95, 4, 297) == pytest.approx(0.0257, abs=1e-4)
    assert judge_loss(change(-0.001, 0.001, n_lost=3, largest=largest), MARGIN).outcome == outcome
    assert judge_loss(change(-0.001, 0.001, n_lost=10, largest=largest), MARGIN).outcome == "ruled out"


def test_a_large_task_does_not_vouch_for_a_small_one() -> None:
    """The mean of two tasks loses 1 point where one loses 2: none of 12 units then loses all with 0.98^12 = 78 %."""
    tasks = [np.zeros(400), np.zeros(12)]
    assert judge_loss(change_of(np.concatenate(tasks)), MARGIN).outcome == "ruled out"
    found = judge_loss(mean_change_of(tasks), MARGIN)
    assert found.outcome == "inconclusive"
    assert found.p == pytest.approx(0.98**12 / 2)
    assert judge_loss(mean_change_of([np.zeros(400), np.zeros(149)]), MARGIN).outcome == "ruled out"  # 0.98^149 = 4.9 %


def test_units_that_would_decide_halve_the_interval_fourfold() -> None:
    """An interval of twice the distance to the margin needs four times the units."""
    found = judge_loss(change(-0.005, 0.01 / 1.9679), MARGIN)
    assert found.n_needed == pytest.approx(1_200, abs=2)


def tilted(values: Floats, mean: float) -> Floats:
    """Weights that give values this mean: exponential tilting, which keeps the values themselves."""
    low, high = -500.0, 500.0
    for _ in range(100):
        middle = (low + high) / 2
        weights = np.exp(middle * (values - values.max() * (middle > 0) - values.min() * (middle < 0)))
        weights /= weights.sum()
        low, high = (middle, high) if weights @ values < mean else (low, middle)
    return np.asarray(weights)


def ndcg_like(rng: np.random.Generator) -> Floats:
    """Per-query changes of nDCG: most none, some of a rank, few of a document that comes or goes."""
    steps = np.abs(np.diff(1 / np.log2(np.arange(2, 12))))
    values = np.where(rng.random(400) < 0.6, 0.0, rng.choice(steps, 400) * rng.choice([-1, 1], 400))
    values[:20] = rng.choice([-0.6, -0.4, 0.4, 0.6], 20)
    return np.append(values, [-0.9, 0.5])


def int8_like() -> Floats:
    """Changes of all-MiniLM-L6-v2 as int8 on Cranfield: 219 of 225 queries keep their nDCG, one loses 10 points."""
    return np.append(np.zeros(219), [-0.0980, -0.0153, -0.0107, -0.0067, -0.0026, 0.0067])


@pytest.mark.full
@pytest.mark.parametrize("n", SIZES)
def test_a_loss_of_the_margin_is_seldom_ruled_out(n: int) -> None:
    """At most 6 % of 2,000 sets whose true loss is the margin, dense or sparse; and of any of ten rows under Holm."""
    rng = np.random.default_rng(n)
    false: dict[str, float] = {}
    for name, values in {"nDCG": ndcg_like(rng), "int8": int8_like()}.items():
        weights = tilted(values, -MARGIN)
        assert weights @ values == pytest.approx(-MARGIN, abs=1e-9)
        ten = p_no_loss(change_of(rng.choice(values, (N_SETS, 10, n), p=weights)), MARGIN)
        false[name] = float(np.mean(ten[:, 0] <= ONE_SIDED))
        false[f"any of ten: {name}"] = _any_claimed(ten)
    for share in (0.01, 0.02, 0.05, 0.10):
        ten = p_no_loss(change_of(np.where(rng.random((N_SETS, 10, n)) < share, -MARGIN / share, 0.0)), MARGIN)
        false[f"{share:.0%} of units"] = float(np.mean(ten[:, 0] <= ONE_SIDED))
        false[f"any of ten: {share:.0%} of units"] = _any_claimed(ten)
    assert max(false.values()) <= 0.06, false


@pytest.mark.full
@pytest.mark.parametrize("sizes", [(400, 12), (200, 80, 60, 60, 12), (100,) * 7, (50, 50)])
def test_a_mean_loss_of_the_margin_is_seldom_ruled_out(sizes: tuple[int, ...]) -> None:
    """At most 6 % of 2,000 sets, wherever the loss is: in the smallest task, in the largest, or in all."""
    rng, k = np.random.default_rng(sum(sizes)), len(sizes)
    false: dict[str, float] = {}
    for where, of_tasks in {"smallest": [0] * (k - 1) + [k], "largest": [k] + [0] * (k - 1), "all": [1] * k}.items():
        for size in (1.0, 0.5, 0.2, 0.1):
            shares = [times * MARGIN / size for times in of_tasks]
            tasks = [
                np.where(rng.random((N_SETS, n)) < share, -size, 0.0) for n, share in zip(sizes, shares, strict=True)
            ]
            found = p_no_loss(mean_change_of(tasks), MARGIN)
            false[f"{where}, {size:g}"] = float(np.mean(found <= ONE_SIDED))
    assert max(false.values()) <= 0.06, false


def _any_claimed(p: Floats) -> float:
    """The share of sets in which Holm's p claims any of the ten rows."""
    lowest = [min(own for own in holm(row) if own is not None) for row in p.tolist()]
    return float(np.mean(np.array(lowest) <= ONE_SIDED))


@pytest.mark.full
def test_int8_without_loss_is_ruled_out_at_300_queries() -> None:
    """As measured (-0.06 points), and tilted to no loss at all."""
    rng, values = np.random.default_rng(0), int8_like()
    for weights in (None, tilted(values, 0.0)):
        assert np.all(p_no_loss(change_of(rng.choice(values, (N_SETS, 300), p=weights)), MARGIN) <= ONE_SIDED)
