"""The data of a ranking: our models among all models of a results repository. All scores are in points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.analysis.comparison.results_repository import RepositoryOrigin

if TYPE_CHECKING:
    from evaluation.analysis.statistics.intervals import Interval


@dataclass(frozen=True, slots=True)
class Place:
    """One of our models among the others, on a task or by the mean.

    Attributes:
        label: Our column.
        task: None: the mean over the tasks of the field.
        points: Our score.
        interval: Of our score; None without samples.
        rank: 1 + the number of other models with a higher score.
        ranks: The ranks at both ends of our interval, the better one first; None without an interval.
        n_models: Models that are ranked, ours included.
        leader: The best of the others, with its score.
        near: Other models whose scores lie within our interval.
    """

    label: str
    task: str | None
    points: float
    interval: Interval | None
    rank: int
    ranks: tuple[int, int] | None
    n_models: int
    leader: tuple[str, float]
    near: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """The places of all our models.

    Attributes:
        origin: Where the other scores come from.
        n_models: Models of the repository that count.
        places: For each of our models its tasks, then its mean.
        tasks: The tasks of the means, the same for all our models.
        n_tested: Tasks of the means whose samples give our intervals, by label.
        unranked: Tasks on which no other model can be compared.
        other_data: Task -> number of other models scored on another revision of its dataset.
        local_data: Tasks for which ours is a local copy of the data.
        limited: Labels without places, because theirs is a limited run.
    """

    origin: RepositoryOrigin
    n_models: int
    places: tuple[Place, ...]
    tasks: tuple[str, ...]
    n_tested: Mapping[str, int]
    unranked: tuple[str, ...]
    other_data: Mapping[str, int]
    local_data: tuple[str, ...]
    limited: tuple[str, ...]
