"""The chart of scores against the bytes of a stored vector, with BM25 as a level line. Computes nothing."""

from __future__ import annotations

from typing import Any

import altair as alt

from evaluation.analysis.number_formats import span
from evaluation.analysis.report.canvas import Canvas, Chart, tips, values
from evaluation.analysis.report.chart_data import Rows
from evaluation.analysis.report.chart_style import SHAPES, in_turn
from evaluation.analysis.report.sizes import SizedScore, Sizes, best_at_each_size

_HEIGHT = 320


def size_chart(canvas: Canvas, found: Sizes | None, which: str | None = None) -> Chart | None:
    """Scores against bytes per vector, a line per model, one task at a time.

    Args:
        found: The scores; None: there is nothing to show.
        which: The task that is shown first; None: the first one.
    """
    vectors = [scored for scored in found.scores if scored.bytes_per_vector is not None] if found else []
    choices = tuple(dict.fromkeys(scored.task for scored in vectors))
    if found is None or not choices:
        return None
    models = list(dict.fromkeys(scored.model for scored in vectors))
    colour = alt.Color("model:N", scale=alt.Scale(domain=models, range=in_turn(canvas.look.series, len(models))))
    shape = alt.Shape("model:N", scale=alt.Scale(domain=models, range=in_turn(SHAPES, len(models))))
    ticks = sorted({row.bytes_per_vector for row in vectors if row.bytes_per_vector is not None})
    x = alt.X(
        "bytes:Q",
        scale=alt.Scale(type="log", base=2, nice=False, padding=30),
        title="Bytes per vector (log scale)",
        axis=alt.Axis(values=ticks, format=",d", labelOverlap="greedy"),
    )
    y = alt.Y("score:Q", scale=alt.Scale(zero=False, nice=True), title="Score (points)")
    base = _of_task(_rows(vectors)).encode(x=x, color=colour)
    joined = base.transform_filter("datum.best").mark_line(strokeWidth=1.5).encode(y=y)
    intervals = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(
        y=alt.Y("low:Q", title="Score (points)"), y2="high:Q"
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        y=y,
        shape=shape,
        tooltip=tips(
            ("model:N", "Model"),
            ("form:N", "Stored as"),
            ("bytes:Q", "Bytes per vector", ",d"),
            ("score:Q", "Score", ".2f"),
            ("range:N", f"{canvas.percent} interval"),
        ),
    )
    names = base.transform_filter("datum.best").mark_text(dy=-12, fontSize=10).encode(y=y, text="form:N")
    words = _words(canvas, [scored for scored in found.scores if scored.bytes_per_vector is None], y)
    drawn = alt.layer(*words, joined, intervals, points, names)
    drawn = drawn.add_params(alt.param(name="which", value=which or choices[0]))
    return canvas.chart("sizes", drawn, _HEIGHT, choices=choices, percent=canvas.percent)


def _words(canvas: Canvas, scores: list[SizedScore], y: alt.Y) -> list[alt.Chart]:
    """Level lines with the label of each row that ranks by words."""
    if not scores:
        return []
    base = _of_task(_rows(scores)).encode(y=y)
    line = base.mark_rule(color=canvas.look.text, strokeDash=[6, 3], strokeWidth=1.5).encode(
        tooltip=tips(("model:N", "Model"), ("score:Q", "Score", ".2f"), ("range:N", f"{canvas.percent} interval"))
    )
    name = base.mark_text(color=canvas.look.text, align="left", dx=4, dy=-6).encode(x=alt.value(0), text="model:N")
    return [line, name]


def _of_task(rows: Rows) -> alt.Chart:
    chart: alt.Chart = alt.Chart(values(rows)).transform_filter("datum.task == which")
    return chart


def _rows(scores: list[SizedScore]) -> Rows:
    rows: Rows = []
    for task in dict.fromkeys(scored.task for scored in scores):
        own = [scored for scored in scores if scored.task == task]
        best = set(map(id, best_at_each_size(own).values()))
        for scored in own:
            row: dict[str, Any] = {"task": task, "model": scored.model, "score": round(scored.score, 3)}
            if scored.bytes_per_vector is not None:
                row |= {"bytes": scored.bytes_per_vector, "form": scored.form, "best": id(scored) in best}
            if scored.interval is not None:
                low, high = scored.interval.low, scored.interval.high
                row |= {"low": round(low, 3), "high": round(high, 3), "range": span(low, high)}
            rows.append(row)
    return rows
