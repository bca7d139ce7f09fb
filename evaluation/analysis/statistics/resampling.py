"""Bootstrap and permutation on plain arrays: draws, intervals and chances. Knows no tasks and no metrics."""

from __future__ import annotations

import zlib
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
CHUNK_ELEMENTS: Final = 1 << 23
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


class KeptDraws:
    """What was drawn before, for whoever comes with an equal random state: the models of one task draw alike.

    Args:
        max_bytes: Memory for all of it; the oldest goes first, and what would take half of it is not kept.
    """

    def __init__(self, max_bytes: int = 1 << 27) -> None:
        self._max_bytes = max_bytes
        self._kept: dict[tuple[str, int, int, str], tuple[NDArray[Any], Any]] = {}

    def get(
        self, rng: np.random.Generator, what: str, n: int, n_resamples: int, draw: Callable[[], NDArray[Any]]
    ) -> NDArray[Any]:
        """What `draw` draws with this generator, which is left as if it had."""
        key = (what, n, n_resamples, repr(rng.bit_generator.state))
        if key not in self._kept:
            drawn = draw()
            while self._kept and drawn.nbytes + sum(array.nbytes for array, _ in self._kept.values()) > self._max_bytes:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = drawn, rng.bit_generator.state
        drawn, rng.bit_generator.state = self._kept[key]
        return drawn

    def keeps(self, n: int, n_resamples: int, dtype: type[np.integer[Any]]) -> bool:
        """Whether an array of this size is kept."""
        return 2 * n * n_resamples * np.dtype(dtype).itemsize <= self._max_bytes


@dataclass(frozen=True, slots=True)
class Resampling:
    """How many resamples are drawn, from which seed.

    Attributes:
        kept: Draws of other models of the same task, and what this one adds; None: nothing is kept.
    """

    n_resamples: int = 10_000
    seed: int = 0
    kept: KeptDraws | None = None

    def generator(self, task: str, purpose: str) -> np.random.Generator:
        """The same for all models of a task."""
        return np.random.default_rng([self.seed, zlib.crc32(task.encode()), zlib.crc32(purpose.encode())])


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


def draw_counts(
    rng: np.random.Generator, n: int, n_resamples: int, kept: KeptDraws | None = None
) -> Iterator[tuple[slice, Floats]]:
    """How often each of n examples is drawn when n are drawn with replacement: columns, and (n, columns).

    The array is used again for the next columns.
    """

    def rows(n_rows: int) -> NDArray[Any]:
        drawn = rng.integers(0, n, (n_rows, n))
        drawn += np.arange(n_rows)[:, None] * n
        return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)

    return _Columns("counts", n, n_resamples, _block_rows(n)).of(rng, rows, kept)


class _Columns(NamedTuple):
    """Resamples as columns: turned out of rows, of which a block is drawn at a time."""

    what: str
    n: int
    n_resamples: int
    block_rows: int

    def of(
        self, rng: np.random.Generator, rows: Callable[[int], NDArray[Any]], kept: KeptDraws | None
    ) -> Iterator[tuple[slice, Floats]]:
        """Slices of the resamples, and (n, columns) of numbers.

        An array is far larger than a block, as each of its rows costs who walks over them; it is used again.

        Args:
            rng: What `rows` draws with.
            rows: (number, n) of that many resamples.
            kept: Where all are kept, if they are small enough.
        """
        whole = None
        if kept is not None and kept.keeps(self.n, self.n_resamples, np.int16):
            whole = kept.get(
                rng, self.what, self.n, self.n_resamples,
                lambda: self._fill(np.empty((self.n, self.n_resamples), np.int16), rows),
            )  # fmt: skip
        step = max(1, CHUNK_ELEMENTS // self.n // self.block_rows) * self.block_rows
        chunk = np.empty((self.n, min(step, self.n_resamples)))
        for columns in _slices(self.n_resamples, step):
            found = chunk[:, : columns.stop - columns.start]
            if whole is None:
                self._fill(found, rows)
            else:
                found[:] = whole[:, columns]
            yield columns, found

    def _fill(self, found: NDArray[Any], rows: Callable[[int], NDArray[Any]]) -> NDArray[Any]:
        for block in _slices(found.shape[1], self.block_rows):
            found[:, block] = rows(block.stop - block.start).T
        return found


def resampled_means(
    rng: np.random.Generator, values: Floats, n_resamples: int, kept: KeptDraws | None = None
) -> Floats:
    """(n_resamples,) means of (N,) values drawn with replacement."""
    n = len(values)
    distinct, sizes = np.unique(values, return_counts=True)
    if n > _FEW_DISTINCT * len(distinct):
        return np.asarray(rng.multinomial(n, sizes / n, n_resamples) @ distinct / n)

    def draw(n_rows: int) -> NDArray[np.int32]:
        return rng.integers(0, n, (n_rows, n), np.int32)

    whole = None
    if kept is not None and kept.keeps(n, n_resamples, np.int32):
        whole = kept.get(rng, "examples", n, n_resamples, lambda: draw(n_resamples))
    sums = np.empty(n_resamples)
    for rows in blocks(n, n_resamples):
        drawn = draw(rows.stop - rows.start) if whole is None else whole[rows]
        sums[rows] = np.add.reduce(np.take(values, drawn), axis=1)
    return sums / n


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


def swaps(
    rng: np.random.Generator, n: int, n_resamples: int, kept: KeptDraws | None = None
) -> Iterator[tuple[slice, Floats]]:
    """Random swaps of n pairs: columns, and (n, columns) 1 where a pair is swapped.

    The array is used again for the next columns.
    """

    def rows(n_rows: int) -> NDArray[Any]:
        return np.unpackbits(_coin_bytes(rng, n_rows, n), axis=1, count=n)

    return _Columns("swaps", n, n_resamples, _block_rows(2 * n)).of(rng, rows, kept)
