"""The table of stored forms: bytes, score, change against the model's own vectors, and whether it loses too much."""

from __future__ import annotations

from evaluation.analysis.comparison.stored_types import StoredComparison, StoredRow
from evaluation.analysis.number_formats import MISSING, brackets, counted, points
from evaluation.analysis.tables.table import Table, TableRow, TextCell

_UNREACHABLE = 1_000_000  # units; a change that is about the margin itself would take more


def stored_table(found: StoredComparison) -> Table:
    """Returns a row per model, task and form, the model's own vectors first."""
    verdict = [f"Loss > {found.margin:g}"] if found.is_tested else []
    header = ("Model", "Task", "Stored", *verdict, "Bytes per vector", "Bytes in all", "Score", "Change")
    rows: list[TableRow] = []
    before: tuple[str, str | None] | None = None
    for row in found.rows:
        place = row.model, row.task
        rows.append(_row(row, tested=found.is_tested, rule=before is not None and place != before))
        before = place
    return Table(
        "Stored forms", tuple(map(TextCell, header)), len(header) - 4, tuple(rows), (*found.sentences, *_notes(found))
    )


def _row(row: StoredRow, *, tested: bool, rule: bool) -> TableRow:
    vectors = row.vectors
    return TableRow(
        (
            TextCell(row.model),
            TextCell(row.name),
            TextCell(row.stored),
            *([TextCell(outcome(row))] if tested else []),
            TextCell(f"{vectors.bytes_per_vector:,}" if vectors is not None else MISSING),
            TextCell(f"{vectors.bytes:,}" if vectors is not None else MISSING),
            TextCell(points(row.score)),
            change(row),
        ),
        rule=rule,
    )


def change(row: StoredRow) -> TextCell:
    """Returns the change against the model's own vectors, with its interval as the detail."""
    found = row.verdict
    interval = "" if found is None else brackets(100 * found.low, 100 * found.high, signed=True)
    return TextCell(points(row.change, signed=True), interval)


def outcome(row: StoredRow) -> str:
    """Returns the verdict on a loss of more than the margin in words, or why there is none."""
    if row.verdict is None:
        return row.note
    n_needed = row.verdict.n_needed
    if row.verdict.outcome == "inconclusive" and n_needed is not None:
        told = f"{n_needed:,}" if n_needed < _UNREACHABLE else f"over {_UNREACHABLE:,}"
        return f"inconclusive: {told} units would decide, not {row.verdict.n:,}"
    return row.verdict.outcome


def _notes(found: StoredComparison) -> tuple[str, ...]:
    if not found.is_tested:
        margin = counted(found.margin, "point")
        return (f"Losses of more than {margin}: compare-results tests them, except with --no-intervals.",)
    left_out: dict[str, list[str]] = {}
    for row in found.rows:
        if row.task is None and row.note:
            left_out.setdefault(row.note, []).append(row.label)
    return (
        "Changes are against the same model's own vectors (float32), paired by unit, with a two-sided 95 % interval. "
        f"A loss of more than {counted(found.margin, 'point')} is ruled out where the interval's lower end lies above "
        f"-{found.margin:g}, also after correction for skewness towards losses (and, where fewer than 10 units lost, "
        "rare losses can't add up to more), and shown where the upper end lies below that.",
        *(f"The mean is {note}: {', '.join(labels)}." for note, labels in left_out.items()),
    )
