"""The table that ends a run, and the summary files beside its records. Reads records only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from evaluation.records import JobRecord
from evaluation.redaction import printable

_MISSING = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """Text cells: a header, rows, and how many of the last rows are means."""

    header: list[str]
    rows: list[list[str]]
    n_means: int
    notes: list[str]


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
        rows.append([task, types[task], *_cells(values, labels, pairs)])
    complete = [task for task in tasks if all((task, label) in scores for label in labels)]
    n_means = 0
    if len(complete) > 1:
        means: dict[str, float | None] = {label: mean(scores[task, label] for task in complete) for label in labels}
        what = f"Mean of {len(complete)}" if len(complete) == len(tasks) else f"Mean of {len(complete)} of {len(tasks)}"
        rows.append([what, "", *_cells(means, labels, pairs)])
        n_means = 1
    notes = [f"{label}: protocol {protocols[label]}" for label in labels]
    if any(record.limit for record in records):
        notes.append("Limited run: these are no scores to report")
    return Table(header, rows, n_means, ["Scores in points. " + "; ".join(notes) + "."])


def task_scores(records: Sequence[JobRecord]) -> dict[tuple[str, str], float]:
    """(task, label) -> main score in points; an aggregate is the mean of its parts, if all of them have a score."""
    parts: dict[tuple[str, str], list[float | None]] = {}
    for record in records:
        score = None if record.main_score is None else 100 * record.main_score
        parts.setdefault((record.aggregate or record.task, record.label), []).append(score)
    return {
        key: mean(value for value in values if value is not None) for key, values in parts.items() if None not in values
    }


def _protocol_pairs(records: Sequence[JobRecord]) -> list[tuple[str, str]]:
    """Labels of the same weights under e5 and under none."""
    weights = {r.label: r.provenance.get("model", {}).get("weights_sha256") for r in records if r.state == "done"}
    protocols = {record.label: record.protocol for record in records}
    return [
        (first, second)
        for first, hash_first in weights.items()
        for second, hash_second in weights.items()
        if hash_first == hash_second and protocols[first] == "e5" and protocols[second] == "none"
    ]


def _cells(values: dict[str, float | None], labels: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    cells = [_MISSING if values[label] is None else f"{values[label]:.2f}" for label in labels]
    for first, second in pairs:
        a, b = values[first], values[second]
        cells.append(_MISSING if a is None or b is None else f"{a - b:+.2f}")
    return cells


def render_markdown(table: Table) -> str:
    """The table in Markdown, notes below."""
    lines = ["| " + " | ".join(_escape(cell) for cell in table.header) + " |"]
    lines.append("|" + "|".join(["---", "---", *["---:"] * (len(table.header) - 2)]) + "|")
    lines += ["| " + " | ".join(_escape(cell) for cell in row) + " |" for row in table.rows]
    return "\n".join([*lines, "", *map(_escape, table.notes)]) + "\n"


def _escape(cell: str) -> str:
    """A cell whose text can end neither the cell nor the table, and holds no HTML."""
    plain = printable(" ".join(cell.split())).replace("&", "&amp;").replace("<", "&lt;")
    return plain.replace("\\", "\\\\").replace("|", "\\|")
