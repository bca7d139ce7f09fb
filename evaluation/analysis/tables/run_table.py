"""The table that ends a run. Reads records only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from evaluation.analysis.comparison.sources import expected_parts
from evaluation.analysis.number_formats import points
from evaluation.analysis.tables.table import Table, TableRow, TextCell
from evaluation.records.job_record import JobRecord
from evaluation.tasks.index import load_index


def score_table(records: Sequence[JobRecord]) -> Table:
    """Tasks as rows, models as columns, points; a column e5 - none where one model ran under both.

    Parts of an aggregate task are one row, its mean. A mean over tasks counts those that every model has.
    """
    labels = list(dict.fromkeys(record.label for record in records))
    protocols = {record.label: record.protocol for record in records}
    scores = task_scores(records)
    tasks = list(dict.fromkeys(task for task, _ in scores) | dict.fromkeys(r.aggregate or r.task for r in records))
    types = {record.aggregate or record.task: record.type for record in records}
    pairs = _protocol_pairs(records)
    header = ["Task", "Type", *labels, *(f"{first} - {second}" for first, second in pairs)]
    rows = []
    for task in tasks:
        values = {label: scores.get((task, label)) for label in labels}
        rows.append(_text_row([task, types[task], *_cells(values, labels, pairs)]))
    complete = [task for task in tasks if all((task, label) in scores for label in labels)]
    if len(complete) > 1:
        means: dict[str, float | None] = {label: mean(scores[task, label] for task in complete) for label in labels}
        what = f"Mean of {len(complete)}" if len(complete) == len(tasks) else f"Mean of {len(complete)} of {len(tasks)}"
        rows.append(_text_row([what, "", *_cells(means, labels, pairs)], rule=True))
    notes = [f"{label}: protocol {protocols[label]}" for label in labels]
    if any(record.limit for record in records):
        notes.append("Limited run: these are no scores to report")
    return Table("", _text_row(header).cells, 2, tuple(rows), ("Scores in points. " + "; ".join(notes) + ".",))


def task_scores(records: Sequence[JobRecord]) -> dict[tuple[str, str], float]:
    """(task, label) -> main score in points; an aggregate is the mean of its parts, if all it has have a score."""
    parts: dict[tuple[str, str], dict[str, float | None]] = {}
    for record in records:
        score = None if record.main_score is None else 100 * record.main_score
        parts.setdefault((record.aggregate or record.task, record.label), {})[record.task] = score
    index = load_index()
    found = {}
    for (task, label), scores in parts.items():
        known = [scores.get(part) for part in expected_parts(task, list(scores), index)]
        if None not in known:
            found[task, label] = mean(score for score in known if score is not None)
    return found


def _protocol_pairs(records: Sequence[JobRecord]) -> list[tuple[str, str]]:
    """Labels of the same weights under e5 and under none."""
    weights = {r.label: r.provenance.model.weights_sha256 for r in records if r.state == "done" and r.provenance.model}
    protocols = {record.label: record.protocol for record in records}
    return [
        (first, second)
        for first, hash_first in weights.items()
        for second, hash_second in weights.items()
        if hash_first == hash_second and protocols[first] == "e5" and protocols[second] == "none"
    ]


def _cells(values: Mapping[str, float | None], labels: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    cells = [points(values[label]) for label in labels]
    for first, second in pairs:
        a, b = values[first], values[second]
        cells.append(points(None if a is None or b is None else a - b, signed=True))
    return cells


def _text_row(cells: Sequence[str], *, rule: bool = False) -> TableRow:
    return TableRow(tuple(TextCell(cell) for cell in cells), rule)
