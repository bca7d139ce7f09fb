"""Which texts go through the model together. Pure functions of lengths: no model, no device, no clock.

Batches depend only on a shard's full list of unique texts, the token budget and nothing else, so that the bits of an
embedding do not depend on what a cache already held.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SHARD_TEXTS, SHARD_CHARACTERS = 16_384, 2_000_000
"""What is length-sorted, encoded and stored as one unit, at most: many batches of texts of one length."""

_BATCHES = 64
_CHARACTERS_A_TOKEN = 4

_READ_CHARACTERS = 4_096
"""Longer texts count as this long: a model of 512 tokens does not read further."""


class UniqueTexts(NamedTuple):
    """Distinct texts in order of first appearance, and for each input its place among them, (N,) int64."""

    texts: list[str]
    inverse: NDArray[np.int64]


def unique_texts(texts: Sequence[str]) -> UniqueTexts:
    """Drop repeated texts.

    >>> unique_texts(["b", "a", "b"])
    UniqueTexts(texts=['b', 'a'], inverse=array([0, 1, 0]))
    """
    distinct = list(dict.fromkeys(texts))
    if len(distinct) == len(texts):
        return UniqueTexts(distinct, np.arange(len(texts)))
    place = dict(zip(distinct, range(len(distinct)), strict=True))
    return UniqueTexts(distinct, np.fromiter(map(place.__getitem__, texts), np.int64, len(texts)))


def shard_characters(max_tokens: int) -> int:
    """Characters of a shard: about 64 batches, so that a slow device, whose batches are small, has minutes of work too.

    >>> shard_characters(2_048), shard_characters(131_072)
    (524288, 2000000)
    """
    return min(SHARD_CHARACTERS, _BATCHES * _CHARACTERS_A_TOKEN * max_tokens)


def shard_bounds(
    texts: Sequence[str], *, shard_texts: int = SHARD_TEXTS, shard_characters: int = SHARD_CHARACTERS
) -> list[tuple[int, int]]:
    """Start and end of each shard of a list of unique texts: at least one text, and more while both limits hold.

    >>> shard_bounds(["aa", "b", "ccc", "d"], shard_characters=3)
    [(0, 2), (2, 3), (3, 4)]
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)).clip(max=_READ_CHARACTERS)
    ends = np.cumsum(lengths)  # (N,) characters up to and with each text
    bounds = []
    start = 0
    while start < len(texts):
        room = shard_characters + (int(ends[start - 1]) if start else 0)
        end = max(start + 1, min(start + shard_texts, int(np.searchsorted(ends, room, side="right"))))
        bounds.append((start, end))
        start = end
    return bounds


def plan_batches(lengths: NDArray[np.int64], max_tokens: int) -> list[NDArray[np.int64]]:
    """Group texts of similar length into batches whose padded size stays within a budget.

    Args:
        lengths: (N,) tokens of each text, special tokens included.
        max_tokens: Budget for rows x longest row of a batch. A single longer text gets a batch of its own.

    Returns:
        Index arrays that together hold each of 0..N-1 once, longest texts first (memory peaks at once, not at the end).
    """
    order = np.argsort(-lengths, kind="stable")
    batches = []
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        end = start + max(1, max_tokens // longest)
        batches.append(order[start:end])
        start = end
    return batches
