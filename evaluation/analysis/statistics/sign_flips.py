"""The paired permutation test (random signs) of a weighted mean of differences, and the interval that inverts it.

If two models are equally good, each cluster's difference is as likely to have the opposite sign (Fisher 1935).
The values of the mean that the same test does not reject form the interval: its ends are quantiles of the means of
random subsets of the clusters (Hartigan 1969), so that interval and p never contradict each other. Knows no tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evaluation.analysis.statistics.intervals import Interval

Floats = NDArray[np.float64]
EXACT_CLUSTERS: Final = 16
"""With no more changed clusters every pattern of signs is tried."""
RESOLVED_DRAWS: Final = 20
"""With fewer draws beyond the observed value their number no longer resolves p (its relative error exceeds 20 %)."""
_BLOCK: Final = 16
"""Differences tested at once, so that their sums stay small in memory."""
_TIE: Final = 1e-12
"""A sum this close to the observed one, relative to all contributions, counts as equal: sums are rounded."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """How many patterns of signs are drawn where there are too many to try all, and from which seed."""

    n_resamples: int = 10_000
    seed: int = 0


def exact_p_drop(contributions: Floats) -> float:
    """Returns the one-sided p of the sum of at most `EXACT_CLUSTERS` contributions: the chance of one so low."""
    changed = contributions[contributions != 0.0]
    assert len(changed) <= EXACT_CLUSTERS, len(changed)
    flipped = _all_subsets(len(changed)) @ changed
    return float(np.mean(flipped >= -_slack(changed)))  # a sum is no higher than the observed where this is no loss


@dataclass(frozen=True, slots=True)
class FlipTest:
    """Sign flips of one difference.

    Attributes:
        n_drop: Patterns of signs, of `n`, with so low a difference; the observed one counts.
        n_rise: Those with so high a one.
        n: Patterns tried.
        interval: Of the difference.
    """

    n_drop: int
    n_rise: int
    n: int
    interval: Interval

    def p_drop(self, other: float) -> float:
        """The chance of so low a difference: the share of patterns, or what `other` says where that can't resolve it.

        Args:
            other: p of another test, whose value then counts up to a cautious upper limit of the share.
        """
        return self._p(self.n_drop, other)

    def p_rise(self, other: float) -> float:
        """The chance of so high a difference; likewise."""
        return self._p(self.n_rise, other)

    def _p(self, hits: int, other: float) -> float:
        if hits >= RESOLVED_DRAWS:
            return hits / self.n
        return min(other, (hits + 2.0 * math.sqrt(hits) + 2.0) / self.n)  # two standard errors and two above the share


def flip_tests(contributions: Floats, weights: Floats, confidence: float, resampling: Resampling) -> list[FlipTest]:
    """Tests weighted means against 0 and inverts the tests; all of them with the same patterns of signs.

    Args:
        contributions: (P, K) what each cluster adds to each mean.
        weights: (K,) what it would add if each of its values were 1; they sum to 1.
        confidence: Such as 0.95.
        resampling: How many patterns are drawn.
    """
    subsets = _subsets(len(weights), resampling.n_resamples, resampling.seed)
    n = len(subsets) + 1  # the observed signs are one of the patterns
    tail = max(int((1.0 - confidence) / 2.0 * n + 1e-9), 1) - 1
    shares, found = subsets @ weights, []
    for block in np.array_split(contributions, -(-len(contributions) // _BLOCK)):
        sums = block @ subsets.T  # (P, B)
        # A sum with these signs flipped is no higher than the observed one where what is flipped sums to at least 0.
        sums[np.abs(sums) <= _slack(block)] = 0.0
        drops, rises = 1 + np.count_nonzero(sums >= 0, axis=1), 1 + np.count_nonzero(sums <= 0, axis=1)
        means = np.partition(sums / shares, [tail, len(subsets) - 1 - tail], axis=1)
        for drop, rise, own in zip(drops.tolist(), rises.tolist(), means, strict=True):
            interval = Interval(float(own[tail]), float(own[-1 - tail]), "sign flips")
            found.append(FlipTest(drop, rise, n, interval))
    return found


def _slack(contributions: Floats) -> Floats:
    return np.asarray(_TIE * np.abs(contributions).sum(axis=-1, keepdims=True))


@lru_cache(maxsize=4)
def _subsets(n: int, n_resamples: int, seed: int) -> NDArray[Any]:
    """(B, n) of 0 and 1, no row all 0: all that there are, or `n_resamples` random ones. The same for all models."""
    if n < 63 and 2**n <= n_resamples:
        return _all_subsets(n)[1:]
    rng = np.random.default_rng([seed, n])
    n_bytes = (n + 7) // 8
    drawn = np.frombuffer(rng.bytes(n_resamples * n_bytes), np.uint8).reshape(n_resamples, n_bytes)
    bits = np.unpackbits(drawn, axis=1, count=n)
    return bits[bits.any(axis=1)].astype(np.float64)


@lru_cache(maxsize=4)
def _all_subsets(n: int) -> Floats:
    return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(np.float64)
