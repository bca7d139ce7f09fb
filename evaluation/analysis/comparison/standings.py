"""Where the models of a comparison stand among each other. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evaluation.analysis.statistics.suite_tests import SuiteDifference


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a model stands among all.

    Attributes:
        mean: In points, over the tasks of the standings.
        rank: By the mean.
        ranks: The ranks by the mean that the tests leave possible, all at the comparison's confidence.
        borda: Rank by Borda count.
        borda_ranks: The same for the Borda count.
    """

    label: str
    mean: float
    rank: int
    ranks: tuple[int, int]
    borda: int
    borda_ranks: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models on the tasks that can be tested, in points; the first has the higher mean.

    Attributes:
        p: Two-sided, after Holm's correction over all pairs.
    """

    first: str
    second: str
    difference: SuiteDifference
    p: float


@dataclass(frozen=True, slots=True)
class Standings:
    """All pairs of models.

    Attributes:
        models: The best mean first.
        pairs: Every pair that can be tested.
        groups: Runs of neighbours by the mean that the tests do not separate.
        n_tasks: Tasks of the means.
        n_tested: Those of them whose samples are stored.
    """

    models: tuple[Standing, ...]
    pairs: tuple[Pair, ...]
    groups: tuple[tuple[str, ...], ...]
    n_tasks: int
    n_tested: int

    def pair(self, first: str, second: str) -> Pair | None:
        """Returns the pair of two labels, whatever their order; None where it cannot be tested."""
        return next((pair for pair in self.pairs if {pair.first, pair.second} == {first, second}), None)
