"""A report as one self-contained HTML page. Whatever a dataset, a label or a record holds stands in it as text."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import random
import re
from collections.abc import Sequence
from importlib import metadata, resources
from typing import Any

from markupsafe import Markup

from evaluation.analysis.number_formats import counted, peak_memory
from evaluation.analysis.report.chart_style import vega_bundle
from evaluation.analysis.report.contents import PHASES, Report
from evaluation.analysis.report.figures import page_charts
from evaluation.analysis.report.input_audit import warnings_by_sentence
from evaluation.analysis.report.score_grid import flag_legend
from evaluation.analysis.report.wins import PASSAGES, ScoredTask, query_texts, shorten
from evaluation.analysis.tables.stored_table import change, outcome
from evaluation.system.inert_text import for_html

PAGE_QUERIES, PAGE_VALUES = 300, 36_000
"""Queries per task, and values in all, that the page's scatter plot holds; of more queries, a seeded sample."""
_TASKS_WITH_TEXTS = 12


def render(report: Report) -> str:
    """Renders the page as HTML."""
    from jinja2 import Environment, StrictUndefined

    folder = resources.files("evaluation.analysis.report") / "page"
    style = (folder / "report.css").read_text(encoding="utf-8")
    scripts = [_inline_script(s) for s in ((folder / "report.js").read_text(encoding="utf-8"), vega_bundle())]
    charts = page_charts(report)
    data = {
        "charts": {chart.name: chart.spec for chart in charts},
        "queries": query_data(report.scored),
        "labels": [column.label for column in report.comparison.columns],
        "baseline": report.comparison.baseline,
        "name": report.comparison.name,
    }
    environment = Environment(
        autoescape=True, finalize=_inert, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "metric": metric_name,
        "duration": duration,
        "breakable": breakable,
        "peak_memory": peak_memory,
        "counted": counted,
        "change": change,
        "outcome": outcome,
    }
    template = environment.from_string((folder / "report.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        report=report,
        charts=charts,
        phases=list(PHASES.values()),
        passages=PASSAGES,
        smells=warnings_by_sentence(report.audits),
        flags=flag_legend(report.comparison),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        policy=content_policy(scripts),
        data=Markup(inline_json(data)),
        version=metadata.version("e5-evaluation"),
        written=datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d"),
    )


def _inert(value: Any) -> Any:
    """What the page shows of any value; jinja escapes its markup afterwards."""
    return for_html(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def metric_name(metric: str) -> str:
    """Returns a metric's name as people write it: nDCG@10 for ndcg_at_10."""
    name = metric.replace("_at_", "@").replace("_", " ")
    return (
        name.replace("ndcg", "nDCG").replace("mrr", "MRR").replace("max ap", "max AP").replace("v measure", "V-measure")
    )


def breakable(name: str) -> Markup:
    """Returns a name in camel case as HTML that may be wrapped before a capital letter."""
    return Markup("<wbr>").join(re.split(r"(?<=[a-z0-9])(?=[A-Z])", for_html(name)))


def duration(seconds: float | None) -> str:
    """Returns seconds in the unit that people would use."""
    if not seconds:
        return "" if seconds is None else "0 s"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def query_data(scored: Sequence[ScoredTask]) -> dict[str, Any]:
    """Returns the scores per query: task -> texts of queries, and a list of scores in the same order per model."""
    by_task: dict[str, list[ScoredTask]] = {}
    for one in scored:
        by_task.setdefault(one.task, []).append(one)
    data, most = {}, min(PAGE_QUERIES, max(100, PAGE_VALUES // max(len(scored), 1)))
    for task, models in by_task.items():
        places = sorted(set(models[0].scores).intersection(*(one.scores for one in models[1:])))
        total = len(places)
        if total > most:
            places = sorted(random.Random(0).sample(places, most))
        texts = query_texts(models[0]) if len(by_task) <= _TASKS_WITH_TEXTS else {}
        data[task] = {
            "metric": models[0].metric,
            "total": total,
            "queries": [shorten(texts.get(place, place[2]), 50) for place in places],
            "scores": {one.label: [round(one.scores[place], 1) for place in places] for one in models},
        }
    return data


def inline_json(content: Any) -> str:
    """Returns JSON for a script element: strings are inert, nothing ends the element or begins a comment."""
    text = json.dumps(_inert_strings(content), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _inert_strings(content: Any) -> Any:
    if isinstance(content, dict):
        return {for_html(str(key)): _inert_strings(value) for key, value in content.items()}
    return [_inert_strings(value) for value in content] if isinstance(content, list | tuple) else _inert(content)


def content_policy(scripts: Sequence[str]) -> str:
    """Returns a Content-Security-Policy that loads nothing and runs only these scripts.

    Vega compiles its expressions, hence 'unsafe-eval'; the expressions are ours.
    """
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"


def _inline_script(script: str) -> str:
    return re.sub(r"</(script)", r"<\\/\1", script, flags=re.IGNORECASE)
