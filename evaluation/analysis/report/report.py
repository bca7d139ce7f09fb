"""Runs -> one self-contained HTML page, and vector images of its charts. Reads records only."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evaluation.analysis.comparison.columns import read_columns
from evaluation.analysis.comparison.compare import compare_models
from evaluation.analysis.comparison.published import load_published
from evaluation.analysis.comparison.types import Comparison, ComparisonOptions
from evaluation.analysis.report.answer import Answer, answer
from evaluation.analysis.report.chart_style import PAGE, PAPER, Look, save_figure, vega_bundle
from evaluation.analysis.report.charts import Chart, ChartMaker
from evaluation.analysis.report.input_audit import LengthRow, TaskAudit, audit_tasks, length_rows, warnings_by_sentence
from evaluation.analysis.report.provenance import RunOrigin, run_origin
from evaluation.analysis.report.score_grid import Grid, flag_legend, score_grid
from evaluation.analysis.report.wins import PASSAGES, Duel, ScoredTask, duel, query_texts, scored_task, shorten
from evaluation.records.job_record import JobRecord
from evaluation.system.atomic_files import write_text
from evaluation.tasks.types import TASK_CLASS_BY_TYPE

PAGE_QUERIES, PAGE_VALUES = 300, 36_000
"""Queries of a task, and values in all, that the page's scatter plot holds; of more queries, a seeded sample."""
_ALL_PAIRS, _TASKS_WITH_TEXTS = 3, 12
_RANKED = "AbsTaskRetrieval"
_PHASES = {"loading_s": "loading", "encoding_s": "encoding", "scoring_s": "scoring"}


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a page shows."""

    comparison: Comparison
    answer: Answer
    grid: Grid
    audits: tuple[TaskAudit, ...]
    lengths: tuple[LengthRow, ...]
    seconds: Mapping[str, Mapping[str, float]]
    scored: tuple[ScoredTask, ...]
    duels: tuple[Duel, ...]
    origins: tuple[RunOrigin, ...]


def write_report(
    runs: Sequence[str | Path], output: str | Path, *, figures: str | Path | None = None, baseline: str | None = None
) -> Path:
    """Write the report of one or several runs.

    Args:
        runs: Folders of runs, such as results/quickstart.
        output: The HTML file.
        figures: Folder for every chart as SVG and PDF.
        baseline: Label that the other models are compared with; None: the first.

    Raises:
        StoreError: A folder is no run, or the report can't be written.
        ComparisonError: An unknown label; runs that can't be compared.
    """
    report = gather(runs, baseline=baseline)
    file = Path(output)
    write_text(file, render(report))
    if figures is not None:
        for chart in paper_charts(report):
            save_figure(chart.spec, Path(figures) / chart.name)
    return file


def gather(runs: Sequence[str | Path], *, baseline: str | None = None) -> Report:
    """Read everything that a report shows.

    Raises:
        StoreError: A folder is no run.
        ComparisonError: An unknown label; runs that can't be compared.
    """
    options, published = ComparisonOptions(published=True), load_published()
    models = read_columns(runs, published.rows)
    for view in dict.fromkeys(model.view for model in models if model.view is not None):
        view.check_files()
    baseline = baseline or models[0].label
    comparison = compare_models(models, baseline=baseline, mixed=True, options=options, published=published)
    origins = tuple(run_origin(view) for view in comparison.runs)
    records = _labelled_records(comparison)
    scored = _scored_tasks(comparison)
    pairs = _pairs(comparison, scored)
    n_queries = 3 if len(pairs) <= 12 else 2 if len(pairs) <= 24 else 1
    return Report(
        comparison=comparison,
        answer=answer(comparison),
        grid=score_grid(comparison),
        audits=tuple(audit_tasks(records)),
        lengths=tuple(length_rows(records)),
        seconds=_seconds(records),
        scored=tuple(scored),
        duels=tuple(duel(first, second, n_queries=n_queries) for first, second in pairs),
        origins=origins,
    )


def _labelled_records(comparison: Comparison) -> list[JobRecord]:
    """All records, task by task, each under the label that the comparison gives its column."""
    return [
        record.model_copy(update={"label": column.label})
        for row in comparison.rows
        for column, cell in zip(comparison.columns, row.cells, strict=True)
        for record in cell.records
    ]


def _scored_tasks(comparison: Comparison) -> list[ScoredTask]:
    found = [
        scored_task(column.folder, column.label, job.record, cell.stored.read_units(job))
        for row in comparison.rows
        for column, cell in zip(comparison.columns, row.cells, strict=True)
        for job in (cell.stored.jobs if cell.stored is not None else ())
        if column.folder is not None and job.record is not None and job.record.state == "done"
        if cell.stored is not None and TASK_CLASS_BY_TYPE.get(job.record.type) == _RANKED
    ]
    return [scored for scored in found if scored is not None]


def _pairs(comparison: Comparison, scored: Sequence[ScoredTask]) -> list[tuple[ScoredTask, ScoredTask]]:
    """Who is shown against whom on each task: all pairs of few models, else the baseline against its best rivals."""
    by_task: dict[str, dict[str, ScoredTask]] = {}
    for one in scored:
        by_task.setdefault(one.task, {})[one.label] = one
    pairs = []
    for found in by_task.values():
        labels = list(found)
        if len(labels) > _ALL_PAIRS:
            mean = {label: sum(found[label].scores.values()) / max(len(found[label].scores), 1) for label in labels}
            rivals = sorted((label for label in labels if label != comparison.baseline), key=lambda label: -mean[label])
            first = comparison.baseline if comparison.baseline in found else rivals.pop(0)
            pairs += [(found[rivals[0]], found[str(first)]), (found[rivals[0]], found[rivals[1]])]
        else:
            pairs += [(found[b], found[a]) for i, a in enumerate(labels) for b in labels[i + 1 :]]
    return pairs


def _seconds(records: Sequence[JobRecord]) -> dict[str, dict[str, float]]:
    """Label -> phase -> seconds over all tasks."""
    found: dict[str, dict[str, float]] = {}
    for record in records:
        if record.timing is not None:
            phases = found.setdefault(record.label, dict.fromkeys(_PHASES.values(), 0.0))
            for key, phase in _PHASES.items():
                phases[phase] += max(float(getattr(record.timing, key)), 0.0)
    return found


def page_charts(report: Report, look: Look = PAGE) -> list[Chart]:
    """The charts of the page; the scatter plot of queries is a template."""
    make = ChartMaker(report.comparison, look)
    found = [make.scores(), make.differences(), make.types(), make.speed(), make.published()]
    found += [make.queries()] if report.scored and _labels_of(report.scored) > 1 else []
    found += [make.lengths(report.lengths), make.time(report.seconds)]
    return [chart for chart in found if chart is not None]


def paper_charts(report: Report) -> list[Chart]:
    """Every chart that stands alone: forest plots and length plots a model, scatter plots a task."""
    from dataclasses import replace

    make = ChartMaker(report.comparison, PAPER)
    charts = []
    for chart in page_charts(report, PAPER):
        if chart.name == "queries":
            charts += [
                replace(make.queries(first, second), name=_file_name("queries", first.task, first.label, second.label))
                for second, first in _pairs(report.comparison, report.scored)
            ]
        elif chart.choices:
            for choice in chart.choices:
                made = make.differences(choice) if chart.name == "differences" else make.lengths(report.lengths, choice)
                if made is not None:
                    charts.append(replace(made, name=_file_name(chart.name, choice)))
        else:
            charts.append(chart)
    return charts


def _labels_of(scored: Sequence[ScoredTask]) -> int:
    return len({one.label for one in scored})


def _file_name(*parts: str) -> str:
    return "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in parts)


def query_data(scored: Sequence[ScoredTask]) -> dict[str, Any]:
    """Per-query scores for the page: task -> texts of queries and one list of scores a model, in the same order."""
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


def render(report: Report) -> str:
    """The page as HTML; whatever a dataset holds stands in it as text."""
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
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"visible": visible, "metric": metric_name, "duration": duration, "breakable": breakable}
    template = environment.from_string((folder / "report.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        report=report,
        charts=charts,
        phases=list(_PHASES.values()),
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


def metric_name(metric: str) -> str:
    """A metric as people write it: ndcg_at_10 is nDCG@10."""
    name = metric.replace("_at_", "@").replace("_", " ")
    return (
        name.replace("ndcg", "nDCG").replace("mrr", "MRR").replace("max ap", "max AP").replace("v measure", "V-measure")
    )


def breakable(name: str) -> Markup:
    """A name in camel case as HTML that may be broken before a capital."""
    return Markup("<wbr>").join(re.split(r"(?<=[a-z0-9])(?=[A-Z])", name))


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if not seconds:
        return "" if seconds is None else "0 s"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def visible(text: str) -> str:
    """Text with its control characters as symbols (U+2400 and on), so that nothing in it acts on the page."""
    return "".join(
        chr(0x2400 + ord(c)) if ord(c) < 0x20 and c not in "\n\t" else "␡" if c == "\x7f" else c for c in text
    )


def inline_json(content: Any) -> str:
    """JSON that can stand in a script element: no character in it can end the element or begin a comment."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def content_policy(scripts: Sequence[str]) -> str:
    """A Content-Security-Policy that loads nothing and runs only these scripts.

    Vega compiles its expressions, hence 'unsafe-eval'; the expressions are ours.
    """
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"


def _inline_script(script: str) -> str:
    return re.sub(r"</(script)", r"<\\/\1", script, flags=re.IGNORECASE)
