"""Draws tables on the terminal and as plain text. Lays them out itself: rich measures and renders every cell."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.box import HEAVY_HEAD
from rich.console import Console
from rich.text import Text

from evaluation.analysis.tables.formats import SIGNS, legend_sign
from evaluation.analysis.tables.table import Table, TableRow, TextCell
from evaluation.system.inert_text import on_one_line

_LEAST_TEXT = 12  # characters of a text column in a narrow terminal; longer text is wrapped
_GAP = 3  # between columns
_UNPRINTED_WIDTH = 10_000  # of output that goes to a file or a pipe


def print_tables(tables: Sequence[Table], console: Console) -> None:
    """Prints tables, on a terminal with the best score bold and the second underlined; elsewhere nothing is wrapped."""
    if not console.is_terminal:
        console.width = _UNPRINTED_WIDTH
    for number, table in enumerate(tables):
        if number:
            console.print()
        if table.title:
            console.print(Text(on_one_line(table.title), style="bold"), soft_wrap=True)
        for line in _lines(table, console) if table.rows else ():
            console.print(line, soft_wrap=True)
        for note in table.notes:
            console.print(Text(legend_sign(note, SIGNS.__getitem__, on_one_line)), soft_wrap=True)


def render_plain(tables: Sequence[Table]) -> str:
    """Returns the same as text without styles, for files."""
    stream = io.StringIO()
    print_tables(tables, Console(file=stream, force_terminal=False))
    return stream.getvalue()


def _lines(table: Table, console: Console) -> Iterator[Text]:
    """The lines of a table; text that does not fit its column is wrapped."""
    box = HEAVY_HEAD.substitute(console.options)  # plain characters where the output can't show others
    rows = [TableRow(tuple(replace(cell, bold=True) for cell in table.header)), *table.rows]
    texts = [[_text(cell) for cell in row.cells] for row in rows]
    widths = _widths(table, texts, console.width)
    for number, (row, cells) in enumerate(zip(rows, texts, strict=True)):
        if number == 1:
            yield _rule(box.head_row_horizontal, box.head_row_cross, widths)
        elif row.rule:
            yield _rule(box.row_horizontal, box.row_cross, widths)
        wrapped = [
            [cell] if cell.cell_len <= width else list(cell.wrap(console, width, overflow="fold"))
            for cell, width in zip(cells, widths, strict=True)
        ]
        height = max(map(len, wrapped))
        for own in wrapped:  # a header stands on its rule
            missing = [Text()] * (height - len(own))
            own[:] = own + missing if number else missing + own
        for parts in zip(*wrapped, strict=True):
            yield _line(parts, widths, table.n_text, box.mid_vertical if number else box.head_vertical)


def _rule(horizontal: str, cross: str, widths: Sequence[int]) -> Text:
    return Text(f"{horizontal}{cross}{horizontal}".join(horizontal * width for width in widths))


def _line(parts: Sequence[Text], widths: Sequence[int], n_text: int, vertical: str) -> Text:
    line = Text()
    for column, (part, width) in enumerate(zip(parts, widths, strict=True)):
        if column:
            line.append(f" {vertical} ")
        part.rstrip()
        room = " " * (width - part.cell_len)
        line.append_text(part).append(room) if column < n_text else line.append(room).append_text(part)
    return line


def _widths(table: Table, texts: Sequence[Sequence[Text]], width: int) -> list[int]:
    """The columns' widths. Numbers are never wrapped; what text columns lack is given from the left."""
    longest = [max(cell.cell_len for cell in cells) for cells in zip(*texts, strict=True)]
    widths = _least_widths(table)
    room = width - sum(widths) - _GAP * (len(widths) - 1)
    for column, most in enumerate(longest):
        more = max(min(most - widths[column], room), 0)
        widths[column] += more
        room -= more
    return widths


def _least_widths(table: Table) -> list[int]:
    columns = zip(*(row.cells for row in table.rows), strict=True)
    longest = [max(_text(replace(cell, detail="")).cell_len for cell in cells) for cells in columns]
    words = [max(map(len, _text(cell).plain.split()), default=0) for cell in table.header]
    longest = [max(n, min(word, _LEAST_TEXT)) for n, word in zip(longest, words, strict=True)]
    return [min(n, _LEAST_TEXT) if position < table.n_text else n for position, n in enumerate(longest)]


def _text(cell: TextCell) -> Text:
    marks = "".join(SIGNS[mark] for mark in cell.marks)
    text = Text(on_one_line(f"{cell.text}{marks} {cell.detail}" if cell.detail else f"{cell.text}{marks}"))
    text.stylize("bold" if cell.bold else "underline" if cell.underline else "", 0, len(cell.text))
    return text
