"""Computes a task's score from the numbers of its examples, as mteb's metrics do.

There are three kinds of score. In a *mean* every example has its own value. A *smooth* score (an F1, Kendall's tau) is
a function of sums over examples; to first order it is a mean as well, of the values that `example_values` returns (its
jackknife pseudo-values). A *ranking* score (Spearman, average precision) depends on the order of all examples; see
`ranking_scores.py`. Knows no tasks, files or models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from evaluation.analysis.statistics.ranking_scores import Arrays, Floats, concordance, ranked, ranking_score

Statistic = Literal[
    "mean", "rounded mean", "spearman", "ap", "pair accuracy", "pair f1",
    "bitext f1", "macro f1", "weighted f1", "multilabel f1", "kendalltau",
]  # fmt: skip
PAIRS: Final = frozenset({"ap", "pair accuracy", "pair f1"})
RANKING: Final = PAIRS | {"spearman"}

MTEB_DECIMALS: Final = 5
"""Decimals to which mteb rounds the means of ndcg, map, recall, precision and hit rate
(mteb/_evaluators/retrieval_metrics.py, `parse_metrics_from_scores`)."""


def score_part(statistic: Statistic, arrays: Arrays) -> float:
    """Returns the score of one split and subset, 0-1, as mteb computes it."""
    match statistic:
        case "rounded mean":
            values = arrays["value"].tolist()
            return float(round(sum(values) / len(values), MTEB_DECIMALS))
        case "mean":
            return float(np.mean(arrays["value"].astype(np.float64)))
        case "spearman" | "ap" | "pair accuracy" | "pair f1":
            return ranking_score(statistic, arrays)
        case _:
            return float(np.mean(_SMOOTH[statistic](arrays)[0]))


def example_values(statistic: Statistic, arrays: Arrays) -> Floats:
    """Returns (E, N) what each example adds in each experiment: the mean is the score, the spread its uncertainty.

    Raises:
        KeyError: The statistic is a ranking score.
    """
    if statistic in ("mean", "rounded mean"):
        return np.atleast_2d(np.asarray(arrays["value"], np.float64))
    scores, deviations = _SMOOTH[statistic](arrays)
    return np.asarray(scores[:, None] + deviations - deviations.mean(axis=1, keepdims=True))


# ---------------------------------------------------------------------------------------------------- smooth scores


def _bitext_f1(arrays: Arrays) -> tuple[Floats, Floats]:
    """F1 weighted by label, as scikit-learn computes it; a label is a sentence of the second language.

    A bootstrap of sentence pairs would be biased: copies of a pair share a label, and a false match costs nothing when
    its true pair was not drawn, so resamples score far above the data. The pseudo-values do not have this bias.
    """
    gold, prediction = arrays["gold"], arrays["prediction"]
    n, n_labels = len(gold), 1 + int(max(gold.max(), prediction.max()))
    support, predicted = np.bincount(gold, minlength=n_labels), np.bincount(prediction, minlength=n_labels)
    hits = np.bincount(gold[gold == prediction], minlength=n_labels)

    def weight(support: NDArray[Any], hits: NDArray[Any], predicted: NDArray[Any]) -> Floats:
        """Returns a label's support times its F1."""
        return np.asarray(support * 2.0 * hits / np.maximum(support + predicted, 1))

    whole = weight(support, hits, predicted)
    s, h, p = support[gold], hits[gold], predicted[gold]
    right = gold == prediction
    of_gold = np.where(right, weight(s - 1, h - 1, p - 1), weight(s - 1, h, p)) - whole[gold]
    of_prediction = weight(support[prediction], hits[prediction], predicted[prediction] - 1) - whole[prediction]
    without = (whole.sum() + of_gold + np.where(right, 0.0, of_prediction)) / max(n - 1, 1)  # (N,) leaving one out
    score = whole.sum() / n
    return np.array([score]), ((n - 1) * (score - without))[None]


def _class_f1(arrays: Arrays, *, weighted: bool) -> tuple[Floats, Floats]:
    """F1 of classes, averaged plainly (macro) or by support; infinitesimal jackknife."""
    gold = arrays["gold"]
    scores, deviations = [], []
    for prediction in arrays["prediction"]:
        n_labels = 1 + int(max(gold.max(), prediction.max()))
        support = np.bincount(gold, minlength=n_labels)
        size = support + np.bincount(prediction, minlength=n_labels)
        hits = np.bincount(gold[gold == prediction], minlength=n_labels)
        f1 = 2.0 * hits / np.maximum(size, 1)
        share = support / len(gold) if weighted else (size > 0) / np.count_nonzero(size)
        slope = share / np.maximum(size, 1)  # how far one more hit, or one more member, moves the score
        deviation = 2.0 * (gold == prediction) * slope[gold] - (f1 * slope)[gold] - (f1 * slope)[prediction]
        scores.append(float(share @ f1))
        deviations.append(len(gold) * deviation + (f1[gold] if weighted else 0.0))
    return np.array(scores), np.array(deviations)


def _multilabel_f1(arrays: Arrays) -> tuple[Floats, Floats]:
    """Mean over labels of F1; gold (L, N), prediction (E, L, N), both 0 or 1."""
    gold = arrays["gold"].astype(np.float64)
    scores, deviations = [], []
    for prediction in arrays["prediction"].astype(np.float64):
        size = (gold + prediction).sum(axis=1)  # (L,)
        f1 = 2.0 * (gold * prediction).sum(axis=1) / np.maximum(size, 1)
        slope = 1.0 / (np.maximum(size, 1) * len(gold))
        scores.append(float(f1.mean()))
        deviations.append(gold.shape[1] * (slope @ (2.0 * gold * prediction - f1[:, None] * (gold + prediction))))
    return np.array(scores), np.array(deviations)


def _kendalltau(arrays: Arrays) -> tuple[Floats, Floats]:
    """Kendall's tau-b (scipy's default), leaving one example out at a time."""
    gold = ranked(arrays["gold"])
    n = len(gold.codes)
    scores, deviations = [], []
    for prediction in map(ranked, arrays["prediction"]):
        own = [concordance(gold, prediction), gold.sizes - 1, prediction.sizes - 1]  # (N,) over all others

        def tau(pairs: Any, concordant: Any, tied_gold: Any, tied_prediction: Any) -> Any:
            return concordant / np.sqrt((pairs - tied_gold) * (pairs - tied_prediction))

        sums = [each.sum() / 2 for each in own]
        score = tau(n * (n - 1) / 2, *sums)
        rest = [total - each for total, each in zip(sums, own, strict=True)]
        scores.append(float(score))
        deviations.append((n - 1) * (score - tau((n - 1) * (n - 2) / 2, *rest)))
    return np.array(scores), np.array(deviations)


_SMOOTH: Final[Mapping[str, Callable[[Arrays], tuple[Floats, Floats]]]] = {
    "bitext f1": _bitext_f1,
    "macro f1": lambda arrays: _class_f1(arrays, weighted=False),
    "weighted f1": lambda arrays: _class_f1(arrays, weighted=True),
    "multilabel f1": _multilabel_f1,
    "kendalltau": _kendalltau,
}
"""Arrays -> (E,) score of each experiment, (E, N) how far each example moves it, times N."""
