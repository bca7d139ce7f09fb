"""Ranking scores against scipy and scikit-learn, on data with ties and on resamples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from evaluation.analysis.statistics.ranking_scores import RankingScore

N = 60


def data(seed: int, levels: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Gold grades, labels and predictions, with ties where there are few levels."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 6, N)
    prediction = np.unique(np.round(gold + rng.normal(0, 2, N), levels), return_inverse=True)[1]
    return gold, (gold > 3).astype(int), prediction


def resamples(n_resamples: int = 20) -> NDArray[Any]:
    """(n_resamples, N) how often each example is drawn."""
    return np.random.default_rng(1).multinomial(N, np.full(N, 1 / N), n_resamples)


def test_spearman_of_four_pairs_by_hand() -> None:
    """Ranks 1 2 3 4 against 1 2 4 3: 1 - 6 * 2 / (4 * 15) = 0.8."""
    score = RankingScore("spearman", {"gold": np.array([1, 2, 3, 4]), "prediction": np.array([0, 1, 3, 2])})
    assert score.whole() == pytest.approx(0.8)
    assert score.on([np.ones(1)] * 4)[0] == pytest.approx(0.8)


def test_average_precision_of_four_pairs_by_hand() -> None:
    """Matches at ranks 1 and 3 of 4: (1 + 2/3) / 2; drawn twice, the first counts twice: (1 + 1 + 3/4) / 3."""
    score = RankingScore("ap", {"gold": np.array([1, 0, 1, 0]), "prediction": np.array([[3, 2, 1, 0]])})
    assert score.whole() == pytest.approx(5 / 6)
    assert score.on(np.array([[1.0, 2.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])) == pytest.approx([5 / 6, 11 / 12])


@pytest.mark.parametrize("levels", [0, 1, 9])
def test_on_resamples_spearman_is_scipys(levels: int) -> None:
    gold, _, prediction = data(levels, levels)
    counts = resamples()
    expected = [spearmanr(np.repeat(gold, row), np.repeat(prediction, row)).statistic for row in counts]
    assert RankingScore("spearman", {"gold": gold, "prediction": prediction}).on(
        counts.T.astype(float)
    ) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [0, 1, 9])
def test_on_resamples_average_precision_is_scikit_learns(levels: int) -> None:
    _, label, prediction = data(levels, levels)
    counts = resamples()
    expected = [average_precision_score(np.repeat(label, row), np.repeat(prediction, row)) for row in counts]
    assert RankingScore("ap", {"gold": label, "prediction": prediction[None]}).on(
        counts.T.astype(float)
    ) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [0, 1, 9])
@pytest.mark.parametrize("statistic", ["pair accuracy", "pair f1"])
def test_best_threshold_is_mtebs(statistic: str, levels: int) -> None:
    from mteb.abstasks.pair_classification import AbsTaskPairClassification

    _, label, prediction = data(levels, levels)
    scores = prediction.astype(float).tolist()
    if statistic == "pair f1":
        expected = AbsTaskPairClassification._find_best_f1_and_threshold(None, scores, label, True)[0]
    else:
        expected = AbsTaskPairClassification._find_best_acc_and_threshold(None, scores, label, True)[0]
    score = RankingScore(statistic, {"gold": label, "prediction": prediction[None]})
    assert score.whole() == pytest.approx(float(expected))
    assert score.on([np.ones(1)] * N)[0] == score.whole()


@pytest.mark.parametrize("levels", [0, 1, 9])
@pytest.mark.parametrize("statistic", ["spearman", "ap", "pair accuracy", "pair f1"])
def test_on_resamples_each_score_is_that_of_the_examples_drawn(statistic: str, levels: int) -> None:
    gold, label, prediction = data(levels, levels)
    arrays = {"gold": gold if statistic == "spearman" else label, "prediction": prediction}
    counts = resamples() + 1  # a group that is not drawn at all would be a threshold more
    expected = [
        RankingScore(statistic, {name: np.repeat(array, row) for name, array in arrays.items()}).whole()
        for row in counts
    ]
    assert RankingScore(statistic, arrays).on(counts.T.astype(float)) == pytest.approx(expected, abs=1e-12)


def test_best_of_several_columns_counts() -> None:
    _, label, prediction = data(0, 9)
    both = RankingScore("ap", {"gold": label, "prediction": np.array([prediction, -prediction])})
    assert both.whole() == pytest.approx(average_precision_score(label, prediction))


def test_score_that_is_undefined_on_a_resample_is_zero() -> None:
    counts = np.array([[4.0], [0.0], [0.0], [0.0]])
    arrays = {"gold": np.array([0, 1, 1, 0]), "prediction": np.arange(4)}
    assert RankingScore("spearman", arrays).on(counts)[0] == 0.0
    assert RankingScore("ap", arrays).on(counts)[0] == 0.0
