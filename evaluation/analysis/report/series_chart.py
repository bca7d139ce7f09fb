"""The chart of a training run: scores against steps, with intervals, the best checkpoint and where the mean fell."""

from __future__ import annotations

from dataclasses import replace

import altair as alt

from evaluation.analysis.comparison.series import Series, find_series
from evaluation.analysis.comparison.types import Comparison
from evaluation.analysis.report.canvas import Canvas, Chart, tips, values
from evaluation.analysis.report.chart_data import Rows
from evaluation.analysis.report.chart_style import in_turn

MEAN = "mean"
_TASKS_DRAWN = 6
"""With more tasks only the mean is drawn."""
_BEST, _WORSE = "best", "first significantly worse"


def series_charts(canvas: Canvas) -> list[Chart | None]:
    """A chart per series of the comparison."""
    found = find_series(canvas.comparison)
    charts = [_series_chart(canvas, series) for series in found]
    if len(charts) < 2:
        return list(charts)
    return [
        replace(chart, name=f"series-{number}", title=f"{chart.title}: {series.name}")
        for number, (chart, series) in enumerate(zip(charts, found, strict=True), 1)
    ]


def _series_chart(canvas: Canvas, series: Series) -> Chart:
    rows = series_rows(canvas.comparison, series)
    lines = list(dict.fromkeys(str(row["line"]) for row in rows))
    colours = [canvas.look.text, *in_turn(canvas.look.series, len(lines) - 1)] if len(lines) > 1 else [canvas.look.text]
    x = alt.X("step:Q", title="Step", scale=alt.Scale(zero=False, padding=20), axis=alt.Axis(grid=False))
    y = alt.Y("score:Q", title="Score (points)", scale=alt.Scale(zero=False, nice=True))
    is_mean = alt.datum.line == MEAN
    base = alt.Chart(values(rows)).encode(
        x=x, color=alt.Color("line:N", scale=alt.Scale(domain=lines, range=colours), sort=lines)
    )
    width = alt.condition(is_mean, alt.value(2.5), alt.value(1))
    bars = base.mark_rule().encode(y=alt.Y("low:Q", title="Score (points)"), y2="high:Q", strokeWidth=width)
    joined = base.mark_line().encode(y=y, strokeWidth=width, detail="line:N")
    points = base.mark_point(filled=True, opacity=1).encode(
        y=y,
        size=alt.condition(is_mean, alt.value(55), alt.value(20)),
        tooltip=tips(
            ("label:N", "Checkpoint"),
            ("step:Q", "Step"),
            ("line:N", "Task"),
            ("score:Q", "Score", ".2f"),
            ("range:N", f"{canvas.percent} interval"),
        ),
    )
    marked = alt.Chart(values([row for row in rows if row["mark"]])).encode(
        x=x, y=y, color=alt.Color("mark:N", scale=None)
    )
    tint = {_BEST: canvas.look.good, _WORSE: canvas.look.bad}
    marks: list[alt.Chart] = []
    for mark in dict.fromkeys(str(row["mark"]) for row in rows if row["mark"]):
        own = marked.transform_filter(alt.datum.mark == mark).encode(color=alt.value(tint[mark]))
        marks += [own.mark_point(size=220, strokeWidth=2.5, filled=False), own.mark_text(dy=-20).encode(text="mark:N")]
    drawn = alt.layer(bars, joined, points, *marks)
    n_checkpoints = len(series.checkpoints)
    return canvas.chart(
        "series", drawn, 320, found=series.sentence, percent=canvas.percent, n_checkpoints=n_checkpoints
    )


def series_rows(comparison: Comparison, series: Series) -> Rows:
    """A row per checkpoint for the mean, then one per checkpoint and task where there are few tasks."""
    rows: Rows = []
    for one in series.checkpoints:
        row: dict[str, object] = {"line": MEAN, "label": one.label, "step": one.step, "score": one.mean, "mark": ""}
        if one is series.best or one is series.worse:
            row["mark"] = _BEST if one is series.best else _WORSE
        found = one.behind.difference if one.behind is not None else None
        if found is not None and found.interval is not None:
            row |= _interval(one.mean + found.value - found.interval.high, one.mean + found.value - found.interval.low)
        rows.append(row)
    if len(comparison.rows) > _TASKS_DRAWN:
        return rows
    for task in comparison.rows if len(comparison.rows) > 1 else ():
        for one in series.checkpoints:
            cell = task.cells[comparison.column(one.label)]
            if cell.score is not None:
                bar = _interval(cell.interval.low, cell.interval.high) if cell.interval is not None else {}
                row = {"line": task.task, "label": one.label, "step": one.step, "score": cell.score, "mark": ""}
                rows.append({**row, **bar})
    return rows


def _interval(low: float, high: float) -> dict[str, object]:
    return {"low": low, "high": high, "range": f"{low:.2f} to {high:.2f}"}
