"""Charts of a comparison, as Vega-Lite specifications made with Altair. Draws what it is given, computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from evaluation.analysis.comparison.types import Comparison
from evaluation.analysis.report.chart_data import (
    Rows,
    bucket_names,
    difference_rows,
    length_data,
    published_rows,
    query_rows,
    score_rows,
    speed_rows,
    type_rows,
)
from evaluation.analysis.report.chart_style import PAPER, Look, shapes
from evaluation.analysis.report.chart_texts import WORDS
from evaluation.analysis.report.input_audit import LengthRow
from evaluation.analysis.report.wins import ScoredTask

_SIDE_BY_SIDE = 4
"""Up to so many models, each has a line of its own within a task's row."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and what a page says around it.

    Attributes:
        name: Of the figure's file; its texts are in plot_words.py.
        description: What it shows, in words, for those who can't see it.
        spec: Vega-Lite.
        choices: Values of its parameter `which`, the first one shown; empty where there is nothing to choose.
        by_model: It has a parameter `shown`, the labels of the models to show.
    """

    name: str
    title: str
    caption: str
    description: str
    spec: dict[str, Any]
    choices: tuple[str, ...] = ()
    by_model: bool = False


class ChartMaker:
    """Makes the charts of one comparison in one look.

    Args:
        comparison: What is shown.
        look: On a page or on paper.
    """

    def __init__(self, comparison: Comparison, look: Look = PAPER) -> None:
        self._comparison, self._look = comparison, look
        self._labels = [column.label for column in comparison.columns]
        colours, forms = look.colours(len(self._labels)), shapes(len(self._labels))
        self._colours = alt.Scale(domain=self._labels, range=colours)
        self._shapes = alt.Scale(domain=self._labels, range=forms)
        self._colour = alt.Color("model:N", scale=self._colours, sort=self._labels)
        self._shape = alt.Shape("model:N", scale=self._shapes, sort=self._labels)
        self._percent = f"{comparison.options.confidence:.0%}"

    def scores(self) -> Chart | None:
        """Scores with intervals, a row a task."""
        rows = score_rows(self._comparison)
        if not rows:
            return None
        side_by_side = len(self._labels) <= _SIDE_BY_SIDE
        step = 9 * len(self._labels) + 8 if side_by_side else 20
        offset = alt.YOffset("model:N", sort=self._labels) if side_by_side else alt.Undefined
        y = alt.Y("task:N", sort=self._tasks(), title=None, axis=alt.Axis(grid=True, tickBand="extent"))
        base = self._shown(alt.Chart(_values(rows))).encode(y=y, color=self._colour, yOffset=offset)
        lines = base.mark_rule(strokeWidth=1.5, opacity=0.9 if side_by_side else 0.35).encode(
            x=alt.X("low:Q", title="Score (points)", scale=alt.Scale(zero=False, nice=True)), x2="high:Q"
        )
        points = base.mark_point(filled=True, size=45, opacity=1).encode(
            x="score:Q",
            shape=self._shape,
            tooltip=[
                alt.Tooltip("task:N", title="Task"),
                alt.Tooltip("model:N", title="Model"),
                alt.Tooltip("score:Q", title="Score", format=".2f"),
                alt.Tooltip("range:N", title=f"{self._percent} interval"),
                alt.Tooltip("metric:N", title="Metric"),
            ],
        )
        has_interval = any("low" in row for row in rows)
        about = (
            f"lines are {self._percent} intervals" if has_interval else "no samples are stored, so there is no interval"
        )
        return _chart(
            "scores",
            self._finish(lines + points if has_interval else points, height=step * len(self._comparison.rows)),
            by_model=True,
            n_models=len(self._labels),
            n_tasks=len(self._comparison.rows),
            intervals=about,
        )

    def differences(self, which: str | None = None) -> Chart | None:
        """Differences to the baseline, sorted, with intervals: a forest plot of one model at a time."""
        baseline = self._comparison.baseline
        rows = difference_rows(self._comparison)
        choices = tuple(dict.fromkeys(row["model"] for row in rows))
        if baseline is None or not choices:
            return None
        first = which or choices[0]
        chosen = alt.param(name="which", value=first)
        order = alt.EncodingSortField(field="delta", op="max", order="descending")
        base = (
            alt.Chart(_values(rows))
            .transform_filter("datum.model == which")
            .encode(y=alt.Y("task:N", sort=order, title=None, axis=alt.Axis(grid=True, tickBand="extent")))
        )
        colour = alt.Color(
            "verdict:N",
            scale=alt.Scale(
                domain=["better", "worse", "not significant"], range=[self._look.good, self._look.bad, self._look.faint]
            ),
        )
        title = f"Difference to {baseline} (points)"
        lines = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q", color=colour)
        points = base.mark_point(filled=True, size=70, opacity=1).encode(
            x=alt.X("delta:Q", title=title),
            color=colour,
            shape=alt.Shape(
                "verdict:N",
                scale=alt.Scale(
                    domain=["better", "worse", "not significant"], range=["triangle-right", "triangle-left", "circle"]
                ),
            ),
            tooltip=[
                alt.Tooltip("task:N", title="Task"),
                alt.Tooltip("delta:Q", title="Difference", format="+.2f"),
                alt.Tooltip("range:N", title=f"{self._percent} interval"),
                alt.Tooltip("p:N", title="Adjusted p"),
                alt.Tooltip("note:N", title="Note"),
            ],
        )
        zero = alt.Chart(_values([{}])).mark_rule(color=self._look.text, strokeDash=[3, 3]).encode(x=alt.datum(0))
        height = 20 * max(sum(row["model"] == choice for row in rows) for choice in choices)
        return _chart(
            "differences",
            self._finish((zero + lines + points).add_params(chosen), height=height),
            choices=choices,
            baseline=baseline,
            percent=self._percent,
            alpha=self._comparison.options.alpha,
        )

    def types(self) -> Chart | None:
        """Means by task type."""
        rows = type_rows(self._comparison)
        if len({row["type"] for row in rows}) < 2:
            return None
        chart = (
            self._shown(alt.Chart(_values(rows)))
            .mark_bar()
            .encode(
                y=alt.Y("type:N", title=None, sort=list(dict.fromkeys(str(row["type"]) for row in rows))),
                yOffset=alt.YOffset("model:N", sort=self._labels),
                x=alt.X("score:Q", title="Mean score (points)"),
                color=self._colour,
                tooltip=["type:N", "model:N", alt.Tooltip("score:Q", format=".2f"), alt.Tooltip("n:Q", title="tasks")],
            )
        )
        step = max(30, 9 * len(self._labels) + 10)
        return _chart("types", self._finish(chart, height=step * len({row["type"] for row in rows})), by_model=True)

    def speed(self) -> Chart | None:
        """Mean score against tokens a second, with the Pareto front."""
        rows = speed_rows(self._comparison)
        if len(rows) < 2:
            return None
        x = alt.X(
            "speed:Q",
            scale=alt.Scale(type="log", padding=30),
            title="Tokens a second (log scale)",
            axis=alt.Axis(format="~s", labelOverlap="greedy", tickCount=6),
        )
        y = alt.Y("score:Q", scale=alt.Scale(zero=False, nice=True), title="Mean score (points)")
        base = self._shown(alt.Chart(_values(rows))).encode(x=x, y=y)
        points = base.mark_point(filled=True, size=90, opacity=1).encode(
            color=alt.Color("model:N", scale=self._colours, legend=None),
            shape=alt.Shape("model:N", scale=self._shapes, legend=None),
            tooltip=[
                alt.Tooltip("model:N", title="Model"),
                alt.Tooltip("score:Q", title="Mean score", format=".2f"),
                alt.Tooltip("speed:Q", title="Tokens a second", format=",.0f"),
                alt.Tooltip("note:N", title="Note"),
            ],
        )
        names = base.mark_text(dy=-11, color=self._look.text).encode(text="model:N")
        front = (
            alt.Chart(_values([row for row in rows if row["front"]]))
            .mark_line(color=self._look.faint, strokeDash=[4, 3], interpolate="step-before")
            .encode(x=x, y=y)
        )
        measured = (
            ""
            if all(not row["note"] for row in rows)
            else " Part of the vectors came from the cache: no model's own speed."
        )
        return _chart("speed", self._finish(front + points + names, height=300), by_model=True, cached=measured)

    def published(self) -> Chart | None:
        """Ours against published scores."""
        rows = published_rows(self._comparison)
        if not rows:
            return None
        values = [row[key] for row in rows for key in ("score", "published")]
        ends = [{"v": min(values)}, {"v": max(values)}]
        line = (
            alt.Chart(_values(ends))
            .mark_line(color=self._look.faint, strokeDash=[4, 3])
            .encode(x=alt.X("v:Q", title="Published (points)"), y=alt.Y("v:Q", title="Here (points)"))
        )
        scale = alt.Scale(zero=False, nice=True)
        points = self._shown(alt.Chart(_values(rows))).mark_point(filled=True, size=60, opacity=0.9).encode(
            x=alt.X("published:Q", title="Published (points)", scale=scale),
            y=alt.Y("score:Q", title="Here (points)", scale=scale),
            color=self._colour,
            shape=self._shape,
            tooltip=["task:N", "model:N", alt.Tooltip("score:Q", format=".2f", title="here"),
                     alt.Tooltip("published:Q", format=".2f"), "source:N", "verdict:N", "causes:N"],
        )  # fmt: skip
        return _chart("published", self._finish(line + points, height=340), by_model=True)

    def queries(self, first: ScoredTask | None = None, second: ScoredTask | None = None) -> Chart:
        """Per-query scores of two models; without models, a template whose names a page fills in."""
        rows = query_rows(first, second) if first and second else []
        x_title, y_title = (first.label, second.label) if first and second else ("@first", "@second")
        diagonal = (
            alt.Chart(_values([{"v": 0}, {"v": 100}]))
            .mark_line(color=self._look.faint, strokeDash=[4, 3])
            .encode(x=alt.X("v:Q", title=x_title), y=alt.Y("v:Q", title=y_title))
        )
        scale = alt.Scale(domain=[0, 100])
        points = (
            alt.Chart(alt.NamedData(name="points"))
            .mark_circle(color=self._look.accent, opacity=0.55, clip=False)
            .encode(
                x=alt.X("x:Q", title=x_title, scale=scale),
                y=alt.Y("y:Q", title=y_title, scale=scale),
                size=alt.Size("n:Q", scale=alt.Scale(domain=[1, 50], range=[30, 500], clamp=True), legend=None),
                tooltip=[
                    alt.Tooltip("x:Q", title=x_title, format=".1f"),
                    alt.Tooltip("y:Q", title=y_title, format=".1f"),
                    alt.Tooltip("n:Q", title="Queries"),
                    alt.Tooltip("text:N", title="For one"),
                ],
            )
        )
        spec = self._finish(diagonal + points, height=360)
        spec["datasets"] = {**spec.get("datasets", {}), "points": rows}
        return _chart("queries", spec)

    def lengths(self, rows: Sequence[LengthRow], which: str | None = None) -> Chart | None:
        """Token lengths of every side of every task, and the share that was cut; one model at a time."""
        rows = [row for row in rows if sum(row.counts)]
        if not rows:
            return None
        choices = tuple(dict.fromkeys(row.label for row in rows))
        names, data = bucket_names(rows), length_data(rows)
        y = alt.Y("t:N", sort=list(dict.fromkeys(str(row["t"]) for row in data)), title=None)
        x = alt.X("b:N", sort=[*names, "cut"], title="Tokens of a text, prefix included", axis=alt.Axis(labelAngle=-40))
        base = alt.Chart(_values(data)).transform_filter("datum.m == which")
        buckets = base.transform_calculate(b=_js_list(names)).transform_flatten(["n", "b"])
        cells = buckets.mark_rect(color=self._look.accent).encode(
            x=x,
            y=y,
            opacity=alt.Opacity("n:Q", scale=alt.Scale(domain=[0, 1], range=[0, 0.85]), legend=None),
            tooltip=[alt.Tooltip("t:N", title="Texts"), alt.Tooltip("b:N", title="Tokens"),
                     alt.Tooltip("n:Q", format=".1%", title="Share")],
        )  # fmt: skip
        shares = (
            buckets.transform_filter("datum.n >= 0.005")
            .mark_text(fontSize=9, color=self._look.text)
            .encode(x=x, y=y, text=alt.Text("n:Q", format=".0%"))
        )
        cut = base.transform_calculate(b="'cut'")
        flags = cut.mark_text(fontSize=10, fontWeight="bold").encode(
            x=x,
            y=y,
            text=alt.Text("cut:Q", format=".1%"),
            color=alt.condition("datum.cut > 0", alt.value(self._look.bad), alt.value(self._look.faint)),
        )
        chosen = alt.param(name="which", value=which or choices[0])
        height = 18 * len({row["t"] for row in data})
        spec = self._finish((cells + shares + flags).add_params(chosen), height=height)
        return _chart("lengths", spec, choices=choices)

    def time(self, seconds: Mapping[str, Mapping[str, float]]) -> Chart | None:
        """Seconds by phase.

        Args:
            seconds: Label -> phase -> seconds over all tasks.
        """
        total = max((sum(phases.values()) for phases in seconds.values()), default=0.0)
        if not total:
            return None
        unit, divisor = ("hours", 3600.0) if total > 7200 else ("minutes", 60.0) if total > 300 else ("seconds", 1.0)
        phases = list(dict.fromkeys(phase for found in seconds.values() for phase in found))
        rows = [
            {"model": label, "phase": phase, "time": value / divisor, "order": phases.index(phase)}
            for label, found in seconds.items()
            for phase, value in found.items()
        ]
        chart = (
            self._shown(alt.Chart(_values(rows)))
            .mark_bar()
            .encode(
                y=alt.Y("model:N", sort=self._labels, title=None),
                x=alt.X("time:Q", title=f"Time over all tasks ({unit})"),
                color=alt.Color(
                    "phase:N", sort=phases, scale=alt.Scale(domain=phases, range=self._look.colours(len(phases)))
                ),
                order=alt.Order("order:Q"),
                tooltip=["model:N", "phase:N", alt.Tooltip("time:Q", format=".2f", title=unit)],
            )
        )
        return _chart("time", self._finish(chart, height=26 * len(seconds)), by_model=True)

    def _tasks(self) -> list[str]:
        """Tasks with those of one type together, in the comparison's order."""
        types = list(dict.fromkeys(row.type for row in self._comparison.rows))
        return [row.task for row in sorted(self._comparison.rows, key=lambda row: types.index(row.type))]

    def _shown(self, chart: alt.Chart) -> alt.Chart:
        """Keep the models of the parameter `shown`."""
        return chart.transform_filter("indexof(shown, datum.model) >= 0")

    def _finish(self, chart: Any, height: int) -> dict[str, Any]:
        spec: dict[str, Any] = chart.properties(width=self._look.width, height=height).to_dict()
        text = str(spec)
        if "indexof(shown" in text:
            spec.setdefault("params", []).append({"name": "shown", "value": self._labels})
        spec["config"] = self._look.config()
        spec["autosize"] = {"type": "fit-x" if self._look.width == "container" else "pad", "contains": "padding"}
        return spec


def _values(rows: Rows) -> alt.InlineData:
    return alt.InlineData(values=rows)


def _js_list(names: Sequence[str]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


def _chart(
    name: str, spec: dict[str, Any], *, choices: tuple[str, ...] = (), by_model: bool = False, **fill: object
) -> Chart:
    title, caption, description = (text.format(**fill) for text in WORDS[name])
    return Chart(name, title, caption, description, spec, choices, by_model)
