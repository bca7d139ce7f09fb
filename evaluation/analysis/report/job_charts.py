"""Charts of single jobs: scores query by query, lengths of texts, time by phase. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt

from evaluation.analysis.report.canvas import Canvas, Chart, tips, values
from evaluation.analysis.report.chart_data import bucket_names, length_data, query_rows, time_rows
from evaluation.analysis.report.chart_style import in_turn
from evaluation.analysis.report.charts import diagonal
from evaluation.analysis.report.input_audit import LengthRow
from evaluation.analysis.report.wins import ScoredTask


def query_chart(canvas: Canvas, pair: tuple[ScoredTask, ScoredTask] | None = None) -> Chart:
    """Scores per query of two models on one task; without a pair, a template that the page's script fills in."""
    rows = query_rows(*pair) if pair else []
    x_title, y_title = (pair[0].label, pair[1].label) if pair else ("@first", "@second")
    scale = alt.Scale(domain=[0, 100])
    points = alt.Chart(alt.NamedData(name="points")).mark_circle(
        color=canvas.look.accent, opacity=0.55, clip=False
    ).encode(
        x=alt.X("x:Q", title=x_title, scale=scale),
        y=alt.Y("y:Q", title=y_title, scale=scale),
        size=alt.Size("n:Q", scale=alt.Scale(domain=[1, 50], range=[30, 500], clamp=True), legend=None),
        tooltip=tips(("x:Q", x_title, ".1f"), ("y:Q", y_title, ".1f"), ("n:Q", "Queries"), ("text:N", "One of them")),
    )  # fmt: skip
    chart = canvas.chart("queries", diagonal(canvas, (0, 100), x_title, y_title) + points, 360)
    chart.spec["datasets"] = {**chart.spec.get("datasets", {}), "points": rows}
    return chart


def length_chart(canvas: Canvas, lengths: Sequence[LengthRow], which: str | None = None) -> Chart | None:
    """Token lengths of each side of each task, and the share that was cut; one model at a time.

    Args:
        lengths: Histograms; those without texts are left out.
        which: The model that is shown first; None: the first one.
    """
    lengths = [row for row in lengths if sum(row.counts)]
    if not lengths:
        return None
    choices = tuple(dict.fromkeys(row.label for row in lengths))
    names, rows = bucket_names(lengths), length_data(lengths)
    sides = list(dict.fromkeys(str(row["t"]) for row in rows))
    axis = alt.Axis(labelAngle=-40)
    x = alt.X("b:N", sort=[*names, "cut"], title="Tokens per text, prefix included", axis=axis)
    y = alt.Y("t:N", sort=sides, title=None)
    base = alt.Chart(values(rows)).transform_filter("datum.m == which").encode(x=x, y=y)
    listed = "[" + ", ".join(f"'{name}'" for name in names) + "]"
    buckets = base.transform_calculate(b=listed).transform_flatten(["n", "b"])
    cells = buckets.mark_rect(color=canvas.look.accent).encode(
        opacity=alt.Opacity("n:Q", scale=alt.Scale(domain=[0, 1], range=[0, 0.85]), legend=None),
        tooltip=tips(("t:N", "Texts"), ("b:N", "Tokens"), ("n:Q", "Share", ".1%")),
    )
    shares = buckets.transform_filter("datum.n >= 0.005").mark_text(fontSize=9, color=canvas.look.text)
    cut = base.transform_calculate(b="'cut'").mark_text(fontSize=10, fontWeight="bold")
    flags = cut.encode(
        text=alt.Text("cut:Q", format=".1%"),
        color=alt.condition("datum.cut > 0", alt.value(canvas.look.bad), alt.value(canvas.look.faint)),
    )
    drawn = cells + shares.encode(text=alt.Text("n:Q", format=".0%")) + flags
    chosen = alt.param(name="which", value=which or choices[0])
    return canvas.chart("lengths", drawn.add_params(chosen), 18 * len(sides), choices=choices)


def time_chart(canvas: Canvas, seconds: Mapping[str, Mapping[str, float]]) -> Chart | None:
    """Time by phase.

    Args:
        seconds: Label -> phase -> seconds over all tasks.
    """
    unit, phases, rows = time_rows(seconds)
    if not rows:
        return None
    colours = alt.Scale(domain=phases, range=in_turn(canvas.look.series, len(phases)))
    drawn = canvas.of_shown_models(rows).mark_bar().encode(
        y=alt.Y("model:N", sort=canvas.labels, title=None),
        x=alt.X("time:Q", title=f"Time over all tasks ({unit})"),
        color=alt.Color("phase:N", sort=phases, scale=colours),
        order=alt.Order("order:Q"),
        tooltip=tips(("model:N", "Model"), ("phase:N", "Phase"), ("time:Q", unit.capitalize(), ".2f")),
    )  # fmt: skip
    return canvas.chart("time", drawn, 26 * len(seconds))
