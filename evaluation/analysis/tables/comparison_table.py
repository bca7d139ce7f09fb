"""A comparison as tables: scores with ranks, differences and marks; and published scores beside ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from evaluation.analysis.comparison.published import TOLERANCE_POINTS, PublishedMatch
from evaluation.analysis.comparison.types import Aggregate, AggregateCell, Cell, Column, Comparison, Row
from evaluation.analysis.number_formats import MISSING, brackets, peak_memory, points
from evaluation.analysis.tables.field_table import field_table
from evaluation.analysis.tables.stored_table import stored_table
from evaluation.analysis.tables.table import Table, TableRow, TextCell

if TYPE_CHECKING:
    from evaluation.analysis.statistics.intervals import Interval

LEGEND = {
    "significant": "differs significantly from the baseline",
    "trained": "the task's training data is among the model's",
    "incomplete": "tasks are missing (named below), so the comparison is not fair",
    "dataset": "different dataset or revision than the row's first score",
    "split": "different split or subset than the row's first score",
    "metric": "different metric or version of it than the row's first score",
    "limit": "different limit than the row's first score",
    "cached": "some vectors came from the cache, so this is not the model's speed",
}
_INTERVALS_UP_TO = 4  # columns


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a comparison.

    Attributes:
        models_as_rows: A row per model and a column per task, instead of the reverse.
        summary: Only the summaries, without single tasks.
        intervals: Show confidence intervals; None: if there are few columns.
        speed: Show tokens per second, hours and peak memory below the scores.
        caption: LaTeX source for the caption of the table of scores; None: its title.
        label: Key of that table for references in LaTeX.
    """

    models_as_rows: bool = False
    summary: bool = False
    intervals: bool | None = None
    speed: bool = True
    caption: str | None = None
    label: str | None = None


class _Item(NamedTuple):
    """One task or summary: a name, its type, and for each column a score and a delta."""

    name: str
    type: str
    scores: tuple[TextCell, ...]
    deltas: tuple[TextCell | None, ...]
    rule: bool = False


def comparison_tables(comparison: Comparison, layout: Layout | None = None) -> tuple[Table, ...]:
    """Returns the table of scores and, if published scores were asked for, tables of these beside ours and of ranks."""
    layout = layout or Layout()
    intervals = layout.intervals if layout.intervals is not None else len(comparison.columns) <= _INTERVALS_UP_TO
    items = list(_items(comparison, intervals=intervals, summary=layout.summary))
    speed = _speed_items(comparison.columns) if layout.speed else []
    build = _models_as_rows if layout.models_as_rows else _models_as_columns
    table = build(comparison, items, speed)
    used = Counter(mark for row in (*table.rows, TableRow(table.header)) for cell in row.cells for mark in cell.marks)
    legend = tuple(f"{{{mark}}} {LEGEND[mark]}." for mark in LEGEND if used[mark])
    title = f"{comparison.benchmark}: {comparison.name}" if comparison.benchmark else comparison.name
    table = replace(table, title=title, notes=(*legend, *comparison.notes))
    others = [published_table(comparison)] if _asked_for_published(comparison) else []
    if comparison.stored is not None:
        others.append(stored_table(comparison.stored))
    if comparison.field is not None:
        others.append(field_table(comparison.field, comparison))
    return (table, *others)


def _items(comparison: Comparison, *, intervals: bool, summary: bool) -> Iterator[_Item]:
    if not summary or not comparison.aggregates:
        for row in comparison.rows:
            yield _task_item(row, comparison, intervals=intervals)
    for number, aggregate in enumerate(comparison.aggregates):
        yield _aggregate_item(aggregate, intervals=intervals, rule=not number and not summary)


