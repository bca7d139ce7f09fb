"""The comparison table of a report as text: scores, ranks, significance, flags, and the tooltip of each cell."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.analysis.comparison.types import Aggregate, AggregateCell, Cell, Comparison
from evaluation.analysis.number_formats import counted, p_equation, points, span


@dataclass(frozen=True, slots=True)
class GridCell:
    """One cell as the page shows it.

    Attributes:
        score, interval, delta: As text.
        rank: Its rank in the row; equal scores share one. None where there is nothing to compare.
        verdict: "better" or "worse" than the baseline if that is significant, else empty.
        flags: Letters: T for trained on, others for the comparison's marks.
        tip: The text of the tooltip.
    """

    score: str
    interval: str
    delta: str
    rank: int | None
    verdict: str
    flags: str
    tip: str


@dataclass(frozen=True, slots=True)
class GridRow:
    """A task or an aggregate."""

    name: str
    type: str
    metric: str
    cells: tuple[GridCell, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """The whole table; aggregates are below the tasks and are not sorted."""

    rows: tuple[GridRow, ...]
    aggregates: tuple[GridRow, ...]
    types: tuple[str, ...]


def score_grid(comparison: Comparison) -> Grid:
    """Returns every cell of a comparison as text, without the means of types that have a single task."""
    everywhere = [_marks_of_all(comparison, position) for position in range(len(comparison.columns))]
    uneven = len({row.differs for row in comparison.rows}) > 1
    rows = tuple(
        GridRow(
            row.task,
            row.type,
            row.metric,
            tuple(
                _cell(comparison, column.label, cell, rank, told)
                for column, cell, rank, told in zip(comparison.columns, row.cells, row.ranks, everywhere, strict=True)
            ),
            "; ".join([*(row.differs if uneven else ()), *([f"mean of {len(row.parts)} parts"] if row.parts else [])]),
        )
        for row in comparison.rows
    )
    aggregates = tuple(
        _aggregate_row(comparison, aggregate)
        for aggregate in comparison.aggregates
        if aggregate.kind != "type" or any(cell.n_tasks > 1 for cell in aggregate.cells)
    )
    return Grid(rows, aggregates, tuple(dict.fromkeys(row.type for row in comparison.rows)))


def _marks_of_all(comparison: Comparison, position: int) -> frozenset[str]:
    """Marks of every scored cell of a column; the notes name them once."""
    marks = [frozenset(row.cells[position].marks) for row in comparison.rows if row.cells[position].score is not None]
    return frozenset.intersection(*marks) if marks else frozenset()


def flag_legend(comparison: Comparison) -> str:
    """Returns the meaning of the flags that occur."""
    everywhere = [_marks_of_all(comparison, position) for position in range(len(comparison.columns))]
    marks = dict.fromkeys(
        mark
        for row in comparison.rows
        for cell, told in zip(row.cells, everywhere, strict=True)
        for mark in cell.marks
        if mark not in told
    )
    trained = any(cell.trained for row in comparison.rows for cell in row.cells)
    told = ["T: trained on the task's training data"] if trained else []
    return "; ".join([*told, *(f"{mark[0].upper()}: differs in {mark}" for mark in marks)])


def _cell(comparison: Comparison, label: str, cell: Cell, rank: int | None, told: frozenset[str]) -> GridCell:
    is_baseline = label == comparison.baseline
    verdict = "" if not cell.significant or cell.delta is None else "better" if cell.delta > 0 else "worse"
    flags = " ".join(
        filter(None, ["T" if cell.trained else "", *(mark[0].upper() for mark in cell.marks if mark not in told)])
    )
    return GridCell(
        score=points(cell.score),
        interval="" if cell.interval is None else f"{cell.interval.low:.1f} to {cell.interval.high:.1f}",
        delta="baseline" if is_baseline else points(cell.delta, signed=True),
        rank=rank,
        verdict=verdict,
        flags=flags,
        tip=_tip(comparison, label, cell),
    )


def _tip(comparison: Comparison, label: str, cell: Cell) -> str:
    percent = f"{comparison.options.confidence:.0%}"
    lines = [label if cell.score is None else f"{label}: {cell.score:.2f}"]
    if cell.interval is not None:
        lines.append(f"{percent} interval {span(cell.interval.low, cell.interval.high)}")
    if cell.delta is not None and label != comparison.baseline:
        interval = cell.difference.interval if cell.difference else None
        told = f" ({percent} {span(interval.low, interval.high, signed=True)})" if interval else ""
        lines.append(f"{cell.delta:+.2f} to {comparison.baseline}{told}")
        if cell.p_adjusted is not None:
            lines.append(f"adjusted {p_equation(cell.p_adjusted)}")
        elif cell.difference is not None:
            lines.append("not tested")
    lines += [f"published {match.score:.2f} ({match.source}): {match.verdict}" for match in cell.published]
    lines += ["trained on this task's training data"] if cell.trained else []
    lines += [f"differs in {mark}" for mark in cell.marks]
    notes = [cell.note, cell.difference.note if cell.difference else ""]
    return "\n".join([*lines, *dict.fromkeys(note for note in notes if note)])


def _aggregate_row(comparison: Comparison, aggregate: Aggregate) -> GridRow:
    is_rank = aggregate.kind == "borda"
    cells = tuple(
        _aggregate_cell(comparison, column.label, cell, rank, is_rank=is_rank)
        for column, cell, rank in zip(comparison.columns, aggregate.cells, aggregate.ranks, strict=True)
    )
    return GridRow(aggregate.name, aggregate.type or "", "", cells)


def _aggregate_cell(
    comparison: Comparison, label: str, cell: AggregateCell, rank: int | None, *, is_rank: bool
) -> GridCell:
    is_baseline = label == comparison.baseline
    percent = f"{comparison.options.confidence:.0%}"
    tip = [label]
    verdict, difference = "", cell.tested
    if difference is not None and not is_baseline:
        if difference.interval is not None:
            tip.append(f"{percent} interval {span(difference.interval.low, difference.interval.high, signed=True)}")
        if difference.p_two_sided is not None:
            tip.append(p_equation(difference.p_two_sided))
        if cell.significant:
            verdict = "better" if difference.value > 0 else "worse"
    if cell.missing:
        tip.append(f"over {counted(cell.n_scored, 'task')} only; missing: {', '.join(cell.missing)}")
    score = f"{cell.value:.0f}" if is_rank and cell.value is not None else points(cell.value)
    return GridCell(
        score=score,
        interval="",
        delta="baseline" if is_baseline else "" if is_rank else points(cell.delta, signed=True),
        rank=rank,
        verdict=verdict,
        flags="incomplete" if cell.missing else "",
        tip="\n".join(tip),
    )
