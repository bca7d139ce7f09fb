"""Ranking scores against scipy and scikit-learn, on data with ties; the score without each example, by computing it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from evaluation.analysis.statistics.ranking_scores import concordance, leave_one_out, ranked, ranking_score

N = 60


def data(seed: int, levels: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Gold grades, labels and predictions, with ties where there are few levels."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 6, N)
    prediction = np.unique(np.round(gold + rng.normal(0, 2, N), levels), return_inverse=True)[1]
    return gold, (gold > 3).astype(int), prediction


def without(arrays: dict[str, NDArray[Any]], example: int) -> dict[str, NDArray[Any]]:
    return {name: np.delete(array, example, axis=-1) for name, array in arrays.items()}


def test_spearman_of_four_pairs_by_hand() -> None:
    """Ranks 1 2 3 4 against 1 2 4 3: 1 - 6 * 2 / (4 * 15) = 0.8; without the last, 1 2 3 against 1 2 3."""
    arrays = {"gold": np.array([1, 2, 3, 4]), "prediction": np.array([0, 1, 3, 2])}
    assert ranking_score("spearman", arrays) == pytest.approx(0.8)
    assert leave_one_out("spearman", arrays) == pytest.approx([0.5, 0.5, 1.0, 1.0])


@pytest.mark.parametrize("values", [[2, 0, 1, 0], [4, 0, 2, 0], [5, 1, 3, 1], [-1, -3, -2, -3], [0.3, 0.1, 0.2, 0.1]])
def test_places_are_the_same_whatever_stands_for_the_values(values: list[float]) -> None:
    """Places (0, 1, 2) stay; numbers with gaps, without a 0, negative or fractional become places."""
    codes, sizes, lower = ranked(np.array(values))
    assert (codes.tolist(), sizes.tolist(), lower.tolist()) == ([2, 0, 1, 0], [1, 2, 1, 2], [3, 0, 2, 0])


def test_average_precision_of_four_pairs_by_hand() -> None:
    """Matches at ranks 1 and 3 of 4: (1 + 2/3) / 2. Without either match 1/2 and 1; without rank 2, both are first."""
    arrays = {"gold": np.array([1, 0, 1, 0]), "prediction": np.array([[3, 2, 1, 0]])}
    assert ranking_score("ap", arrays) == pytest.approx(5 / 6)
    assert leave_one_out("ap", arrays) == pytest.approx([1 / 2, 1.0, 1.0, 5 / 6])


def test_concordance_of_four_by_hand() -> None:
    """1 2 3 4 against 1 2 4 4: the last two tie in the second; the others agree on all pairs."""
    found = concordance(ranked(np.array([1, 2, 3, 4])), ranked(np.array([1, 2, 4, 4])))
    assert found.tolist() == [3, 3, 2, 2]


@pytest.mark.parametrize("levels", [0, 1, 9])
def test_concordance_is_a_sum_of_signs_over_all_pairs(levels: int) -> None:
    gold, _, prediction = data(levels, levels)
    expected = (np.sign(gold[:, None] - gold) * np.sign(prediction[:, None] - prediction)).sum(axis=1)
    assert concordance(ranked(gold), ranked(prediction)).tolist() == expected.tolist()


@pytest.mark.parametrize("levels", [0, 1, 9])
def test_spearman_is_scipys(levels: int) -> None:
    gold, _, prediction = data(levels, levels)
    expected = float(spearmanr(gold, prediction).statistic)
    assert ranking_score("spearman", {"gold": gold, "prediction": prediction}) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [0, 1, 9])
def test_average_precision_is_scikit_learns(levels: int) -> None:
    _, label, prediction = data(levels, levels)
    expected = average_precision_score(label, prediction)
    assert ranking_score("ap", {"gold": label, "prediction": prediction[None]}) == pytest.approx(expected, abs=1e-12)


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
    arrays = {"gold": label, "prediction": prediction[None]}
    assert ranking_score(statistic, arrays) == pytest.approx(float(expected))


@pytest.mark.parametrize("levels", [0, 1, 9])
@pytest.mark.parametrize("statistic", ["spearman", "ap", "pair accuracy", "pair f1"])
def test_score_without_an_example_is_that_of_the_others(statistic: str, levels: int) -> None:
    """Where an example is the only one with the lowest similarity, the threshold below it stays one of the tried."""
    gold, label, prediction = data(levels, levels)
    arrays = {"gold": gold if statistic == "spearman" else label, "prediction": prediction}
    lowest = np.flatnonzero(prediction == 0)
    checked = [at for at in range(N) if len(lowest) > 1 or at != lowest[0]]
    expected = [ranking_score(statistic, without(arrays, at)) for at in checked]
    assert leave_one_out(statistic, arrays)[checked] == pytest.approx(expected, abs=1e-12)


def test_best_of_several_columns_counts() -> None:
    _, label, prediction = data(0, 9)
    both = {"gold": label, "prediction": np.array([prediction, -prediction])}
    assert ranking_score("ap", both) == pytest.approx(average_precision_score(label, prediction))
    assert leave_one_out("ap", both)[3] == pytest.approx(ranking_score("ap", without(both, 3)))


def test_score_that_is_undefined_is_zero() -> None:
    arrays = {"gold": np.array([0, 1]), "prediction": np.arange(2)}
    assert leave_one_out("spearman", arrays).tolist() == [0.0, 0.0]
    assert leave_one_out("ap", arrays)[1] == 0.0
    assert ranking_score("spearman", {"gold": np.array([1, 1]), "prediction": np.arange(2)}) == 0.0
