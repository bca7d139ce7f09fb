"""Renders tables as Markdown and as LaTeX. Whatever a cell holds is shown as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from evaluation.analysis.tables.table import Table, TableRow, TextCell
from evaluation.system.inert_text import for_latex, for_markdown

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


def legend_sign(note: str, sign: Callable[[str], str], escape: Callable[[str], str]) -> str:
    """Returns a note as text; a legend begins with the name of a mark, which becomes the mark's sign."""
    found = _LEGEND_SIGN.match(note)
    if found is None or found[1] not in SIGNS:
        return escape(note)
    return f"{sign(found[1])} {escape(note[found.end() :])}"


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
_BEST = "Bold: the best of a row; underlined: the second best. Neither says that a difference is significant."


def render_latex(tables: Sequence[Table], *, caption: str | None = None, label: str | None = None) -> str:
    """Returns tables in floats with booktabs' rules; they compile in a plain article class as they are.

    Args:
        tables: The tables; their titles are the captions.
        caption: LaTeX source for the caption of the first table, in place of its title.
        label: Key of the first table for references.
    """
    captions = [for_latex(table.title) for table in tables]
    captions[0] = (captions[0] if caption is None else caption) + (rf"\label{{{label}}}" if label else "")
    return _LATEX_HEAD + "\n".join(map(_latex_table, tables, captions))


def _latex_table(table: Table, caption: str) -> str:
    legend = [_BEST] if any(cell.bold for row in table.rows for cell in row.cells) else []
    notes = [_latex_numbers(legend_sign(note, _latex_sign, for_latex)) + r"\par" for note in [*legend, *table.notes]]
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
            rf"\caption{{{caption}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",  # never larger than it is
            rf"\begin{{tabular}}{{{columns}{'r' * numbers}}}",
            r"\toprule",
            _latex_header(table, upright=not is_wide),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
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
