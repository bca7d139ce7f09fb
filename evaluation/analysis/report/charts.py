"""Charts of a comparison: scores, differences, means by type, speed, published scores. Computes nothing."""

from __future__ import annotations

import altair as alt

from evaluation.analysis.number_formats import counted
from evaluation.analysis.report.canvas import Canvas, Chart, task_axis, tips, values
from evaluation.analysis.report.chart_data import difference_rows, published_rows, score_rows, speed_rows, type_rows

_SIDE_BY_SIDE = 4
"""Up to this many models, each has a line of its own within a task's row."""
_VERDICTS = ["better", "worse", "not significant"]


def score_chart(canvas: Canvas) -> Chart | None:
    """Scores with their intervals, a row per task."""
    rows, n_models, n_tasks = score_rows(canvas.comparison), len(canvas.labels), len(canvas.comparison.rows)
    if not rows:
        return None
    side_by_side = n_models <= _SIDE_BY_SIDE
    offset = alt.YOffset("model:N", sort=canvas.labels) if side_by_side else alt.Undefined
    base = canvas.of_shown_models(rows).encode(y=task_axis(_tasks(canvas)), color=canvas.colour(), yOffset=offset)
    lines = base.mark_rule(strokeWidth=1.5, opacity=0.9 if side_by_side else 0.35).encode(
        x=alt.X("low:Q", title="Score (points)", scale=alt.Scale(zero=False, nice=True)), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=45, opacity=1).encode(
        x="score:Q",
        shape=canvas.shape(),
        tooltip=tips(
            ("task:N", "Task"),
            ("model:N", "Model"),
            ("score:Q", "Score", ".2f"),
            ("range:N", f"{canvas.percent} interval"),
            ("metric:N", "Metric"),
        ),
    )
    has_interval = any("low" in row for row in rows)
    told = f"lines are {canvas.percent} intervals" if has_interval else "there are no intervals without stored samples"
    height = (9 * n_models + 8 if side_by_side else 20) * n_tasks
    drawn = lines + points if has_interval else points
    return canvas.chart(
        "scores", drawn, height, models=counted(n_models, "model"), tasks=counted(n_tasks, "task"), intervals=told
    )


def _tasks(canvas: Canvas) -> list[str]:
    """Tasks in the comparison's order, but those of one type together."""
    types = list(dict.fromkeys(row.type for row in canvas.comparison.rows))
    return [row.task for row in sorted(canvas.comparison.rows, key=lambda row: types.index(row.type))]


def difference_chart(canvas: Canvas, which: str | None = None) -> Chart | None:
    """Differences to the baseline with their intervals, sorted: a forest plot of one model at a time.

    Args:
        which: The model that is shown first; None: the first one.
    """
    baseline, rows = canvas.comparison.baseline, difference_rows(canvas.comparison)
    choices = tuple(dict.fromkeys(row["model"] for row in rows))
    if baseline is None or not choices:
        return None
    order = alt.EncodingSortField(field="delta", op="max", order="descending")
    base = alt.Chart(values(rows)).transform_filter("datum.model == which").encode(y=task_axis(order))
    look, title = canvas.look, f"Difference to {baseline} (points)"
    colour = alt.Color("verdict:N", scale=alt.Scale(domain=_VERDICTS, range=[look.good, look.bad, look.faint]))
    forms = alt.Scale(domain=_VERDICTS, range=["triangle-right", "triangle-left", "circle"])
    lines = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q", color=colour)
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("delta:Q", title=title),
        color=colour,
        shape=alt.Shape("verdict:N", scale=forms),
        tooltip=tips(
            ("task:N", "Task"),
            ("delta:Q", "Difference", "+.2f"),
            ("range:N", f"{canvas.percent} interval"),
            ("p:N", "Adjusted p"),
            ("note:N", "Note"),
        ),
    )
    zero = alt.Chart(values([{}])).mark_rule(color=look.text, strokeDash=[3, 3]).encode(x=alt.datum(0))
    drawn = (zero + lines + points).add_params(alt.param(name="which", value=which or choices[0]))
    height = 20 * max(sum(row["model"] == choice for row in rows) for choice in choices)
    fill = {"baseline": baseline, "percent": canvas.percent, "alpha": canvas.comparison.options.alpha}
    return canvas.chart("differences", drawn, height, choices=choices, **fill)