def _task_item(row: Row, comparison: Comparison, *, intervals: bool) -> _Item:
    scores = tuple(
        TextCell(
            points(cell.score),
            _brackets(cell.interval) if intervals and comparison.baseline is None else "",
            bold=rank == 1,
            underline=rank == 2,
            marks=_cell_marks(cell),
        )
        for cell, rank in zip(row.cells, row.ranks, strict=True)
    )
    deltas = tuple(
        TextCell(
            points(cell.delta, signed=True),
            _brackets(cell.difference.interval, signed=True) if intervals and cell.difference else "",
            marks=("significant",) if cell.significant else (),
        )
        for cell in row.cells
    )
    return _Item(row.task, row.type, scores, deltas)


def _cell_marks(cell: Cell) -> tuple[str, ...]:
    """The marks of a score; protocols are in the header instead."""
    own = tuple(mark for mark in cell.marks if mark in LEGEND) if cell.score is not None else ()
    return (*own, "trained") if cell.trained and cell.score is not None else own


def _aggregate_item(aggregate: Aggregate, *, intervals: bool, rule: bool) -> _Item:
    is_rank = aggregate.kind == "borda"
    over_several = len({cell.n_scored for cell in aggregate.cells if cell.value is not None}) > 1
    scores = tuple(
        TextCell(
            _aggregate_text(cell, is_rank=is_rank),
            f"(over {cell.n_scored})" if cell.missing and over_several and not is_rank else "",
            bold=rank == 1,
            underline=rank == 2,
            marks=("incomplete",) if cell.missing and cell.value is not None else (),
        )
        for cell, rank in zip(aggregate.cells, aggregate.ranks, strict=True)
    )
    nothing = TextCell("")  # ranks have no difference
    deltas = tuple(nothing if is_rank else _suite_delta(cell, intervals=intervals) for cell in aggregate.cells)
    return _Item(aggregate.name, aggregate.type or "", scores, deltas, rule)


def _aggregate_text(cell: AggregateCell, *, is_rank: bool) -> str:
    if is_rank:
        return MISSING if cell.value is None else f"{cell.value:.0f}"
    return points(cell.value)


def _suite_delta(cell: AggregateCell, *, intervals: bool) -> TextCell:
    """The difference of the means, with its interval if the test covers all of the mean's tasks."""
    found = cell.tested
    if found is None:
        return TextCell(points(cell.delta, signed=True))
    interval = _brackets(found.interval, signed=True) if intervals else ""
    return TextCell(points(cell.delta, signed=True), interval, marks=("significant",) if cell.significant else ())


def _brackets(interval: Interval | None, *, signed: bool = False) -> str:
    return "" if interval is None else brackets(interval.low, interval.high, signed=signed)


def _speed_items(columns: Sequence[Column]) -> list[_Item]:
    """Tokens per second, hours and, where measured, peak memory; none if all scores are published ones."""
    if all(column.speed is None for column in columns):
        return []
    rates, hours, peaks = [], [], []
    for column in columns:
        speed = column.speed
        rate = speed.tokens_per_s if speed else None
        marks = ("cached",) if speed and speed.from_cache else ()
        rates.append(TextCell(MISSING if rate is None else f"{rate:,.0f}", marks=marks if rate is not None else ()))
        hours.append(TextCell(MISSING if speed is None else f"{speed.hours:.3g}", marks=marks))
        peak = speed.peak if speed else None
        peaks.append(TextCell(MISSING if peak is None else peak_memory(peak), marks=marks if peak is not None else ()))
    nothing: tuple[None, ...] = (None,) * len(columns)
    items = [
        _Item("Tokens/s", "", tuple(rates), nothing, rule=True),
        _Item("Hours", "", tuple(hours), nothing),
    ]
    if any(column.speed is not None and column.speed.peak is not None for column in columns):
        items.append(_Item("Peak memory", "", tuple(peaks), nothing))
    return items


# ------------------------------------------------------------------------------------------------------------ layouts


