"""The table of a run's models among all models of a results repository: score, interval, rank and what it rests on."""

from __future__ import annotations

from collections.abc import Iterator

from evaluation.analysis.comparison.notes import listed_briefly
from evaluation.analysis.comparison.places import Field, Place
from evaluation.analysis.comparison.types import Comparison
from evaluation.analysis.number_formats import MISSING, brackets, counted, points
from evaluation.analysis.tables.table import Table, TableRow, TextCell

_HEADER = ("Task", "Model", "Best of the others", "Score", "Rank", "Ranks in our interval", "Models", "Their best")
_DIGITS = 12


def field_table(field: Field, comparison: Comparison) -> Table:
    """Returns a row per task and for the mean, per model of ours."""
    rows = [_row(place, field) for place in field.places if place.task is not None]
    means = [_row(place, field) for place in field.places if place.task is None]
    rows += [TableRow(row.cells, rule=not at) for at, row in enumerate(means)]
    header = tuple(TextCell(name) for name in _HEADER)
    return Table("Rank among published scores", header, 3, tuple(rows), tuple(_notes(field, comparison)))


def _row(place: Place, field: Field) -> TableRow:
    interval = brackets(place.interval.low, place.interval.high) if place.interval else ""
    ranks = MISSING if place.ranks is None else f"{place.ranks[0]}-{place.ranks[1]}"
    name, score = place.leader
    return TableRow(
        (
            TextCell(place.task or f"Mean over {counted(len(field.tasks), 'task')}"),
            *(TextCell(text) for text in (place.label, name)),
            TextCell(points(place.points), interval),
            *(TextCell(text) for text in (str(place.rank), ranks, str(place.n_models), points(score))),
        )
    )


def _notes(field: Field, comparison: Comparison) -> Iterator[str]:
    origin = field.origin
    commit = f"commit {origin.commit[:_DIGITS]}, " if origin.commit else ""
    yield (
        f"Published scores: {counted(field.n_models, 'model')} in {origin.folder} ({commit}"
        f"{counted(origin.n_files, 'file')}, sha256 {origin.sha256[:_DIGITS]})."
    )
    yield (
        "Ranks carry the interval of our own score only: the published scores have no samples, so their uncertainty "
        "is not known. A rank is 1 + the number of models with a higher score. Published scores of our own model "
        "are left out."
    )
    labels = {place.label for place in field.places}
    protocols = sorted({column.protocol for column in comparison.columns if column.label in labels})
    if labels:
        yield (
            f"Their scores are reruns under mteb's rules or from model cards under their authors' own; ours are under "
            f"{', '.join(protocols)}."
        )
    yield from _means(field)
    if field.other_data:
        named = [f"{task} ({counted(n, 'model')})" for task, n in field.other_data.items()]
        yield f"Scored on another revision of the dataset than ours: {listed_briefly(named)}."
    if field.local_data:
        yield f"Our data is a local copy, whose revision can't be checked: {listed_briefly(field.local_data)}."
    if field.unranked:
        yield f"No other model has the same splits and subsets of {listed_briefly(field.unranked)}."
    if field.limited:
        yield f"Not ranked, because they come from a limited run: {listed_briefly(field.limited)}."
    if origin.n_set_aside:
        yield (
            f"Files that repeat a model, task and split: {origin.n_set_aside:,}. Preferred are mteb's current revision "
            "of the dataset, then a named revision of the model, then the newest mteb."
        )
    if origin.n_faults:
        more = f" and {origin.n_faults - len(origin.faults)} more" if origin.n_faults > len(origin.faults) else ""
        yield f"{counted(origin.n_faults, 'file')} could not be used: {'; '.join(origin.faults)}{more}."


def _means(field: Field) -> Iterator[str]:
    for place in field.places:
        if place.task is not None:
            continue
        n_tested, n_tasks = field.n_tested[place.label], len(field.tasks)
        if place.interval is not None and n_tested < n_tasks:
            yield (
                f"{place.label}: the interval of the mean covers the {n_tested} of {n_tasks} tasks with samples of "
                "queries or examples and takes the others as they are."
            )
        if place.near:
            yield f"{place.label}: models whose means lie within our interval: {listed_briefly(place.near)}."
    n_others = {place.n_models - 1 for place in field.places if place.task is None}
    if any(n < field.n_models - 1 for n in n_others):
        yield f"Means are over the models that have all {len(field.tasks)} tasks: {max(n_others)} of {field.n_models}."
