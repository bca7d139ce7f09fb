"""Sequences of token ids in one array, so that batches are taken and packed without a Python object per token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class TokenRows:
    """B sequences of token ids.

    Attributes:
        ids: (N,) int32 ids of all sequences, one after another.
        bounds: (B + 1,) int64: 0, then the end of each sequence.
    """

    ids: NDArray[np.int32]
    bounds: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> TokenRows:
        """Returns the sequences in one array.

        >>> TokenRows.of([[5, 6], [7]]).bounds
        array([0, 2, 3])
        """
        bounds = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)), out=bounds[1:])
        return cls(np.fromiter(chain.from_iterable(rows), np.int32, int(bounds[-1])), bounds)

    @classmethod
    def joined(cls, parts: Iterable[TokenRows]) -> TokenRows:
        """Returns the sequences of all parts, in order."""
        parts = list(parts)
        lengths = [part.lengths for part in parts]
        bounds = np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum()
        return cls(np.concatenate([np.zeros(0, np.int32), *(part.ids for part in parts)]), bounds)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(B,) int64 tokens of each sequence."""
        return np.diff(self.bounds)

    def take(self, rows: NDArray[np.int64]) -> TokenRows:
        """Returns some of the sequences, in the given order.

        >>> TokenRows.of([[5, 6], [7], [8, 9]]).take(np.array([2, 1])).ids.tolist()
        [8, 9, 7]
        """
        starts, bounds = self.bounds[rows], np.zeros(len(rows) + 1, np.int64)
        lengths = self.bounds[rows + 1] - starts
        np.cumsum(lengths, out=bounds[1:])
        places = np.repeat(starts - bounds[:-1], lengths)  # (N,): what to add to a token's new place
        places += np.arange(len(places))
        return TokenRows(self.ids[places], bounds)

    def lists(self) -> list[list[int]]:
        """Returns each sequence as a list."""
        return [part.tolist() for part in np.split(self.ids, self.bounds[1:-1])] if len(self) else []
