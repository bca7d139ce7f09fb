"""The rows of plain values that charts draw. Computes no statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from evaluation.analysis.comparison.types import Comparison
from evaluation.analysis.number_formats import p_value, span
from evaluation.analysis.report.input_audit import LengthRow
from evaluation.analysis.report.wins import ScoredTask

Rows = list[dict[str, Any]]


def score_rows(comparison: Comparison) -> Rows:
    """Returns a row per task and model with a score."""
    return [
        {"task": row.task, "metric": row.metric, "model": column.label, "score": _round(cell.score)}
        | (
            {}
            if cell.interval is None
            else {
                "low": _round(cell.interval.low),
                "high": _round(cell.interval.high),
                "range": span(cell.interval.low, cell.interval.high),
            }
        )
        for row in comparison.rows
        for column, cell in zip(comparison.columns, row.cells, strict=True)
        if cell.score is not None
    ]


def difference_rows(comparison: Comparison) -> Rows:
    """Returns a row per task and model with a difference to the baseline."""
    rows: Rows = []
    for row in comparison.rows:
        for column, cell in zip(comparison.columns, row.cells, strict=True):
            if cell.delta is None or column.label == comparison.baseline:
                continue
            entry: dict[str, Any] = {"task": row.task, "model": column.label, "delta": _round(cell.delta)}
            entry["verdict"] = "not significant" if not cell.significant else "better" if cell.delta > 0 else "worse"
            interval = cell.difference.interval if cell.difference else None
            if interval is not None:
                entry |= {
                    "low": _round(interval.low),
                    "high": _round(interval.high),
                    "range": span(interval.low, interval.high, signed=True),
                }
            if cell.p_adjusted is not None:
                entry["p"] = p_value(cell.p_adjusted)
            if cell.difference and cell.difference.note:
                entry["note"] = cell.difference.note
            rows.append(entry)
    return rows


def speed_rows(comparison: Comparison) -> Rows:
    """Returns mean score and speed of each model that has both; no other model beats those on the `front`."""
    means = next((a for a in comparison.aggregates if a.kind == "common"), None)
    means = means or next((a for a in comparison.aggregates if a.kind == "mean"), None)
    rows: Rows = []
    for column, cell in zip(comparison.columns, means.cells if means else (), strict=False):
        speed = column.speed.tokens_per_s if column.speed else None
        if speed and cell.value is not None and column.speed:
            note = "part of the vectors came from the cache" if column.speed.from_cache else ""
            rows.append({"model": column.label, "score": _round(cell.value), "speed": round(speed, 1), "note": note})
    for row in rows:
        row["front"] = not any(
            other["score"] >= row["score"]
            and other["speed"] >= row["speed"]
            and (other["score"], other["speed"]) != (row["score"], row["speed"])
            for other in rows
        )
    return rows


def query_rows(first: ScoredTask, second: ScoredTask) -> Rows:
    """Returns the number of queries for each pair of scores, in points."""
    counts: dict[tuple[float, float], int] = {}
    for place, value in first.scores.items():
        if place in second.scores:
            key = (round(value, 1), round(second.scores[place], 1))
            counts[key] = counts.get(key, 0) + 1
    return [{"x": x, "y": y, "n": n} for (x, y), n in sorted(counts.items())]


def type_rows(comparison: Comparison) -> Rows:
    """Returns means by task type, for models with a score on all tasks of the type."""
    rows: Rows = []
    for task_type in dict.fromkeys(row.type for row in comparison.rows):
        tasks = [row for row in comparison.rows if row.type == task_type]
        for position, column in enumerate(comparison.columns):
            scores = [row.cells[position].score for row in tasks]
            known = [score for score in scores if score is not None]
            if len(known) == len(scores):
                rows.append({"type": task_type, "model": column.label, "score": _round(fmean(known)), "n": len(known)})
    return rows


def published_rows(comparison: Comparison) -> Rows:
    """Returns every score that others have published too."""
    return [
        {
            "task": row.task,
            "model": column.label,
            "score": _round(cell.score),
            "published": _round(match.score),
            "source": match.source,
            "verdict": match.verdict,
            "causes": "; ".join(match.causes),
        }
        for row in comparison.rows
        for column, cell in zip(comparison.columns, row.cells, strict=True)
        for match in cell.published
        if cell.score is not None
    ]


def bucket_names(rows: Sequence[LengthRow]) -> list[str]:
    """Returns the names of the length buckets up to the last one that holds a text."""
    edges = rows[0].edges
    last = max(position for row in rows for position, count in enumerate(row.counts) if count)
    names = [f"{low}-{high - 1}" for low, high in zip(edges, edges[1:], strict=False)]
    return [*names, f"{edges[-1]}+"][: last + 1]


def length_data(rows: Sequence[LengthRow]) -> Rows:
    """Returns a row per model, task and side: share of texts in each bucket, and share truncated."""
    n = len(bucket_names(rows))
    return [
        {
            "m": row.label,
            "t": f"{row.task} \u00b7 {row.side}" if row.side != "text" else row.task,
            "n": [round(count / sum(row.counts), 4) for count in row.counts[:n]],
            "cut": round(row.truncated, 4),
        }
        for row in rows
    ]


def time_rows(seconds: Mapping[str, Mapping[str, float]]) -> tuple[str, list[str], Rows]:
    """Returns a unit that fits the longest time, the phases in order, and a row per model and phase (none if all is 0).

    Args:
        seconds: Label -> phase -> seconds over all tasks.
    """
    total = max((sum(phases.values()) for phases in seconds.values()), default=0.0)
    unit, divisor = ("hours", 3600.0) if total > 7200 else ("minutes", 60.0) if total > 300 else ("seconds", 1.0)
    phases = list(dict.fromkeys(phase for found in seconds.values() for phase in found))
    rows: Rows = [
        {"model": label, "phase": phase, "time": value / divisor, "order": phases.index(phase)}
        for label, found in seconds.items()
        for phase, value in found.items()
    ]
    return unit, phases, rows if total else []


def _round(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 3)
