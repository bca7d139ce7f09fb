"""Smooth scores against scikit-learn and scipy, and their pseudo-values against leaving examples out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kendalltau
from sklearn.metrics import f1_score

from evaluation.analysis.statistics.scorers import example_values, score_part

N = 80


def predictions(seed: int = 0, labels: int = 5) -> tuple[NDArray[Any], NDArray[Any]]:
    """Gold and three experiments' predictions of labels; a label is predicted that gold never has."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, labels, N)
    return gold, np.where(rng.random((3, N)) < 0.6, gold, rng.integers(0, labels + 1, (3, N)))


def test_mean_of_retrieval_is_rounded_as_mteb_rounds_it() -> None:
    values = {"value": np.array([1.0, 0.5, 1 / 3])}
    assert score_part("rounded mean", values) == 0.61111
    assert score_part("mean", values) == pytest.approx(11 / 18, abs=1e-15)


def test_bitext_f1_of_three_pairs_by_hand() -> None:
    """Two right, the third takes the first's translation: labels score 2/3, 1 and 0."""
    arrays = {"gold": np.arange(3), "prediction": np.array([0, 1, 0])}
    assert score_part("bitext f1", arrays) == pytest.approx((2 / 3 + 1) / 3)


@pytest.mark.parametrize(("statistic", "average"), [("macro f1", "macro"), ("weighted f1", "weighted")])
def test_f1_is_scikit_learns_mean_over_experiments(statistic: Any, average: str) -> None:
    gold, found = predictions()
    expected = np.mean([f1_score(gold, prediction, average=average) for prediction in found])
    assert score_part(statistic, {"gold": gold, "prediction": found}) == pytest.approx(expected, abs=1e-14)


def test_bitext_f1_is_scikit_learns_weighted_one() -> None:
    for gold in (np.arange(N), predictions()[0]):
        prediction = np.where(np.random.default_rng(1).random(N) < 0.6, gold, gold[::-1])
        expected = f1_score(gold, prediction, average="weighted", zero_division=0)
        assert score_part("bitext f1", {"gold": gold, "prediction": prediction}) == pytest.approx(expected, abs=1e-14)


def test_multilabel_f1_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, (4, N))
    found = np.where(rng.random((3, 4, N)) < 0.7, gold, 1 - gold)
    found[0, 2] = gold[2] = 0
    expected = np.mean([f1_score(gold.T, prediction.T, average="macro", zero_division=0) for prediction in found])
    assert score_part("multilabel f1", {"gold": gold, "prediction": found}) == pytest.approx(expected, abs=1e-14)


def test_kendalls_tau_is_scipys_with_ties() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 9, N)
    found = np.array([gold + rng.integers(0, 9, N) for _ in range(3)])
    expected = np.mean([kendalltau(gold, prediction).statistic for prediction in found])
    assert score_part("kendalltau", {"gold": gold, "prediction": found}) == pytest.approx(expected, abs=1e-12)


def smooth_data(statistic: str) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(4)
    gold, found = predictions()
    if statistic == "bitext f1":
        gold = np.arange(N)
        return {"gold": gold, "prediction": np.where(rng.random(N) < 0.7, gold, rng.integers(0, N, N))}
    if statistic == "multilabel f1":
        gold = rng.integers(0, 2, (4, N))
        return {"gold": gold, "prediction": np.where(rng.random((2, 4, N)) < 0.7, gold, 1 - gold)}
    return {"gold": gold, "prediction": found}


@pytest.mark.parametrize("statistic", ["bitext f1", "macro f1", "weighted f1", "multilabel f1", "kendalltau"])
def test_pseudo_values_are_those_of_leaving_one_example_out(statistic: Any) -> None:
    """Exactly so for bitext F1 and Kendall's tau; the others are their limit for many examples."""
    arrays = smooth_data(statistic)
    whole = score_part(statistic, arrays)
    without = np.array(
        [
            score_part(statistic, {name: np.delete(array, at, axis=-1) for name, array in arrays.items()})
            for at in range(N)
        ]
    )
    pseudo = N * whole - (N - 1) * without
    values = example_values(statistic, arrays).mean(axis=0)
    assert values.mean() == pytest.approx(whole, abs=1e-12)
    if statistic in ("bitext f1", "kendalltau"):
        assert values - values.mean() == pytest.approx(pseudo - pseudo.mean(), abs=1e-9)
    else:
        assert np.corrcoef(values, pseudo)[0, 1] > 0.999
        assert values.std() == pytest.approx(pseudo.std(), rel=0.05)
