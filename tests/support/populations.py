"""Made-up models whose true scores are known: two equally good ones, scored on the same units, as often as wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, stats

from evaluation.analysis.statistics.units import UnitPart, Units

Rng = np.random.Generator
Pair = tuple[Units, Units]


def units(statistic: Any, kind: str, *parts: dict[str, Any], task: str = "Task") -> Units:
    """Units of hand-made arrays, one subset a part."""
    arrays = [{name: np.asarray(array) for name, array in part.items()} for part in parts]
    made = [
        UnitPart("test", f"s{at}", tuple(map(str, range(next(iter(part.values())).shape[-1]))), part)
        for at, part in enumerate(arrays)
    ]
    return Units(task, "Type", "metric", statistic, kind, tuple(made))  # type: ignore[arg-type]


def codes(values: NDArray[Any]) -> NDArray[np.int64]:
    return np.unique(values, return_inverse=True)[1].reshape(values.shape)


def _related(rng: Rng, n: int, correlation: float = 0.7) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two standard normal variables: what two models have in common, and what not."""
    shared, own = rng.normal(size=n), rng.normal(size=(2, n))
    mixed = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    return mixed[0], mixed[1]


def queries(rng: Rng, n: int = 200) -> Pair:
    """Per-query nDCG: many zeros, many ones, a hump between."""

    def value(quantile: NDArray[np.float64]) -> NDArray[np.float64]:
        between = stats.beta.ppf(np.clip((quantile - 0.35) / 0.45, 1e-9, 1 - 1e-9), 2, 3)
        return np.where(quantile < 0.35, 0.0, np.where(quantile > 0.8, 1.0, between))

    first, second = (value(stats.norm.cdf(deviate)) for deviate in _related(rng, n))
    return units("mean", "query", {"value": first}), units("mean", "query", {"value": second})


QUERIES_MEAN = 0.45 * 0.4 + 0.2


def graded_pairs(rng: Rng, n: int = 300) -> Pair:
    """STS: gold and two models' similarities, jointly normal; a scale of its own for each model."""
    gold = rng.normal(size=n)
    noise = _related(rng, n, 0.5)
    first, second = (0.8 * gold + 0.6 * deviate for deviate in noise)
    made = [{"gold": codes(gold), "prediction": codes(scores)} for scores in (first, 0.8 + 0.02 * second)]
    return units("spearman", "example", made[0]), units("spearman", "example", made[1])


SPEARMAN = 6 / np.pi * np.arcsin(0.8 / 2)


def labelled_pairs(rng: Rng, n: int = 1000) -> Pair:
    """Pair classification: 30 % of pairs match; their similarity is 1.5 deviations higher.

    With 400 of them the interval of a difference holds the truth in 91.7 % of data sets only; MTEB's smallest task of
    this kind has about 1,000.
    """
    gold = (rng.random(n) < 0.3).astype(np.int64)
    made = [{"gold": gold, "prediction": codes(1.5 * gold + noise)[None]} for noise in _related(rng, n)]
    return units("ap", "example", made[0]), units("ap", "example", made[1])


def _average_precision() -> float:
    def integrand(threshold: float) -> float:
        found, false = 0.3 * stats.norm.sf(threshold - 1.5), 0.7 * stats.norm.sf(threshold)
        return float(found / (found + false) * stats.norm.pdf(threshold - 1.5))

    return float(integrate.quad(integrand, -8, 10)[0])


AVERAGE_PRECISION = _average_precision()


def labels(rng: Rng, n: int = 300, *, experiments: int = 10, spread: float = 0.15, statistic: str = "mean") -> Pair:
    """Classification: examples of different difficulty, experiments of different luck (`spread`), and chance."""
    gold = rng.integers(0, 4, n)
    made = []
    luck = rng.normal(0, spread, (2, experiments, 1))
    for model, difficulty in enumerate(_related(rng, n)):
        ability = 0.8 + difficulty + luck[model] + 0.5 * rng.normal(size=(experiments, n))
        right = ability > 0
        wrong = (gold + rng.integers(1, 4, (experiments, n))) % 4
        made.append(
            {"value": right.astype(np.int64)}
            if statistic == "mean"
            else {"gold": gold, "prediction": np.where(right, gold, wrong)}
        )
    return units(statistic, "example", made[0]), units(statistic, "example", made[1])


def label_accuracy(spread: float = 0.15) -> float:
    return float(stats.norm.cdf(0.8 / np.sqrt(1 + spread**2 + 0.25)))


def translations(rng: Rng, n: int = 300) -> Pair:
    """Bitext mining: 70 % found, the others' nearest neighbour is any sentence."""
    right = [deviate < stats.norm.ppf(0.7) for deviate in _related(rng, n)]
    gold = np.arange(n)
    made = [{"gold": gold, "prediction": np.where(hit, gold, rng.integers(0, n, n))} for hit in right]
    return units("bitext f1", "example", made[0]), units("bitext f1", "example", made[1])


def amounts(rng: Rng, n: int = 300, experiments: int = 10) -> Pair:
    """Regression: predictions of ten regressions, of which most of the error is common."""
    gold = rng.normal(size=n)
    made = []
    for noise in _related(rng, n):
        prediction = 0.8 * gold + 0.55 * noise + np.sqrt(0.0575) * rng.normal(size=(experiments, n))
        made.append({"gold": codes(gold), "prediction": codes(prediction)})
    return units("kendalltau", "example", made[0]), units("kendalltau", "example", made[1])


KENDALL = 2 / np.pi * np.arcsin(0.8)


def mean_over_data(make: Callable[[Rng], Pair], score: Callable[[Units], float], n_sets: int, seed: int) -> float:
    """The expected score, where no formula gives it."""
    rng = np.random.default_rng(seed)
    return float(np.mean([score(make(rng)[0]) for _ in range(n_sets)]))