def header_label(column: Column, comparison: Comparison) -> TextCell:
    """Returns the label, with the protocol if protocols are mixed, and a mark for a limited run."""
    said = []
    if len({other.protocol for other in comparison.columns}) > 1:
        said.append(column.protocol)
    if column.limited:
        said.append("limited")
    return TextCell(f"{column.label} [{', '.join(said)}]" if said else column.label)


def _models_as_columns(comparison: Comparison, items: Sequence[_Item], speed: Sequence[_Item]) -> Table:
    with_delta = [comparison.baseline not in (None, column.label) for column in comparison.columns]
    header = [TextCell("Task"), TextCell("Type")]
    for column, delta in zip(comparison.columns, with_delta, strict=True):
        header += [header_label(column, comparison), *([TextCell(f"vs {comparison.baseline}")] if delta else [])]
    rows = []
    for item in (*items, *speed):
        pairs = [
            (score, change or TextCell("")) if delta else (score,)
            for score, change, delta in zip(item.scores, item.deltas, with_delta, strict=True)
        ]
        rows.append(TableRow((TextCell(item.name), TextCell(item.type), *chain.from_iterable(pairs)), item.rule))
    return Table("", tuple(header), 2, tuple(rows))


def _models_as_rows(comparison: Comparison, items: Sequence[_Item], speed: Sequence[_Item]) -> Table:
    """Differences are in the same cell as the scores."""
    shown = (*items, *speed)
    header = (TextCell("Model"), *(TextCell(item.name) for item in shown))
    rows = []
    for position, column in enumerate(comparison.columns):
        cells = []
        for item in shown:
            score, delta = item.scores[position], item.deltas[position]
            if (
                delta is not None
                and delta.text not in ("", MISSING)
                and comparison.baseline not in (None, column.label)
            ):
                detail = f"{delta.text} {delta.detail}".strip()
                score = replace(score, detail=detail, marks=(*score.marks, *delta.marks))
            cells.append(score)
        rows.append(TableRow((header_label(column, comparison), *cells)))
    return Table("", header, 1, tuple(rows))


# ---------------------------------------------------------------------------------------------------------- published


def _asked_for_published(comparison: Comparison) -> bool:
    return bool(comparison.options.published) and any(not column.is_published for column in comparison.columns)


def published_table(comparison: Comparison) -> Table:
    """Returns a row per published score of a compared model: ours, theirs, protocol, verdict and likely cause."""
    found = list(_matches(comparison))
    header = (
        "Task",
        "Model",
        "Verdict",
        "Their protocol",
        "Source",
        "Likely cause",
        "Ours",
        "Published",
        "Ours - published",
    )
    rows = tuple(
        TableRow(
            tuple(
                TextCell(text)
                for text in (
                    *(task, label, match.verdict, match.protocol, match.source, "; ".join(match.causes)),
                    *(points(match.score + match.delta), points(match.score), points(match.delta, signed=True)),
                )
            )
        )
        for task, label, match in found
    )
    n_reproduced = sum(match.verdict == "reproduced" for *_, match in found)
    notes = (
        f"Reproduced: within {TOLERANCE_POINTS:g} points and, where there is one, within our interval. "
        f"{n_reproduced} of {len(found)} are. Sources: {_place(comparison)}.",
    )
    if not found:
        notes = ("There are no published scores of these models on these tasks.",)
    return Table("Published scores", tuple(TextCell(name) for name in header), 6, rows, notes)


def _place(comparison: Comparison) -> str:
    return comparison.field.origin.folder if comparison.field is not None else "results/published"


def _matches(comparison: Comparison) -> Iterator[tuple[str, str, PublishedMatch]]:
    cells: list[tuple[str, Sequence[Cell | AggregateCell]]] = [(row.task, row.cells) for row in comparison.rows]
    cells += [(aggregate.name, aggregate.cells) for aggregate in comparison.aggregates]
    for name, own in cells:
        for column, cell in zip(comparison.columns, own, strict=True):
            for match in cell.published:
                yield name, column.label, match
