"""Bootstrap and permutation on plain arrays: draws, intervals and chances. Knows no tasks and no metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

Floats = NDArray[np.float64]
BLOCK_ELEMENTS: Final = 1 << 14
"""Numbers drawn at once: a block of resamples stays in the processor's cache, and its memory is used again. (Many
more are several times slower, all of it page faults.) Random bits depend on it."""
CHUNK_ELEMENTS: Final = 1 << 22
"""Numbers at once where a step is a whole row of resamples: many, so that Python's share of the time is small."""
_FEW_DISTINCT: Final = 16
"""With so many examples a distinct value it is quicker to draw how often each value occurs."""
_TIE: Final = 1e-12
"""A permuted statistic this close to the observed one, relative to it, counts as equal (rounding of sums)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval.

    Attributes:
        method: "BCa" or "percentile" (bootstrap), or "t" (very many units).
    """

    low: float
    high: float
    method: str


class Chances(NamedTuple):
    """P-values of a difference: of one so far from 0 either way, and of one so low."""

    two_sided: float
    drop: float


def blocks(n: int, n_resamples: int) -> Iterator[slice]:
    """Rows of n numbers, a block that stays in cache at a time."""
    return _slices(n_resamples, _block_rows(n))


def _block_rows(n: int) -> int:
    return max(1, BLOCK_ELEMENTS // max(n, 1))


def _slices(n_resamples: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, n_resamples)) for start in range(0, n_resamples, step))


