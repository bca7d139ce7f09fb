"""Tables of text cells, before a format is chosen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextCell:
    """One cell of a table.

    Attributes:
        text: What the cell says; it may hold anything that a dataset or a label holds.
        detail: Shown smaller after the text, such as an interval.
        bold, underline: The best and the second best of the row.
        marks: Names of marks, such as "significant"; each format has its own signs for them.
    """

    text: str
    detail: str = ""
    bold: bool = False
    underline: bool = False
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row; `rule` draws a line above it."""

    cells: tuple[TextCell, ...]
    rule: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table without a format.

    Attributes:
        header: Column names.
        n_text: Number of columns at the left that hold text and are left-aligned; the others are right-aligned.
        notes: Sentences below the table.
    """

    title: str
    header: tuple[TextCell, ...]
    n_text: int
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()
