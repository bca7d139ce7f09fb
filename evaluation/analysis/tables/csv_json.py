"""A comparison for programs, in points and full precision: CSV with a row per task and column, JSON with everything."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from evaluation.analysis.comparison.places import Place
from evaluation.analysis.comparison.stored_types import StoredRow
from evaluation.analysis.comparison.types import AggregateCell, Cell, Column, Comparison
from evaluation.analysis.number_formats import counted
from evaluation.system.inert_text import for_csv

if TYPE_CHECKING:
    from evaluation.analysis.statistics.paired_tests import Difference

_TEXT = ("kind", "task", "type", "metric", "label", "run", "model", "revision", "protocol")
_NUMBERS = ("score", "low", "high", "delta", "delta_low", "delta_high", "p", "p_adjusted")
_FLAGS = ("significant", "trained", "limited", "marks", "missing", "note")
_COSTS = ("tokens_per_s", "hours", "peak_bytes", "peak_where", "peak_at_most")
_PUBLISHED = ("published", "published_source", "published_protocol", "published_delta", "verdict", "causes")
_STORED = ("stored", "bytes_per_vector", "bytes", "change", "change_low", "change_high", "loss", "loss_p", "loss_note")
_RANKS = ("rank", "rank_low", "rank_high", "ranked_models")
CSV_COLUMNS = (*_TEXT, *_NUMBERS, *_FLAGS, *_COSTS, *_PUBLISHED, *_STORED, *_RANKS)


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Returns a mapping with `CSV_COLUMNS` per task or summary and column; unknown values are None.

    `kind` is "task", the summary's kind, "ranked mean" for the mean that is ranked among a results repository, or
    "stored mean" for the mean change of a stored form over the tasks that can be tested. Of several published scores,
    the row has the one whose protocol is nearest ours.
    """
    field = comparison.field
    places = {(place.label, place.task): place for place in field.places} if field is not None else {}
    rows, stored = [], {(row.label, row.task): row for row in comparison.stored.rows} if comparison.stored else {}
    for row in comparison.rows:
        for column, cell in zip(comparison.columns, row.cells, strict=True):
            place = {"kind": "task", "task": row.task, "type": row.type, "metric": row.metric}
            own = column.label, row.task
            found = {**_cell(cell), **_stored(stored.get(own)), **_rank(places.get(own))}
            rows.append({**place, **_column(column), **found})
    for aggregate in comparison.aggregates:
        for column, total in zip(comparison.columns, aggregate.cells, strict=True):
            summary = {"kind": aggregate.kind, "task": aggregate.name, "type": aggregate.type}
            rows.append({**summary, **_column(column), **_total(total)})
    for column in comparison.columns:
        mean = places.get((column.label, None))
        if field is not None and mean is not None:
            of_mean = {
                "kind": "ranked mean",
                "task": f"Mean over {counted(len(field.tasks), 'task')}",
                "score": mean.points,
            }
            rows.append({**_column(column), **of_mean, **_bounds("", mean.interval), **_rank(mean)})
        form = stored.get((column.label, None))
        if form is not None:
            vectors = [one.vectors for one in stored.values() if one.label == column.label and one.vectors is not None]
            size = vectors[0].bytes_per_vector if vectors else None
            of_form = {**_stored(form), "kind": "stored mean", "task": form.name, "bytes_per_vector": size}
            rows.append({**_column(column), **of_form})
    return [{name: row.get(name) for name in CSV_COLUMNS} for row in rows]


def comparison_csv(comparison: Comparison) -> str:
    """Writes `comparison_rows` as CSV."""
    return csv_of(comparison_rows(comparison), CSV_COLUMNS)


def csv_of(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Writes rows as CSV. Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: for_csv(value) if isinstance(value, str) else value for name, value in row.items()})
    return stream.getvalue()


def comparison_json(comparison: Comparison) -> str:
    """Writes everything but the records as JSON."""
    labels = [column.label for column in comparison.columns]
    content = {
        "schema_version": 1,
        "name": comparison.name,
        "benchmark": comparison.benchmark,
        "baseline": comparison.baseline,
        "mixed": comparison.mixed,
        "options": asdict(comparison.options),
        "columns": [_json_column(column) for column in comparison.columns],
        "rows": [
            {
                "task": row.task,
                "type": row.type,
                "metric": row.metric,
                "parts": row.parts,
                "differs": row.differs,
                "cells": dict(zip(labels, map(_json_cell, row.cells), strict=True)),
            }
            for row in comparison.rows
        ],
        "aggregates": [
            {
                "name": aggregate.name,
                "kind": aggregate.kind,
                "type": aggregate.type,
                "cells": dict(zip(labels, map(asdict, aggregate.cells), strict=True)),
            }
            for aggregate in comparison.aggregates
        ],
        "field": asdict(comparison.field) if comparison.field is not None else None,
        "stored": asdict(comparison.stored) if comparison.stored is not None else None,
        "notes": comparison.notes,
    }
    return json.dumps(_finite(content), ensure_ascii=False, indent=1, allow_nan=False, default=str) + "\n"


