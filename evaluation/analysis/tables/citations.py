"""Writes how to cite the scores of a comparison: a line per model with protocol, data, settings and versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evaluation.analysis.comparison.types import Cell, Column, Comparison, Row
from evaluation.analysis.number_formats import points, span
from evaluation.config.run_config import NAMED_PROTOCOLS, OWN
from evaluation.config.stored_forms import PLAIN
from evaluation.errors import ComparisonError
from evaluation.records.job_record import JobRecord
from evaluation.records.origin import METRIC_DISTRIBUTIONS, WordSettings
from evaluation.system.inert_text import on_one_line
from evaluation.tasks.types import RERANKING_TYPES, RETRIEVAL_TYPES

_NAMED_TASKS = 3
"""Up to so many tasks are cited one by one; more are cited by their mean."""
_DIGITS = 12
"""Of a revision or commit."""
_NUMBERS = {
    "float32": "32-bit numbers",
    "float16": "16-bit numbers (float16)",
    "int8": "8-bit numbers (int8), 255 steps between the lowest and highest value of each dimension",
    "binary": "1 bit per dimension (binary, scored as +1 and -1)",
}


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
    records = [record for _, cell in scored for record in cell.records]
    words = _words(records)
    protocol = f"protocol {_protocol(column)}" if not words else "no prefix applies"
    parts = [f"{_model(column, by_words=bool(words))}, {protocol}", _scores(comparison, position, scored)]
    if records:
        parts += [words or _settings(column), _stored(records), _versions(records)]
    else:
        parts.append("published by others, not scored here")
    return f"{column.label}: {'; '.join(part for part in parts if part)}."


def _model(column: Column, *, by_words: bool) -> str:
    if by_words:  # its revision is the versions of its packages
        return f"{column.model} with {column.revision}"
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
    cut = f", first {settings['truncate_dim']} dimensions" if settings.get("truncate_dim") else ""
    read = f"at most {settings.get('max_length')} tokens{cut}"
    return f"{settings.get('dtype')}, {settings.get('pooling')} pooling, {read}"


def _words(records: Sequence[JobRecord]) -> str:
    """How BM25 ranked; empty for models with vectors."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        model = record.provenance.model
        for subset, language in _ranked_by(model.words if model is not None else None):
            where = record.task if subset == "default" else f"{record.task} ({subset})"
            found.setdefault(language, {})[where] = None
    if len(found) == 1:
        told = next(iter(found))
    else:
        told = "; ".join(f"{language} on {', '.join(where)}" for language, where in found.items())
    others = dict.fromkeys(record.task for record in records if record.type in RERANKING_TYPES and record.via != "beir")
    not_mtebs = f"; not mteb's score, because every candidate was ranked: {', '.join(others)}" if others else ""
    return f"{told}{not_mtebs}" if found else ""


def _ranked_by(words: WordSettings | None) -> Iterable[tuple[str, str]]:
    """Yields each subset with the formula, stop words and stemmer."""
    if words is not None:
        for subset, language in words.languages.items():
            yield subset, f"{words.method} variant, k1 {words.k1:g}, b {words.b:g}, {language}"


def _stored(records: Sequence[JobRecord]) -> str:
    """The stored form in words, read from its name (`StoredForm.name`); empty for the model's own vectors."""
    name = records[0].stored
    if name == PLAIN:
        return ""
    numbers, shape, after = PLAIN, "", ""
    queries = "queries in float32" if any(record.type in RETRIEVAL_TYPES for record in records) else ""
    for part in name.split(","):
        option, _, value = part.partition("=")
        match option:
            case "dims":
                shape = f"the first {value} dimensions, normalised again where the protocol normalises, as "
            case "pca":
                shape = (
                    f"the first {value} principal components of the documents, centred on both sides and normalised "
                    "again where the protocol normalises, as "
                )
            case "center":
                after = ", after subtracting the documents' mean from both sides"
            case "rescore":
                form, _, candidates = value.rpartition("x")
                after += f", the best {candidates} documents ordered again by {form}"
            case "queries":
                queries = "queries stored in the same form"
            case _:
                numbers = option
    return ", ".join(filter(None, [f"vectors stored as {shape}{_NUMBERS[numbers]}{after}", queries]))


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
