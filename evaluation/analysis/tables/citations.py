"""Writes how to cite the scores of a comparison: a line per model with protocol, data, settings and versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evaluation.analysis.comparison.types import Cell, Column, Comparison, Row
from evaluation.analysis.number_formats import points, span
from evaluation.config.run_config import NAMED_PROTOCOLS, OWN
from evaluation.errors import ComparisonError
from evaluation.records.job_record import JobRecord
from evaluation.records.origin import METRIC_DISTRIBUTIONS
from evaluation.system.inert_text import on_one_line

_NAMED_TASKS = 3
"""Up to so many tasks are cited one by one; more are cited by their mean."""
_DIGITS = 12
"""Of a revision or commit."""


def citations(comparison: Comparison) -> str:
    """Returns a line per model of the comparison.

    Raises:
        ComparisonError: A model's scores come from a limited run, or it has none.

    Example:
        >>> print(citations(compare("results/quickstart", mixed=True)))
    """
    lines = [_citation(comparison, position) for position in range(len(comparison.columns))]
    return "".join(f"{on_one_line(line)}\n" for line in lines)


def _citation(comparison: Comparison, position: int) -> str:
    column = comparison.columns[position]
    scored = [(row, row.cells[position]) for row in comparison.rows if row.cells[position].score is not None]
    if column.limited:
        raise ComparisonError(f"{column.label} comes from a limited run, whose scores must not be cited: run it whole.")
    if not scored:
        raise ComparisonError(f"{column.label} has no score to cite: run its config again, or leave it out by --model.")
    parts = [f"{_model(column)}, protocol {_protocol(column)}", _scores(comparison, position, scored)]
    records = [record for _, cell in scored for record in cell.records]
    parts += [_settings(column), _versions(records)] if records else ["published by others, not scored here"]
    return f"{column.label}: {'; '.join(part for part in parts if part)}."


def _model(column: Column) -> str:
    return column.model if not column.revision else f"{column.model} at revision {column.revision[:_DIGITS]}"


def _protocol(column: Column) -> str:
    own = not column.is_published and column.protocol not in (*NAMED_PROTOCOLS, OWN)
    return f"{column.protocol} (defined in {column.run}'s config)" if own else column.protocol


def _scores(comparison: Comparison, position: int, scored: Sequence[tuple[Row, Cell]]) -> str:
    if len(scored) <= _NAMED_TASKS:
        return ", ".join(_score(row, cell) for row, cell in scored)
    mean = next(aggregate.cells[position] for aggregate in comparison.aggregates if aggregate.kind == "mean")
    without = f" without {', '.join(mean.missing)}" if mean.missing else ""
    if comparison.benchmark is not None:
        return f"mean {points(mean.value)} over the {mean.n_tasks} tasks of {comparison.benchmark}{without}"
    return f"mean {points(mean.value)} over {len(scored)} tasks: {', '.join(row.task for row, _ in scored)}"


def _score(row: Row, cell: Cell) -> str:
    interval = f" (95% interval {span(cell.interval.low, cell.interval.high)})" if cell.interval else ""
    revisions = {record.provenance.dataset.revision for record in cell.records if record.provenance.dataset}
    known = sorted(revision[:_DIGITS] for revision in revisions if revision)
    data = f", data {known[0]}" if len(known) == 1 else ""
    return f"{row.metric} {points(cell.score)}{interval} on {row.task}{data}"


def _settings(column: Column) -> str:
    settings = column.settings
    if not settings:
        return "run as its own code runs it"
    return f"{settings.get('dtype')}, {settings.get('pooling')} pooling, at most {settings.get('max_length')} tokens"


def _versions(records: Iterable[JobRecord]) -> str:
    """The program and the libraries that computed the metrics; where records differ, every version."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        origin = record.provenance
        commit = f" (commit {origin.source.commit[:_DIGITS]})" if origin.source.commit else ""
        for name in ("e5-evaluation", *METRIC_DISTRIBUTIONS):
            if name in origin.versions:
                own = commit if name == "e5-evaluation" else ""
                found.setdefault(name, {})[f"{origin.versions[name]}{own}"] = None
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items())