def _json_column(column: Column) -> dict[str, Any]:
    speed = column.speed
    peak = speed.peak.model_dump() if speed and speed.peak else None
    rate = {"tokens_per_s": speed.tokens_per_s, "hours": speed.hours, "peak": peak} if speed else {}
    own = {
        name: getattr(column, name) for name in ("label", "run", "model", "revision", "protocol", "weights", "limited")
    }
    settings = dict(column.settings)
    return {**own, "settings": settings, "speed": {**asdict(speed), **rate} if speed else None}


def _json_cell(cell: Cell) -> dict[str, Any]:
    names = ("score", "delta", "p_adjusted", "significant", "trained", "marks", "note")
    found = {name: getattr(cell, name) for name in names}
    return {
        **found,
        "interval": asdict(cell.interval) if cell.interval else None,
        "difference": _json_difference(cell.difference) if cell.difference else None,
        "published": [asdict(match) for match in cell.published],
        "fingerprints": [record.fingerprint for record in cell.records],
    }


def _json_difference(difference: Difference) -> dict[str, Any]:
    found = asdict(difference)
    for name in ("residuals", "unit_ids"):  # intermediate values of the mean over tasks
        del found[name]
    return found


def _finite(value: Any) -> Any:
    """Returns the value with None for every infinite number, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def _stored(row: StoredRow | None) -> dict[str, Any]:
    if row is None:
        return {}
    verdict, vectors = row.verdict, row.vectors
    found = {
        "stored": row.stored,
        "bytes_per_vector": vectors and vectors.bytes_per_vector,
        "bytes": vectors and vectors.bytes,
        "change": row.change,
        "loss_note": row.note or None,
    }
    if verdict is not None:
        ends = {"change_low": 100 * verdict.low, "change_high": 100 * verdict.high}
        found |= {**ends, "loss": verdict.outcome, "loss_p": verdict.p}
    return found


def _rank(place: Place | None) -> dict[str, Any]:
    if place is None:
        return {}
    low, high = place.ranks or (None, None)
    return dict(zip(_RANKS, (place.rank, low, high, place.n_models), strict=True))


def _column(column: Column) -> dict[str, Any]:
    speed = column.speed
    peak = speed.peak.model_dump() if speed and speed.peak else {}
    return {
        **{name: getattr(column, name) for name in ("label", "run", "model", "revision", "protocol", "limited")},
        **{f"peak_{name}": value for name, value in peak.items()},
        "tokens_per_s": speed.tokens_per_s if speed else None,
        "hours": speed.hours if speed else None,
    }


def _cell(cell: Cell) -> dict[str, Any]:
    difference = cell.difference
    return {
        "score": cell.score,
        **_bounds("", cell.interval),
        "delta": cell.delta,
        **_bounds("delta_", difference.interval if difference else None),
        "p": difference.p_two_sided if difference else None,
        "p_adjusted": cell.p_adjusted,
        "significant": cell.significant,
        "trained": {True: "yes", False: "no", None: None}[cell.trained],
        "marks": " ".join(cell.marks) or None,
        "note": cell.note or None,
        **_published(cell),
    }


def _total(cell: AggregateCell) -> dict[str, Any]:
    difference = cell.tested
    return {
        "score": None if cell.value is None else float(cell.value),
        "delta": cell.delta,
        **_bounds("delta_", difference.interval if difference else None),
        "p": difference.p_two_sided if difference else None,
        "significant": False,
        "missing": "; ".join(cell.missing) or None,
        **_published(cell),
    }


def _bounds(prefix: str, interval: object) -> dict[str, Any]:
    return {f"{prefix}low": getattr(interval, "low", None), f"{prefix}high": getattr(interval, "high", None)}


def _published(cell: Cell | AggregateCell) -> Mapping[str, Any]:
    if not cell.published:
        return {}
    match = cell.published[0]
    values = (match.score, match.source, match.protocol, match.delta, match.verdict, "; ".join(match.causes) or None)
    return dict(zip(_PUBLISHED, values, strict=True))
