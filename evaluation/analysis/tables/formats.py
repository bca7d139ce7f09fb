"""Renders tables for the terminal, as Markdown and as LaTeX. Whatever a cell holds is shown as text."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from rich.console import Console, JustifyMethod
from rich.table import Table as RichTable
from rich.text import Text

from evaluation.analysis.tables.table import Table, TableRow, TextCell
from evaluation.system.inert_text import for_latex, for_markdown, on_one_line

SIGNS = {
    "significant": "*",
    "trained": "°",
    "incomplete": "†",
    "dataset": "ᵈ",
    "split": "ˢ",
    "metric": "ᵐ",
    "limit": "ˡ",
    "cached": "ᶜ",
}
_LATEX_SIGNS = {
    "significant": "*",
    "trained": r"\circ",
    "incomplete": r"\dagger",
    "dataset": r"\mathrm{d}",
    "split": r"\mathrm{s}",
    "metric": r"\mathrm{m}",
    "limit": r"\mathrm{l}",
    "cached": r"\mathrm{c}",
}
_LEGEND_SIGN = re.compile(r"^\{(\w+)\} ")
_LEAST_TEXT = 12  # characters of a text column in a narrow terminal; longer text is wrapped
_GAP = 3  # between columns
_UNPRINTED_WIDTH = 10_000  # of output that goes to a file or a pipe


def legend_sign(note: str, sign: Callable[[str], str], escape: Callable[[str], str]) -> str:
    """Returns a note as text; a legend begins with the name of a mark, which becomes the mark's sign."""
    found = _LEGEND_SIGN.match(note)
    if found is None or found[1] not in SIGNS:
        return escape(note)
    return f"{sign(found[1])} {escape(note[found.end() :])}"


# ----------------------------------------------------------------------------------------------------------- terminal


def print_tables(tables: Sequence[Table], console: Console) -> None:
    """Prints tables, on a terminal with the best score bold and the second underlined; elsewhere nothing is wrapped."""
    if not console.is_terminal:
        console.width = _UNPRINTED_WIDTH
    for number, table in enumerate(tables):
        if number:
            console.print()
        if table.title:
            console.print(Text(on_one_line(table.title), style="bold"), soft_wrap=True)
        if table.rows:
            rich_table = _rich_table(table, console)
            least = sum(column.min_width or 0 for column in rich_table.columns) + _GAP * (len(rich_table.columns) - 1)
            console.print(rich_table, width=max(console.width, least), crop=False)
        for note in table.notes:
            console.print(Text(legend_sign(note, SIGNS.__getitem__, on_one_line)), soft_wrap=True)


def render_plain(tables: Sequence[Table]) -> str:
    """Returns the same as text without styles, for files."""
    stream = io.StringIO()
    print_tables(tables, Console(file=stream, force_terminal=False))
    return stream.getvalue()


def _rich_table(table: Table, console: Console) -> RichTable:
    rich_table = RichTable(show_edge=False, pad_edge=False, header_style="bold" if console.is_terminal else "")
    for position, (cell, width) in enumerate(zip(table.header, _least_widths(table, console.width), strict=True)):
        justify: JustifyMethod = "left" if position < table.n_text else "right"
        rich_table.add_column(Text(_plain(cell)), justify=justify, overflow="fold", min_width=width)
    for position, row in enumerate(table.rows):
        ends = position + 1 < len(table.rows) and table.rows[position + 1].rule
        rich_table.add_row(*(_rich_cell(cell) for cell in row.cells), end_section=ends)
    return rich_table


def _least_widths(table: Table, width: int) -> list[int]:
    """Numbers are never wrapped; the first text column gets the remaining room, the others little."""
    columns = zip(*(row.cells for row in table.rows), strict=True)
    longest = [max(len(_plain(replace(cell, detail=""))) for cell in cells) for cells in columns]
    words = [max(map(len, _plain(cell).split()), default=0) for cell in table.header]
    longest = [max(n, min(word, _LEAST_TEXT)) for n, word in zip(longest, words, strict=True)]
    least = [min(n, _LEAST_TEXT) if position < table.n_text else n for position, n in enumerate(longest)]
    others = sum(least[1:]) + _GAP * (len(least) - 1)
    return [max(least[0], min(longest[0], width - others)), *least[1:]]


def _rich_cell(cell: TextCell) -> Text:
    text = Text(_plain(cell))
    text.stylize("bold" if cell.bold else "underline" if cell.underline else "", 0, len(cell.text))
    return text


def _plain(cell: TextCell) -> str:
    marks = "".join(SIGNS[mark] for mark in cell.marks)
    return on_one_line(f"{cell.text}{marks} {cell.detail}" if cell.detail else f"{cell.text}{marks}")


# ----------------------------------------------------------------------------------------------------------- Markdown


def render_markdown(tables: Sequence[Table]) -> str:
    """Returns tables in GitHub's Markdown, with notes below each."""
    return "\n".join(_markdown_table(table) for table in tables)


