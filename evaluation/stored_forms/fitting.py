"""Fits a stored form on the vectors of the stored side, and applies it to documents and queries.

Every statistic is taken in float64 over blocks of rows, so that vectors may be a memory map of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.config.stored_forms import BITS, Precision, StoredForm
from evaluation.errors import EncodingError
from evaluation.stored_forms.schemes import (
    Floats,
    Ranges,
    binary_codes,
    binary_values,
    float16_values,
    int8_codes,
    int8_values,
)

BLOCK: Final = 16_384
"""Rows that are read at once."""
_FEW_PER_COMPONENT: Final = 20

Step = Callable[[Floats], Floats]


class Bytes(NamedTuple):
    """What a form needs: bytes per vector, and once for all vectors (ranges, means and components)."""

    per_vector: int
    once: int


def plain_size(vectors: Floats) -> Bytes:
    """Returns what (N, D) vectors need as the model gives them, in float32."""
    return Bytes(4 * vectors.shape[1], 0)


@dataclass(frozen=True, slots=True)
class FittedForm:
    """A form with everything that it takes from the stored side.

    Attributes:
        size: What it needs.
        scores_codes: Whether vectors are +1 and -1, which are scored as they are, whatever their length.
        warnings: What may make it worse than it need be.
    """

    reduce: tuple[Step, ...]
    store: Step
    stores_queries: bool
    size: Bytes
    scores_codes: bool
    warnings: tuple[str, ...] = ()

    def documents(self, vectors: Floats) -> Floats:
        """Returns (N, K) float32 documents as they are read back from (N, D) float32."""
        return self.store(self._reduced(vectors))

    def queries(self, vectors: Floats) -> Floats:
        """Returns (N, K) float32 queries, reduced as documents are, and stored as they are only where asked for."""
        reduced = self._reduced(vectors)
        return self.store(reduced) if self.stores_queries else reduced

    def _reduced(self, vectors: Floats) -> Floats:
        for step in self.reduce:
            vectors = step(vectors)
        return vectors


def fit_form(form: StoredForm, vectors: Floats, *, unit_length: bool) -> FittedForm:
    """Fits a form on the stored side.

    Args:
        vectors: (N, D) float32, as the protocol hands them to the metric; may be a memory map.
        unit_length: Whether the protocol normalises, so that what is read back is normalised again.

    Raises:
        EncodingError: The form keeps more dimensions than the vectors have, or there is nothing to fit on.
    """
    n, width = vectors.shape
    if n == 0:
        raise EncodingError(f"the form {form.name} has no vectors to be fitted on.")
    kept = form.dims or form.pca or width
    if kept > width:
        option = "dims" if form.dims else "pca"
        raise EncodingError(f"stored: {option}: {kept} keeps more than the {width} dimensions that vectors have.")
    finish = _to_unit_length if unit_length else _unchanged
    reduce: list[Step] = []
    once = 0
    if form.dims:
        reduce.append(lambda rows: finish(np.ascontiguousarray(rows[:, :kept])))
    if form.pca:
        centre, axes = _principal_components(vectors, kept)
        reduce.append(lambda rows: finish(_projected(rows, centre, axes)))
        once += 4 * (width + width * kept)
    if form.center:
        mean = _mean(vectors, reduce).astype(np.float32)
        reduce.append(lambda rows: rows - mean)
        once += 4 * kept
    store, kept_once = _storage(form.precision, vectors, reduce, finish)
    return FittedForm(
        reduce=tuple(reduce),
        store=store,
        stores_queries=form.queries == "same",
        size=Bytes(-(-kept * BITS[form.precision] // 8), once + kept_once),
        scores_codes=form.precision == "binary",
        warnings=_warnings(form, n),
    )


def _storage(precision: Precision, vectors: Floats, reduce: Sequence[Step], finish: Step) -> tuple[Step, int]:
    """Returns what storing and reading back makes of reduced vectors, and the bytes that it needs once."""
    if precision == "float16":
        return float16_values, 0
    if precision == "binary":
        return lambda rows: binary_values(binary_codes(rows), rows.shape[1]), 0
    if precision == "int8":
        ranges = _ranges(vectors, reduce)
        return lambda rows: finish(int8_values(int8_codes(rows, ranges), ranges)), 2 * ranges.low.nbytes
    return _unchanged, 0


def _warnings(form: StoredForm, n: int) -> tuple[str, ...]:
    if form.pca is None or n >= _FEW_PER_COMPONENT * form.pca:
        return ()
    return (
        f"stored: pca: {form.pca} is fitted on {n} vectors, fewer than {_FEW_PER_COMPONENT} per component; "
        "on other documents it may keep less of what matters.",
    )


def _unchanged(rows: Floats) -> Floats:
    return rows


def _to_unit_length(rows: Floats) -> Floats:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = rows / np.maximum(norms, np.float32(1e-12))
    return unit


def _projected(rows: Floats, centre: Floats, axes: Floats) -> Floats:
    projected: Floats = np.matmul(rows - centre, axes)
    return projected


def _blocks(vectors: Floats, steps: Sequence[Step]) -> Iterator[Floats]:
    """Yields rows block by block, after some steps."""
    steps = tuple(steps)  # the caller adds the next one
    for start in range(0, len(vectors), BLOCK):
        rows = np.asarray(vectors[start : start + BLOCK])
        for step in steps:
            rows = step(rows)
        yield rows


def _mean(vectors: Floats, steps: Sequence[Step]) -> NDArray[np.float64]:
    sums = [rows.sum(axis=0, dtype=np.float64) for rows in _blocks(vectors, steps)]
    mean: NDArray[np.float64] = np.sum(sums, axis=0) / len(vectors)
    return mean


def _ranges(vectors: Floats, steps: Sequence[Step]) -> Ranges:
    found = [(rows.min(axis=0), rows.max(axis=0)) for rows in _blocks(vectors, steps)]
    lows, highs = zip(*found, strict=True)
    return Ranges(np.min(lows, axis=0), np.max(highs, axis=0))


def _principal_components(vectors: Floats, n_components: int) -> tuple[Floats, Floats]:
    """Returns the mean, (D,), and the first components, (D, K), of the exact covariance.

    Raises:
        EncodingError: The vectors differ in fewer than K directions, so that further components would be noise.
    """
    mean = _mean(vectors, ())
    covariance = np.zeros((len(mean), len(mean)))
    for rows in _blocks(vectors, ()):
        centred = rows - mean  # float64
        covariance += centred.T @ centred
    variances, axes = np.linalg.eigh(covariance)  # ascending
    noise = variances[-1] * len(mean) * np.finfo(np.float64).eps  # as in numpy.linalg.matrix_rank
    found = min(len(vectors) - 1, int((variances > noise).sum()))
    if n_components > found:
        raise EncodingError(
            f"stored: pca: {n_components} can't be fitted on {len(vectors)} vectors, which vary in {found} directions "
            f"only; lower pca to {found} or less, or take more documents."
        )
    return mean.astype(np.float32), np.ascontiguousarray(axes[:, ::-1][:, :n_components]).astype(np.float32)
