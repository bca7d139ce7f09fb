"""Text tables before they are rendered: cells without a format, and how points are written. Knows no comparison."""

from __future__ import annotations

from dataclasses import dataclass

MISSING = "-"


@dataclass(frozen=True, slots=True)
class TextCell:
    """One cell.

    Attributes:
        text: The text, which may hold anything that a dataset or a label holds.
        detail: Smaller text after it, such as an interval.
        bold, underline: The best and the second of its row.
        marks: Names of marks, such as "significant"; each format has a sign for them.
    """

    text: str
    detail: str = ""
    bold: bool = False
    underline: bool = False
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row; `rule` draws a line above it."""

    cells: tuple[TextCell, ...]
    rule: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Cells without a format.

    Attributes:
        header: The first `n_text` columns are text and aligned left, the others are numbers and aligned right.
        notes: Sentences below the table.
    """

    title: str
    header: tuple[TextCell, ...]
    n_text: int
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()


def points(value: float | None, *, signed: bool = False) -> str:
    """A score with two decimals, or the sign for a missing one; what rounds to zero has no minus."""
    if value is None:
        return MISSING
    shown = round(value, 2) + 0.0
    return f"{shown:+.2f}" if signed else f"{shown:.2f}"