def _markdown_table(table: Table) -> str:
    lines = [f"**{for_markdown(table.title)}**", ""] if table.title else []
    if table.rows:
        lines.append(_markdown_row(TableRow(table.header)))
        numbers = len(table.header) - table.n_text
        lines.append("|" + "|".join([*["---"] * table.n_text, *["---:"] * numbers]) + "|")
        lines += [_markdown_row(row) for row in table.rows]
        lines.append("")
    lines += [legend_sign(note, lambda mark: for_markdown(SIGNS[mark]), for_markdown) + "  " for note in table.notes]
    return "\n".join(line.rstrip() if line.startswith("|") else line for line in lines) + "\n"


def _markdown_row(row: TableRow) -> str:
    return "| " + " | ".join(_markdown_cell(cell) for cell in row.cells) + " |"


def _markdown_cell(cell: TextCell) -> str:
    text = for_markdown(cell.text)
    if text and cell.bold:
        text = f"**{text}**"
    elif text and cell.underline:
        text = f"<ins>{text}</ins>"
    marks = "".join(for_markdown(SIGNS[mark]) for mark in cell.marks)
    return f"{text}{marks} <sub>{for_markdown(cell.detail)}</sub>" if cell.detail else text + marks


# -------------------------------------------------------------------------------------------------------------- LaTeX

_LATEX_HEAD = r"""% Needs \usepackage{booktabs,graphicx}; without them rules are plain and wide tables are not scaled.
\providecommand{\toprule}{\hline}
\providecommand{\midrule}{\hline}
\providecommand{\bottomrule}{\hline}
\providecommand{\resizebox}[3]{#3}
\providecommand{\rotatebox}[2]{#2}
"""
_MINUS = re.compile(r"(?<![^\s}])-(?=\d)")
_SMALL_FROM, _TINY_FROM = 30, 50  # rows
_WIDE_FROM = 7  # columns
_PROSE_FROM = 40  # characters


def render_latex(tables: Sequence[Table]) -> str:
    """Returns tables in floats with booktabs' rules; they compile in a plain article class as they are."""
    return _LATEX_HEAD + "\n".join(_latex_table(table) for table in tables)


def _latex_table(table: Table) -> str:
    notes = [legend_sign(note, _latex_sign, for_latex) + r"\par" for note in table.notes]
    if not table.rows:
        return "\n".join([r"\par\noindent", *notes]) + "\n"
    numbers = len(table.header) - table.n_text
    is_wide = len(table.header) > _WIDE_FROM
    columns = "".join("p{4cm}" if _has_prose(table, position) else "l" for position in range(table.n_text))
    size = (
        r"\tiny" if len(table.rows) >= _TINY_FROM else r"\scriptsize" if len(table.rows) >= _SMALL_FROM else r"\small"
    )
    body = []
    for row in table.rows:
        body += [r"\midrule"] if row.rule else []
        body.append(_latex_row(row))
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering" + size,
            r"\setlength{\tabcolsep}{3pt}",
            *([rf"\caption{{{for_latex(table.title)}}}"] if table.title else []),
            *([r"\resizebox{\linewidth}{!}{%"] if is_wide else []),
            rf"\begin{{tabular}}{{{columns}{'r' * numbers}}}",
            r"\toprule",
            _latex_header(table, upright=not is_wide),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}" + ("}" if is_wide else ""),
            r"\par\medskip\begin{minipage}{\linewidth}\raggedright\scriptsize",
            *notes,
            r"\end{minipage}",
            r"\end{table}",
            "",
        ]
    )


def _has_prose(table: Table, position: int) -> bool:
    """Whether a column holds sentences, which need to be wrapped."""
    texts = (row.cells[position].text for row in table.rows)
    return any(len(text) > _PROSE_FROM and " " in text for text in texts)


def _latex_header(table: Table, *, upright: bool) -> str:
    cells = [_latex_cell(cell) for cell in table.header]
    numbers = cells[table.n_text :]
    turned = numbers if upright else [rf"\rotatebox{{90}}{{{cell}}}" for cell in numbers]
    return " & ".join([*cells[: table.n_text], *turned]) + r" \\"


def _latex_row(row: TableRow) -> str:
    return " & ".join(_latex_cell(cell) for cell in row.cells) + r" \\"


def _latex_cell(cell: TextCell) -> str:
    text, detail = _latex_numbers(for_latex(cell.text)), _latex_numbers(for_latex(cell.detail))
    if text and cell.bold:
        text = rf"\textbf{{{text}}}"
    elif text and cell.underline:
        text = rf"\underline{{{text}}}"
    marks = "".join(_latex_sign(mark) for mark in cell.marks)
    return rf"{text}{marks} {{\scriptsize {detail}}}" if detail else text + marks


def _latex_numbers(text: str) -> str:
    """Writes a minus before a number as a minus sign, not as a hyphen."""
    return _MINUS.sub("$-$", text)


def _latex_sign(mark: str) -> str:
    return f"$^{{{_LATEX_SIGNS[mark]}}}$"
