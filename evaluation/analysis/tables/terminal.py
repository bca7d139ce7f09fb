"""Draws tables on the terminal and as plain text. Lays them out itself: rich measures and renders every cell."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from rich.box import HEAVY_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.text import Span, Text

from evaluation.analysis.tables.formats import SIGNS, legend_sign
from evaluation.analysis.tables.table import Table, TableRow, TextCell
from evaluation.system.inert_text import on_one_line

_LEAST_TEXT = 12  # characters of a text column in a narrow terminal; longer text is wrapped
_GAP = 3  # between columns
_TOO_WIDE = "Wider than the terminal: compare-results takes --transpose, --summary, --model and --only."
_UNPRINTED_WIDTH = 10_000  # of output that goes to a file or a pipe


def print_tables(tables: Sequence[Table], console: Console) -> None:
    """Prints tables, on a terminal with the best score bold and the second underlined; elsewhere nothing is wrapped."""
    if not console.is_terminal:
        console.width = _UNPRINTED_WIDTH
    widest = 0
    for number, table in enumerate(tables):
        if number:
            console.print()
        if table.title:
            console.print(Text(on_one_line(table.title), style="bold"), soft_wrap=True)
        if table.rows:
            drawn = _drawn(table, console)
            widest = max(widest, cell_len(drawn.plain.partition("\n")[0]))
            console.print(drawn, soft_wrap=True)
        for note in table.notes:
            console.print(Text(legend_sign(note, SIGNS.__getitem__, on_one_line)), soft_wrap=True)
    if widest > console.width:
        console.print(_TOO_WIDE, soft_wrap=True)


def render_plain(tables: Sequence[Table]) -> str:
    """Returns the same as text without styles, for files."""
    stream = io.StringIO()
    print_tables(tables, Console(file=stream, force_terminal=False))
    return stream.getvalue()


class _Piece(NamedTuple):
    """A line of a cell, whose first `n_styled` characters have a style."""

    text: str
    style: str = ""
    n_styled: int = 0


def _drawn(table: Table, console: Console) -> Text:
    """Lays a table out; text that does not fit its column is wrapped."""
    box = HEAVY_HEAD.substitute(console.options)  # plain characters where the output can't show others
    rows = [TableRow(tuple(replace(cell, bold=True) for cell in table.header)), *table.rows]
    pieces = [[_piece(cell) for cell in row.cells] for row in rows]
    widths = _widths(table, pieces, console.width)
    lines = _Lines(widths, table.n_text)
    for number, (row, cells) in enumerate(zip(rows, pieces, strict=True)):
        if number == 1:
            lines.rule(box.head_row_horizontal, box.head_row_cross)
        elif row.rule:
            lines.rule(box.row_horizontal, box.row_cross)
        wrapped = [_wrapped(cell, width, console) for cell, width in zip(cells, widths, strict=True)]
        height = max(map(len, wrapped))
        for own in wrapped:  # a header stands on its rule
            missing = [_Piece("")] * (height - len(own))
            own[:] = own + missing if number else missing + own
        for parts in zip(*wrapped, strict=True):
            lines.add(parts, box.mid_vertical if number else box.head_vertical)
    return Text("\n".join(lines.texts), spans=lines.spans)


class _Lines:
    """The lines of a table as they are drawn, with the places of their styles in the whole text."""

    def __init__(self, widths: Sequence[int], n_text: int) -> None:
        self.texts: list[str] = []
        self.spans: list[Span] = []
        self._widths, self._n_text, self._length = widths, n_text, 0

    def rule(self, horizontal: str, cross: str) -> None:
        self._end(f"{horizontal}{cross}{horizontal}".join(horizontal * width for width in self._widths))

    def add(self, pieces: Sequence[_Piece], vertical: str) -> None:
        line = ""
        for column, (piece, width) in enumerate(zip(pieces, self._widths, strict=True)):
            room = " " * (width - cell_len(piece.text))
            line += f" {vertical} " if column else ""
            line += room if column >= self._n_text else ""
            if piece.style:
                start = self._length + len(line)
                self.spans.append(Span(start, start + piece.n_styled, piece.style))
            line += piece.text if column >= self._n_text else piece.text + room
        self._end(line)

    def _end(self, line: str) -> None:
        self.texts.append(line)
        self._length += len(line) + 1


def _piece(cell: TextCell) -> _Piece:
    marks = "".join(SIGNS[mark] for mark in cell.marks)
    text = on_one_line(f"{cell.text}{marks} {cell.detail}" if cell.detail else f"{cell.text}{marks}").rstrip()
    return _Piece(text, "bold" if cell.bold else "underline" if cell.underline else "", len(cell.text))


def _wrapped(piece: _Piece, width: int, console: Console) -> list[_Piece]:
    if cell_len(piece.text) <= width:
        return [piece]
    text = Text(piece.text, spans=[Span(0, piece.n_styled, piece.style)])
    lines = text.wrap(console, width, overflow="fold")
    return [_Piece(own.plain.rstrip(), piece.style, max((span.end for span in own.spans), default=0)) for own in lines]


def _widths(table: Table, pieces: Sequence[Sequence[_Piece]], width: int) -> list[int]:
    """The columns' widths. Numbers are never wrapped; what text columns lack is given from the left."""
    longest = [max(cell_len(cell.text) for cell in cells) for cells in zip(*pieces, strict=True)]
    widths = _least_widths(table, pieces)
    room = width - sum(widths) - _GAP * (len(widths) - 1)
    for column, most in enumerate(longest):
        more = max(min(most - widths[column], room), 0)
        widths[column] += more
        room -= more
    return widths


def _least_widths(table: Table, pieces: Sequence[Sequence[_Piece]]) -> list[int]:
    """The widths without details, which may be wrapped, and with the header's words on lines of their own."""
    longest = [min(max(map(len, piece.text.split()), default=0), _LEAST_TEXT) for piece in pieces[0]]
    for row, cells in zip(table.rows, pieces[1:], strict=True):
        for column, (cell, piece) in enumerate(zip(row.cells, cells, strict=True)):
            alone = _piece(replace(cell, detail="")) if cell.detail else piece
            longest[column] = max(longest[column], cell_len(alone.text))
    return [min(n, _LEAST_TEXT) if column < table.n_text else n for column, n in enumerate(longest)]
