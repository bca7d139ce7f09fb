"""Groups of texts that a task encodes: how many, how long, and which other tasks share them. Knows no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evaluation.protocols import Side
from evaluation.tasks.index_entries import TaskEntry
from evaluation.tasks.selection import TaskChoice

Script = Literal["english", "code", "other"]
"""Kind of text, as far as a tokenizer made for English cares: English, a programming language, or anything else."""
_CODE_MARKS = frozenset("_(){}[]=;<>")


@dataclass(frozen=True, slots=True)
class TextGroup:
    """Texts that one side of a task encodes together.

    Attributes:
        side: The side of the task, which decides the prefix.
        pool: Identifies the texts: groups with the same pool hold the same texts, or parts of them.
        texts: Number of texts handed to the encoder, repeated texts included.
        unique: Number of distinct texts, which is what gets encoded; an expected value where mteb samples.
        characters: (M,) float32 text lengths, each standing for unique / M of the distinct texts.
        script: Kind of text.
        is_cut: Whether the group is only a part of its pool.
    """

    side: Side
    pool: str
    texts: int
    unique: float
    characters: NDArray[np.float32]
    script: Script = "english"
    is_cut: bool = False


def sample_group(group: TextGroup, n_texts: int | None) -> TextGroup:
    """Returns a random sample of a group, drawn without replacement, in which texts are assumed to repeat evenly.

    Args:
        n_texts: Size of the sample; the group is returned unchanged if this is None or not smaller than the group.
    """
    if n_texts is None or n_texts >= group.texts:
        return group
    repeats = group.texts / max(group.unique, 1)
    missed = (1 - n_texts / max(group.texts, 1)) ** repeats
    return replace(group, texts=n_texts, unique=group.unique * (1 - missed), is_cut=True)


def training_sample(group: TextGroup, pool: str, n_rows: int) -> TextGroup:
    """Returns the training rows that all experiments draw together, which no other task shares."""
    return replace(sample_group(group, n_rows), pool=pool, is_cut=True)


def drawn_rows(label_counts: Iterable[int], per_label: int, n_experiments: int) -> int:
    """Returns the expected number of distinct training rows that mteb's experiments draw together.

    Each experiment shuffles all rows anew and takes the first k of each label, so n experiments together take
    c (1 - (1 - k/c)^n) of the c rows of a label (`AbsTaskClassification._undersample_data`).

    >>> drawn_rows([100, 4], 8, 1)
    12
    """
    return round(
        sum(count * (1 - (1 - min(per_label, count) / count) ** n_experiments) for count in label_counts if count)
    )


def apply_options(entry: TaskEntry, choice: TaskChoice) -> TaskEntry:
    """Returns the entry with the attributes of mteb's class that the config overrides."""
    known = {name: value for name, value in choice.options.items() if name in TaskEntry.__dataclass_fields__}
    return replace(entry, **known) if known else entry


def script_of(texts: Sequence[str]) -> Script:
    """Guesses from the first texts: letters beyond ASCII, or the punctuation of programming languages."""
    sample = "".join(texts[:200])[:20_000]
    if not sample:
        return "english"
    if sum(not character.isascii() and character.isalpha() for character in sample) > 0.01 * len(sample):
        return "other"
    return "code" if sum(character in _CODE_MARKS for character in sample) > 0.03 * len(sample) else "english"
