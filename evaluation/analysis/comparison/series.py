"""Finds the checkpoints of a training run among a comparison's columns: the best, and where the scores fell.

All pairs of models are tested under one Holm correction, which pays for having picked the best checkpoint afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.analysis.comparison.types import Column, Comparison, Pair, Standings
from evaluation.analysis.number_formats import p_equation, points


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint of a series.

    Attributes:
        label: The column's label.
        mean: In points, over the tasks that all models of the comparison have and that can be tested.
        behind: The pair of the best checkpoint and this one; None for the best, and where nothing can be tested.
    """

    label: str
    step: float
    mean: float
    behind: Pair | None


@dataclass(frozen=True, slots=True)
class Series:
    """The checkpoints of one training run, in the order of their steps.

    Attributes:
        name: The config's name of the series.
        checkpoints: At least two.
        best: The one with the highest mean; the earliest of equal ones.
        worse: The first checkpoint after the best that is significantly worse; None without one.
        standings: The tests of all pairs of the comparison.
    """

    name: str
    checkpoints: tuple[Checkpoint, ...]
    best: Checkpoint
    worse: Checkpoint | None
    standings: Standings

    @property
    def sentence(self) -> str:
        """The best checkpoint, and the first later one that is significantly worse."""
        said = "no later one is significantly worse"
        if self.worse is not None and self.worse.behind is not None:
            said = (
                f"the first later one that is significantly worse is {self.worse.label} "
                f"({points(self.worse.mean - self.best.mean, signed=True)}, {p_equation(self.worse.behind.p)} after "
                "Holm's correction over all pairs)"
            )
        return f"The best checkpoint is {self.best.label} (mean {points(self.best.mean)}); {said}."

    def pair(self, first: Checkpoint, second: Checkpoint) -> Pair | None:
        """Returns the test of two checkpoints; None where there is none."""
        return self.standings.pair(first.label, second.label)


def find_series(comparison: Comparison) -> tuple[Series, ...]:
    """Returns every series of at least two checkpoints that the comparison's tests cover."""
    if comparison.standings is None:
        return ()
    tested = {one.label for one in comparison.standings.models}
    members: dict[tuple[object, str], list[Column]] = {}
    for column in comparison.columns:
        if column.series is not None and column.label in tested:
            members.setdefault((column.folder, column.series), []).append(column)
    return tuple(
        _series(name, columns, comparison.standings, comparison.options.alpha)
        for (_, name), columns in members.items()
        if len(columns) > 1
    )


def _series(name: str, columns: list[Column], standings: Standings, alpha: float) -> Series:
    means = {one.label: one.mean for one in standings.models}
    columns = sorted(columns, key=lambda column: column.step or 0.0)
    best = max(columns, key=lambda column: means[column.label])
    checkpoints = tuple(
        Checkpoint(
            column.label,
            column.step or 0.0,
            means[column.label],
            standings.pair(best.label, column.label) if column is not best else None,
        )
        for column in columns
    )
    top = checkpoints[columns.index(best)]
    later = checkpoints[columns.index(best) + 1 :]
    worse = next((one for one in later if one.behind is not None and one.behind.p < alpha), None)
    return Series(name, checkpoints, top, worse, standings)