def _columns(
    rows: Callable[[int], NDArray[Any]], n: int, n_resamples: int, block_rows: int
) -> Iterator[tuple[slice, Floats]]:
    """Resamples as columns: slices of them, and (n, columns) of what `rows` gives a block of them at a time, turned.

    The array is used again for the next slice. It is far larger than a block, as each row costs who walks over them.
    """
    step = min(n_resamples, max(1, CHUNK_ELEMENTS // n // block_rows) * block_rows)
    chunk = np.empty((n, step))
    for columns in _slices(n_resamples, step):
        found = chunk[:, : columns.stop - columns.start]
        for block in _slices(found.shape[1], block_rows):
            found[:, block] = rows(block.stop - block.start).T
        yield columns, found


def draw_counts(rng: np.random.Generator, n: int, n_resamples: int) -> Iterator[tuple[slice, Floats]]:
    """How often each of n examples is drawn when n are drawn with replacement: columns, and (n, columns).

    The array is used again for the next columns.
    """

    def rows(n_rows: int) -> NDArray[Any]:
        drawn = rng.integers(0, n, (n_rows, n))
        drawn += np.arange(n_rows)[:, None] * n
        return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)

    return _columns(rows, n, n_resamples, _block_rows(n))


def resampled_means(rng: np.random.Generator, values: Floats, n_resamples: int) -> Floats:
    """(n_resamples,) means of (N,) values drawn with replacement."""
    n = len(values)
    distinct, sizes = np.unique(values, return_counts=True)
    if n > _FEW_DISTINCT * len(distinct):
        return np.asarray(rng.multinomial(n, sizes / n, n_resamples) @ distinct / n)
    means = np.empty(n_resamples)
    for rows in blocks(n, n_resamples):
        means[rows] = values[rng.integers(0, n, (rows.stop - rows.start, n))].mean(axis=1)
    return means


def bca_interval(draws: Floats, point: float, influence: Floats, confidence: float, df: float = np.inf) -> Interval:
    """The bias-corrected and accelerated bootstrap interval (Efron 1987; as `scipy.stats.bootstrap` computes it).

    Args:
        draws: (B,) the statistic on each resample.
        point: The statistic on the data.
        influence: How far each example pulls the statistic: its jackknife value over N, around 0.
        confidence: Such as 0.95.
        df: Degrees of freedom, finite where few experiments carry the uncertainty: widens the interval as
            Student's t does ("expanded percentiles", Hesterberg 2015, The American Statistician 69).

    Returns:
        The percentile interval where all draws lie on one side of the point, or it has no spread.
    """
    tail = (1.0 - confidence) / 2.0
    wanted = np.array([tail, 1.0 - tail])
    z = ndtri(wanted) if np.isinf(df) else stdtrit(df, wanted)
    share_below = (np.mean(draws < point) + np.mean(draws <= point)) / 2.0
    squares = float(np.sum(influence**2))
    method, levels = "percentile", ndtr(z)
    if 0.0 < share_below < 1.0 and squares > 0.0:
        bias, acceleration = ndtri(share_below), float(np.sum(influence**3)) / (6.0 * squares**1.5)
        method, levels = "BCa", ndtr(bias + (bias + z) / (1.0 - acceleration * (bias + z)))
    low, high = np.quantile(draws, levels)
    return Interval(float(low), float(high), method)


def percentile_interval(draws: Floats, confidence: float, df: float = np.inf) -> Interval:
    """The bootstrap's percentiles; with finite degrees of freedom, expanded (see `bca_interval`)."""
    tail = (1.0 - confidence) / 2.0
    wanted = np.array([tail, 1.0 - tail])
    low, high = np.quantile(draws, wanted if np.isinf(df) else ndtr(stdtrit(df, wanted)))
    return Interval(float(low), float(high), "percentile")


def t_interval(point: float, standard_error: float, df: float, confidence: float) -> Interval:
    """Student's interval."""
    reach = float(stdtrit(df, 0.5 + confidence / 2.0)) * standard_error
    return Interval(point - reach, point + reach, "t")


def t_chances(point: float, standard_error: float, df: float) -> Chances:
    """Student's paired test, given the difference and its standard error."""
    t = point / standard_error
    return Chances(float(2.0 * stdtr(df, -abs(t))), float(stdtr(df, t)))


def chances(observed: float, permuted: Floats, *, exact: bool) -> Chances:
    """P-values from permuted statistics, whose distribution is symmetric.

    Args:
        observed: The statistic on the data.
        permuted: (B,) the statistic on each permutation.
        exact: `permuted` holds every permutation once, the data's own among them; otherwise the data's own is
            added to those drawn (Phipson and Smyth 2010).
    """
    slack = _TIE * abs(observed)
    added = 0 if exact else 1
    n = len(permuted) + added
    two_sided = (np.count_nonzero(np.abs(permuted) >= abs(observed) - slack) + added) / n
    drop = (np.count_nonzero(permuted <= observed + slack) + added) / n
    return Chances(float(two_sided), float(drop))


def sign_flips(rng: np.random.Generator, values: Floats, n_resamples: int) -> tuple[Floats, bool]:
    """(B,) sums of the values under random signs; all signs once where there are no more than `n_resamples`.

    Returns:
        The sums, and whether they are all there are.
    """
    moving = values[values != 0.0]
    n = len(moving)
    if exact := n < 63 and 2**n <= n_resamples:
        bits: NDArray[Any] = np.arange(2**n)[:, None] >> np.arange(n) & 1
        return (1.0 - 2.0 * bits) @ moving, exact
    n_bytes = (n + 7) // 8
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)  # (256, 8)
    padded = np.concatenate([moving, np.zeros(8 * n_bytes - n)])
    flipped = (padded.reshape(n_bytes, 8) @ bits.T).ravel()  # sums of eight values, by which of them are flipped
    sums = np.empty(n_resamples)
    for rows in blocks(n, n_resamples):
        drawn = _coin_bytes(rng, rows.stop - rows.start, n) + 256 * np.arange(n_bytes)
        sums[rows] = moving.sum() - 2.0 * np.take(flipped, drawn).sum(axis=1)
    return sums, exact


def _coin_bytes(rng: np.random.Generator, n_rows: int, n: int) -> NDArray[np.uint8]:
    """(n_rows, n / 8, rounded up) of n coin flips a row, a bit each."""
    return np.frombuffer(rng.bytes(n_rows * ((n + 7) // 8)), np.uint8).reshape(n_rows, -1)


def swaps(rng: np.random.Generator, n: int, n_resamples: int) -> Iterator[tuple[slice, Floats]]:
    """Random swaps of n pairs: columns, and (n, columns) 1 where a pair is swapped.

    The array is used again for the next columns.
    """

    def rows(n_rows: int) -> NDArray[Any]:
        return np.unpackbits(_coin_bytes(rng, n_rows, n), axis=1, count=n)

    return _columns(rows, n, n_resamples, _block_rows(2 * n))
