"""Gathers what each row of a comparison stores, its score, and what was measured of its model. Computes no score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from evaluation.analysis.comparison.stored_types import StoredRow
from evaluation.analysis.comparison.types import Cell, Column, Comparison
from evaluation.analysis.statistics.intervals import Interval
from evaluation.config.stored_forms import PLAIN
from evaluation.models.sizes import shape_of_name
from evaluation.records.job_record import PeakMemory


@dataclass(frozen=True, slots=True)
class SizedScore:
    """A row's score on a task, and what the row stores there.

    Attributes:
        model: Label of the row with the model's own vectors: the part before @.
        form: What is stored, such as int8; empty for BM25.
        bytes_per_vector, bytes: Of one vector and of all of them; None for BM25, which stores none.
        loss: Against the model's own vectors; None for those and for BM25.
    """

    task: str
    label: str
    model: str
    form: str
    score: float
    interval: Interval | None
    bytes_per_vector: int | None
    bytes: int | None
    loss: StoredRow | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a model beside its scores; None: not known, or its vectors came from the cache."""

    model: str
    parameters: int | None
    texts_per_s: float | None
    tokens_per_s: float | None
    peak: PeakMemory | None


@dataclass(frozen=True, slots=True)
class Sizes:
    """Scores by size, task by task, what was measured of the models, and what the forms lose on average."""

    scores: tuple[SizedScore, ...]
    measured: tuple[Measured, ...]
    means: tuple[StoredRow, ...] = ()


def sizes(comparison: Comparison) -> Sizes | None:
    """Returns the scores by size; None where nothing is stored in a smaller form and no words are ranked."""
    rows = comparison.stored.rows if comparison.stored is not None else ()
    losses = {(row.label, row.task): row for row in rows if row.change is not None}
    found = [
        replace(scored, loss=losses.get((column.label, row.task)))
        for row in comparison.rows
        for column, cell in zip(comparison.columns, row.cells, strict=True)
        if (scored := _sized(row.task, column.label, cell)) is not None
    ]
    if all(scored.form == PLAIN for scored in found):
        return None
    plain = {scored.label for scored in found if scored.form == PLAIN}
    measured = [_measured(comparison, position) for position, column in enumerate(comparison.columns)]
    means = tuple(row for row in rows if row.task is None)
    return Sizes(tuple(found), tuple(one for one in measured if one.model in plain), means)


def _sized(task: str, label: str, cell: Cell) -> SizedScore | None:
    records = [record for record in cell.records if record.audit is not None]
    if cell.score is None or not records:
        return None
    own = (task, label, label.partition("@")[0])
    models = [record.provenance.model for record in records]
    if any(model is not None and model.words is not None for model in models):
        return SizedScore(*own, "", cell.score, cell.interval, None, None)
    stored = [record.vectors for record in records if record.vectors is not None]
    if len(stored) < len(records):
        return None
    total = sum(vectors.bytes for vectors in stored)
    return SizedScore(*own, records[0].stored, cell.score, cell.interval, stored[0].bytes_per_vector, total)


def _measured(comparison: Comparison, position: int) -> Measured:
    column: Column = comparison.columns[position]
    records = [record for row in comparison.rows for record in row.cells[position].records]
    models = (record.provenance.model for record in records)
    shape = next((shape_of_name(model.declared) for model in models if model is not None), None)
    speed = column.speed if column.speed is not None and not column.speed.from_cache else None
    texts = sum(side.unique_texts for record in records if record.audit for side in record.audit.sides.values())
    return Measured(
        column.label,
        shape.parameters if shape is not None else None,
        texts / speed.encoding_s if speed is not None and speed.tokens_per_s else None,
        speed.tokens_per_s if speed is not None else None,
        speed.peak if speed is not None else None,
    )


def best_at_each_size(scores: list[SizedScore]) -> Mapping[tuple[str, int], SizedScore]:
    """Returns the best score of each model at each number of bytes, which a chart joins by a line."""
    best: dict[tuple[str, int], SizedScore] = {}
    for scored in scores:
        if scored.bytes_per_vector is not None:
            key = scored.model, scored.bytes_per_vector
            best[key] = max(best.get(key, scored), scored, key=lambda one: one.score)
    return best
