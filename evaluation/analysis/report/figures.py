"""Which charts a report has, on its page and as vector images."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from evaluation.analysis.report.canvas import Canvas, Chart
from evaluation.analysis.report.chart_style import PAGE, PAPER
from evaluation.analysis.report.charts import difference_chart, published_chart, score_chart, speed_chart, type_chart
from evaluation.analysis.report.contents import Report, compared_pairs
from evaluation.analysis.report.job_charts import length_chart, query_chart, time_chart
from evaluation.analysis.report.series_chart import series_charts
from evaluation.analysis.report.size_chart import size_chart


def page_charts(report: Report) -> list[Chart]:
    """The charts of the page; the scatter plot of queries is a template."""
    canvas = Canvas(report.comparison, PAGE)
    queries = [query_chart(canvas)] if len({one.label for one in report.scored}) > 1 else []
    inputs = [length_chart(canvas, report.lengths), time_chart(canvas, report.seconds)]
    sized = size_chart(canvas, report.sizes)
    return _there([*_overview(canvas), sized, difference_chart(canvas), *queries, *inputs])


def paper_charts(report: Report) -> list[Chart]:
    """Every chart as a figure of its own: forest plots and length plots per model, scatter plots per task and pair."""
    canvas = Canvas(report.comparison, PAPER)
    charts = [*_overview(canvas), time_chart(canvas, report.seconds)]
    charts += _per_model(lambda which: difference_chart(canvas, which))
    charts += _per_model(lambda which: size_chart(canvas, report.sizes, which))
    charts += _per_model(lambda which: length_chart(canvas, report.lengths, which))
    for second, first in compared_pairs(report.comparison, report.scored):
        name = _file_name("queries", first.task, first.label, second.label)
        charts.append(replace(query_chart(canvas, (first, second)), name=name))
    return _there(charts)


def _overview(canvas: Canvas) -> list[Chart | None]:
    return [
        *series_charts(canvas),
        score_chart(canvas),
        type_chart(canvas),
        speed_chart(canvas),
        published_chart(canvas),
    ]


def _per_model(make: Callable[[str | None], Chart | None]) -> list[Chart | None]:
    first = make(None)
    named = [(choice, make(choice)) for choice in (first.choices if first else ())]
    return [replace(chart, name=_file_name(chart.name, choice)) for choice, chart in named if chart is not None]


def _there(charts: list[Chart | None]) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def _file_name(*parts: str) -> str:
    return "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in parts)
