"""Verdicts on the loss of stored forms: by hand, and how often they are wrong where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from evaluation.analysis.statistics.corrections import holm
from evaluation.analysis.statistics.loss_verdicts import (
    ONE_SIDED,
    PairedChange,
    change_of,
    interval_ends,
    judge_loss,
    judge_resamples,
    p_no_loss,
)

MARGIN = 0.01
SIZES = (50, 225, 300, 1_000)
N_SETS = 2_000
Floats = NDArray[np.float64]


def change(value: float, error: float, *, n: int = 300, n_lost: int = 30, largest: float = 0.2) -> PairedChange:
    return PairedChange(value, error, n - 1, n, n_lost, largest)


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
    differences = np.random.default_rng(1).normal(-0.004, 0.1, 400)
    found = change_of(differences)
    expected = stats.ttest_1samp(differences, -MARGIN, alternative="greater")
    assert p_no_loss(found, MARGIN) == pytest.approx(expected.pvalue)
    own = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert interval_ends(found) == pytest.approx((own.low, own.high))


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


def test_units_that_would_decide_halve_the_interval_fourfold() -> None:
    """An interval of twice the distance to the margin needs four times the units."""
    found = judge_loss(change(-0.005, 0.01 / 1.9679), MARGIN)
    assert found.n_needed == pytest.approx(1_200, abs=2)


def test_resamples_decide_by_their_quantiles() -> None:
    changes = np.linspace(-0.02, 0.0, 1_001)
    assert judge_resamples(-0.01, changes, 500, 0.03).outcome == "ruled out"
    assert judge_resamples(-0.01, changes, 500, 0.0004).outcome == "shown"
    found = judge_resamples(-0.01, changes, 500, 0.015)
    assert (found.outcome, found.low, found.high) == ("inconclusive", pytest.approx(-0.0195), pytest.approx(-0.0005))
    assert found.n_needed == pytest.approx(500 * (0.0095 / 0.005) ** 2, abs=1)


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


@pytest.mark.full
@pytest.mark.parametrize("n", SIZES)
def test_a_loss_of_the_margin_is_seldom_ruled_out(n: int) -> None:
    """At most 6 % of 2,000 sets whose true loss is the margin, dense or sparse; and of any of ten rows under Holm."""
    rng = np.random.default_rng(n)
    values = ndcg_like(rng)
    weights = tilted(values, -MARGIN)
    assert weights @ values == pytest.approx(-MARGIN, abs=1e-9)
    rates = {"tilted": p_no_loss(change_of(rng.choice(values, (N_SETS, n), p=weights)), MARGIN) <= ONE_SIDED}
    for share in (0.01, 0.02, 0.05, 0.10):
        sparse = np.where(rng.random((N_SETS, n)) < share, -MARGIN / share, 0.0)
        rates[f"{share:.0%} of units"] = p_no_loss(change_of(sparse), MARGIN) <= ONE_SIDED
    false = {name: float(found.mean()) for name, found in rates.items()}
    ten = p_no_loss(change_of(rng.choice(values, (N_SETS, 10, n), p=weights)), MARGIN)
    false["any of ten"] = float(np.mean([min(holm(row)) <= ONE_SIDED for row in ten.tolist()]))  # type: ignore[type-var]
    assert max(false.values()) <= 0.06, false
