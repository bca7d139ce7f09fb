"""Where a run's models stand among all models of a results repository: ranks with the interval of our own score.

The others' scores are points without samples, so their uncertainty is not part of any rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from evaluation.analysis.comparison.columns import ScoredModel
from evaluation.analysis.comparison.evidence import ALGORITHM, Evidence
from evaluation.analysis.comparison.places import Field, Place
from evaluation.analysis.comparison.results_repository import ModelScores, ResultsRepository
from evaluation.analysis.comparison.types import Row
from evaluation.analysis.task_scores import TaskScore
from evaluation.models.names import original_name
from evaluation.tasks.beir_names import mteb_name

if TYPE_CHECKING:
    from evaluation.analysis.statistics.intervals import Interval
    from evaluation.analysis.statistics.paired_tests import Sample


def place_among(
    models: Sequence[ScoredModel], rows: Sequence[Row], evidence: Evidence, repository: ResultsRepository
) -> Field:
    """Ranks each column of a run among the repository's models with the same tasks, splits and subsets.

    Published copies of our own model are left out.
    """
    ours = [model for model in models if model.view is not None]
    limited = tuple(model.label for model in ours if any(record.limit for record in model.records))
    ranked = [model for model in ours if model.label not in limited]
    names = [row.task for row in rows]
    wanted: dict[str, set[tuple[str, str]]] = {}
    for model in ranked:
        for task, scored in model.tasks.items():
            wanted.setdefault(mteb_name(task), set()).update(_places(scored))
    stored = repository.main_scores(wanted)
    others = {
        model.label: {
            task: theirs
            for task in names
            if (own := model.tasks.get(task)) is not None and own.score is not None
            if (theirs := _comparable(own, stored.get(mteb_name(task), {}), original_name(model.model)))
        }
        for model in ranked
    }
    common = tuple(task for task in names if ranked and all(task in others[model.label] for model in ranked))
    places: list[Place] = []
    n_tested: dict[str, int] = {}
    for model in ranked:
        field = others[model.label]
        at = models.index(model)
        places += _places_on_tasks(model, at, rows, field, evidence)
        whole = sorted(set.intersection(*(set(field[task]) for task in common))) if common else []
        if len(common) > 1 and whole:
            means = {name: fmean(field[task][name] for task in common) for name in whole}
            value = fmean(model.tasks[task].points or 0.0 for task in common)
            interval, n_tested[model.label] = _interval_of_mean(at, common, value, evidence)
            places.append(_place(model.label, None, value, interval, means))
    revisions = {task: _our_revisions(ranked, task) for task in names}
    local = tuple(task for task in names if any(revision.startswith("local-") for revision in revisions[task]))
    return Field(
        origin=repository.origin,
        n_models=len(repository.models),
        places=tuple(places),
        tasks=common,
        n_tested=n_tested,
        unranked=tuple(task for task in names if not any(task in own for own in others.values())),
        other_data=_other_data({task: revisions[task] for task in names if task not in local}, stored),
        local_data=local,
        limited=limited,
    )


def _places_on_tasks(
    model: ScoredModel, at: int, rows: Sequence[Row], field: Mapping[str, Mapping[str, float]], evidence: Evidence
) -> Iterator[Place]:
    for row in rows:
        if row.task in field:
            interval = row.cells[at].interval if _sample(evidence, at, row.task) is not None else None
            yield _place(model.label, row.task, model.tasks[row.task].points or 0.0, interval, field[row.task])


def _places(task: TaskScore) -> set[tuple[str, str]]:
    """The splits and subsets that we scored."""
    return {(split, subset) for record in task.records for split in record.splits for subset in record.subsets}


def _comparable(task: TaskScore, stored: Mapping[str, ModelScores], our_name: str) -> dict[str, float]:
    """Model -> points, over exactly our splits and subsets; models without one of these are left out."""
    wanted = _places(task)
    return {
        name: fmean(own.points[place] for place in wanted)
        for name, own in stored.items()
        if name != our_name and wanted and wanted <= own.points.keys()
    }


def _sample(evidence: Evidence, column: int, task: str) -> Sample | None:
    """Our units of a task; None for clustering, whose units show the algorithm's chance only."""
    found = evidence.samples(task)[column]
    return None if found is None or found.units.kind == ALGORITHM else found


def _place(
    label: str, task: str | None, points: float, interval: Interval | None, theirs: Mapping[str, float]
) -> Place:
    order = sorted(theirs, key=lambda name: (-theirs[name], name))
    values = list(theirs.values())
    ranks: tuple[int, int] | None = None
    near: tuple[str, ...] = ()
    if interval is not None:
        ranks = (
            1 + sum(value > interval.high for value in values),
            1 + sum(value > interval.low for value in values),
        )
        near = tuple(name for name in order if interval.low <= theirs[name] <= interval.high)
    rank, leader = 1 + sum(value > points for value in values), (order[0], theirs[order[0]])
    return Place(label, task, points, interval, rank, ranks, len(theirs) + 1, leader, near)


def _interval_of_mean(
    column: int, tasks: Sequence[str], value: float, evidence: Evidence
) -> tuple[Interval | None, int]:
    """The interval of our mean, with tasks without samples taken as they are, and the number of tasks with samples."""
    import numpy as np

    from evaluation.analysis.statistics.contributions import estimate
    from evaluation.analysis.statistics.intervals import t_interval
    from evaluation.analysis.statistics.suite_tests import TaskErrors, mean_differences

    errors = []
    for task in tasks:
        sample = _sample(evidence, column, task)
        if sample is None:
            continue
        own = estimate(sample.contributions)
        point, error, df, n = (np.atleast_1d(number) for number in (own.point, own.error, own.df, own.n_changed))
        ids, order = sample.contributions.clusters.by_id
        errors.append(TaskErrors(point, error, df, n, np.atleast_2d(own.residuals[order]), ids))
    if not errors:
        return None, 0
    (found,) = mean_differences(errors, confidence=evidence.options.confidence)
    of_mean = 100 * found.error * len(errors) / len(tasks)
    return (t_interval(value, of_mean, found.df, evidence.options.confidence) if of_mean else None), len(errors)


def _our_revisions(ranked: Sequence[ScoredModel], task: str) -> set[str]:
    records = [record for model in ranked if task in model.tasks for record in model.tasks[task].records]
    return {str(origin.revision) for record in records if (origin := record.provenance.dataset) is not None}


def _other_data(revisions: Mapping[str, set[str]], stored: Mapping[str, Mapping[str, ModelScores]]) -> dict[str, int]:
    """Task -> number of models whose scores are of another revision than ours."""
    counts = {
        task: sum(not own.dataset_revisions <= ours for own in stored.get(mteb_name(task), {}).values())
        for task, ours in revisions.items()
    }
    return {task: n for task, n in counts.items() if n}
