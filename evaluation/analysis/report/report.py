"""Writes a report of stored runs: an HTML page, and its charts as vector images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluation.analysis.report.chart_style import save_figure
from evaluation.analysis.report.contents import gather
from evaluation.analysis.report.figures import paper_charts
from evaluation.analysis.report.page import render
from evaluation.system.atomic_files import write_text


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