def type_chart(canvas: Canvas) -> Chart | None:
    """Means by task type, where there are several types."""
    rows = type_rows(canvas.comparison)
    types = list(dict.fromkeys(str(row["type"]) for row in rows))
    if len(types) < 2:
        return None
    drawn = canvas.of_shown_models(rows).mark_bar().encode(
        y=alt.Y("type:N", title=None, sort=types),
        yOffset=alt.YOffset("model:N", sort=canvas.labels),
        x=alt.X("score:Q", title="Mean score (points)"),
        color=canvas.colour(),
        tooltip=tips(("type:N", "Type"), ("model:N", "Model"), ("score:Q", "Mean score", ".2f"), ("n:Q", "Tasks")),
    )  # fmt: skip
    return canvas.chart("types", drawn, max(30, 9 * len(canvas.labels) + 10) * len(types))


def speed_chart(canvas: Canvas) -> Chart | None:
    """Mean score against tokens per second, with the Pareto front."""
    rows = speed_rows(canvas.comparison)
    if len(rows) < 2:
        return None
    x = alt.X(
        "speed:Q",
        scale=alt.Scale(type="log", padding=30),
        title="Tokens per second (log scale)",
        axis=alt.Axis(format="~s", labelOverlap="greedy", tickCount=6),
    )
    y = alt.Y("score:Q", scale=alt.Scale(zero=False, nice=True), title="Mean score (points)")
    base = canvas.of_shown_models(rows).encode(x=x, y=y)
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        color=canvas.colour(legend=None),
        shape=canvas.shape(legend=None),
        tooltip=tips(
            ("model:N", "Model"),
            ("score:Q", "Mean score", ".2f"),
            ("speed:Q", "Tokens per second", ",.0f"),
            ("note:N", "Note"),
        ),
    )
    names = base.mark_text(dy=-11, color=canvas.look.text).encode(text="model:N")
    front = alt.Chart(values([row for row in rows if row["front"]])).mark_line(
        color=canvas.look.faint, strokeDash=[4, 3], interpolate="step-before"
    ).encode(x=x, y=y)  # fmt: skip
    cached = any(row["note"] for row in rows)
    told = " Some vectors came from the cache, so these are not all the models' own speeds." if cached else ""
    return canvas.chart("speed", front + points + names, 300, cached=told)


def published_chart(canvas: Canvas) -> Chart | None:
    """Scores of these runs against published scores."""
    rows = published_rows(canvas.comparison)
    if not rows:
        return None
    known = [row[key] for row in rows for key in ("score", "published")]
    x_title, y_title = "Published (points)", "Here (points)"
    line = diagonal(canvas, (min(known), max(known)), x_title, y_title)
    scale = alt.Scale(zero=False, nice=True)
    points = canvas.of_shown_models(rows).mark_point(filled=True, size=60, opacity=0.9).encode(
        x=alt.X("published:Q", title=x_title, scale=scale),
        y=alt.Y("score:Q", title=y_title, scale=scale),
        color=canvas.colour(),
        shape=canvas.shape(),
        tooltip=tips(
            ("task:N", "Task"),
            ("model:N", "Model"),
            ("score:Q", "Here", ".2f"),
            ("published:Q", "Published", ".2f"),
            ("source:N", "Source"),
            ("verdict:N", "Verdict"),
            ("causes:N", "Likely cause"),
        ),
    )  # fmt: skip
    return canvas.chart("published", line + points, 340)


def diagonal(canvas: Canvas, ends: tuple[float, float], x_title: str, y_title: str) -> alt.Chart:
    """The broken line on which both axes have the same value."""
    line = alt.Chart(values([{"v": end} for end in ends])).mark_line(color=canvas.look.faint, strokeDash=[4, 3])
    drawn: alt.Chart = line.encode(x=alt.X("v:Q", title=x_title), y=alt.Y("v:Q", title=y_title))
    return drawn
