"""Runs -> one comparison. Reads stored records and samples, and published tables; renders nothing."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from evaluation.analysis.comparison.comparability import differences, faults, identity, marks
from evaluation.analysis.comparison.evidence import Evidence
from evaluation.analysis.comparison.notes import comparison_notes
from evaluation.analysis.comparison.published import PublishedScores, load_published
from evaluation.analysis.comparison.sources import Source, TaskResult, mteb_name, published_sources, read_sources
from evaluation.analysis.comparison.standings import common_tasks, compare_all_pairs
from evaluation.analysis.comparison.summaries import benchmark_tasks, summarize
from evaluation.analysis.comparison.types import (
    Aggregate,
    AggregateCell,
    Cell,
    Column,
    Comparison,
    ComparisonOptions,
    Row,
    Speed,
)
from evaluation.errors import ComparisonError
from evaluation.models.training_data import trained_on
from evaluation.records.store import JobRecord

__all__ = [
    "Aggregate",
    "AggregateCell",
    "Cell",
    "Column",
    "Comparison",
    "ComparisonOptions",
    "Row",
    "Speed",
    "compare",
]

_PUBLISHED_RUN = "published"


def compare(
    runs: Sequence[str | Path] | str | Path,
    *,
    baseline: str | None = None,
    mixed: bool = False,
    options: ComparisonOptions | None = None,
) -> Comparison:
    """Set runs beside each other.

    Args:
        runs: Folders of runs, such as results/quickstart, and published tables (CSV files).
        baseline: Label of the column that the others are compared with.
        mixed: Allow rows whose columns differ in protocol, dataset, split, metric or limit; they are marked.
        options: What to compare, and how intervals and tests are made.

    Raises:
        ComparisonError: A path is no run; an unknown label, task or benchmark; columns that may not be compared
            without `mixed`; samples of a task that do not pair.
    """
    options = options or ComparisonOptions()
    paths = [Path(runs)] if isinstance(runs, str | Path) else [Path(run) for run in runs]
    published = load_published() if options.published else None
    sources = _chosen(_read(paths, published), options.models)
    tasks = _tasks(sources, options)
    position = _position(sources, baseline)
    sentences = faults(sources, tasks)
    if sentences and not mixed:
        raise ComparisonError("\n".join([*sentences[:-1], f"{sentences[-1]} {_REMEDY}"]))
    evidence = Evidence(options)
    rows = _adjusted([_row(sources, task, position, evidence, published) for task in tasks], options.alpha)
    columns = tuple(_column(source, tasks) for source in sources)
    benchmark, aggregates = summarize(sources, rows, position, evidence, published)
    standings = compare_all_pairs(sources, common_tasks(sources, rows, aggregates), evidence)
    comparison = Comparison(
        name=", ".join(dict.fromkeys(source.run for source in sources)),
        columns=columns,
        rows=rows,
        aggregates=aggregates,
        benchmark=benchmark,
        baseline=baseline,
        mixed=mixed,
        options=options,
        notes=(),
        standings=standings,
    )
    return replace(comparison, notes=comparison_notes(comparison, sentences))


_REMEDY = (
    "Choose columns that agree with --model, or add --mixed to see them together, marked; a difference is then not "
    "of the models alone."
)


def column_labels(runs: Sequence[str | Path]) -> list[str]:
    """The labels that `compare` gives the columns of runs, in its order.

    Raises:
        ComparisonError: A path is no run.
    """
    return [source.label for source in _read([Path(run) for run in runs], None)]


def _read(paths: Sequence[Path], published: PublishedScores | None) -> list[Source]:
    sources = [source for path in paths for source in read_sources(path)]
    if not paths and published is not None:
        sources = published_sources(published.rows, run=_PUBLISHED_RUN)
    if not sources:
        raise ComparisonError("There is nothing to compare: name the folder of a run, such as results/quickstart.")
    return _with_unique_labels(sources)


def _with_unique_labels(sources: Sequence[Source]) -> list[Source]:
    """Labels that occur twice get the run's name, then its folder, then a number."""
    labels = [source.label for source in sources]
    for extra in ("run", "folder"):
        counts = Counter(labels)
        for position, source in enumerate(sources):
            if counts[labels[position]] > 1:
                place = source.run if extra == "run" or source.store is None else source.store.folder
                labels[position] = f"{source.label} ({place})"
    counts = Counter(labels)
    seen: Counter[str] = Counter()
    for position, label in enumerate(labels):
        if counts[label] > 1:
            seen[label] += 1
            labels[position] = f"{label} #{seen[label]}"
    return [replace(source, label=label) for source, label in zip(sources, labels, strict=True)]


def _chosen(sources: list[Source], patterns: Sequence[str]) -> list[Source]:
    """The columns whose labels match, in the order of the patterns."""
    if not patterns:
        return sources
    chosen: dict[str, Source] = {}
    for pattern in patterns:
        found = {s.label: s for s in sources if s.label == pattern or fnmatch.fnmatchcase(s.label, pattern)}
        if not found:
            raise ComparisonError(_unknown("--model", pattern, [source.label for source in sources]))
        chosen |= {label: source for label, source in found.items() if label not in chosen}
    return list(chosen.values())


def _position(sources: Sequence[Source], baseline: str | None) -> int | None:
    if baseline is None:
        return None
    labels = [source.label for source in sources]
    if baseline not in labels:
        raise ComparisonError(_unknown("--baseline", baseline, labels))
    return labels.index(baseline)


def _unknown(option: str, value: str, labels: Sequence[str]) -> str:
    near = get_close_matches(value, labels, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{option} {value!r}: no column has this label.{hint} Labels: {', '.join(labels)}."


def _tasks(sources: Sequence[Source], options: ComparisonOptions) -> list[str]:
    """The tasks that were asked for, in the order in which they appear, those of one type together."""
    globs = options.only
    members = benchmark_tasks(options.benchmark) if options.benchmark is not None else None
    types = {task: result.type for source in sources for task, result in source.results.items()}
    kinds = list(dict.fromkeys(types.values()))
    tasks = sorted(types, key=lambda task: kinds.index(types[task]))
    kept = [
        task
        for task in tasks
        if (not globs or any(fnmatch.fnmatchcase(task, glob) for glob in globs))
        and (members is None or mteb_name(task) in members)
    ]
    if not kept:
        known = ", ".join(tasks[:20]) or "none"
        wanted = ", ".join([*globs, *([options.benchmark] if options.benchmark else [])]) or "anything"
        raise ComparisonError(f"There is nothing to compare: no task matches {wanted} (tasks: {known}).")
    return kept


def _row(
    sources: Sequence[Source],
    task: str,
    baseline: int | None,
    evidence: Evidence,
    published: PublishedScores | None,
) -> Row:
    identities = [identity(source, task) for source in sources]
    first = next((own for own in identities if own), {})
    reference = (identities[baseline] if baseline is not None else None) or first
    cells = []
    for source, own in zip(sources, identities, strict=True):
        against = sources[baseline] if baseline is not None and source is not sources[baseline] else None
        cell = _cell(source, task, against, evidence, published)
        cells.append(replace(cell, marks=marks(reference, own)))
    known = [source.results[task] for source in sources if task in source.results]
    scored = [result for result in known if result.score is not None] or known
    differs = {aspect: "; ".join(v or "none" for v in values) for aspect, values in differences(sources, task).items()}
    return Row(
        task=task,
        type=scored[0].type,
        metric=scored[0].metric,
        cells=tuple(cells),
        parts=scored[0].parts,
        differs=tuple(f"{aspect} ({values})" for aspect, values in differs.items()),
    )


def _cell(
    source: Source, task: str, baseline: Source | None, evidence: Evidence, published: PublishedScores | None
) -> Cell:
    result = source.results.get(task)
    if result is None:
        return Cell(note="not in this run")
    trained = _trained(source.model, result)
    if result.score is None:
        return Cell(note=result.note, records=result.records, trained=trained)
    theirs = baseline.results.get(task) if baseline else None
    interval, note = evidence.interval(source, task)
    difference = None
    if baseline is not None and theirs is not None and theirs.score is not None:
        difference, why = evidence.difference(source, baseline, task)
        note = note or why
    matches = published.matches(source.model, source.protocol, result, interval) if published and source.store else ()
    return Cell(
        score=result.score,
        interval=interval,
        delta=result.score - theirs.score if theirs is not None and theirs.score is not None else None,
        difference=difference,
        trained=trained,
        note=note,
        records=result.records,
        published=matches,
    )


def _trained(model: str, result: TaskResult) -> bool | None:
    seen = trained_on(model)
    return None if seen is None else any(mteb_name(name) in seen for name in (result.task, *result.parts))


def _adjusted(rows: Sequence[Row], alpha: float) -> tuple[Row, ...]:
    """Corrects p by Holm's method over all tests of the table."""
    if not any(cell.difference for row in rows for cell in row.cells):
        return tuple(rows)
    from evaluation.analysis.statistics.corrections import holm

    cells = [cell for row in rows for cell in row.cells]
    p_values = holm([cell.difference.p_two_sided if cell.difference else None for cell in cells])
    corrected = iter(
        replace(cell, p_adjusted=p, significant=p is not None and p < alpha)
        for cell, p in zip(cells, p_values, strict=True)
    )
    return tuple(replace(row, cells=tuple(next(corrected) for _ in row.cells)) for row in rows)


def _column(source: Source, tasks: Sequence[str]) -> Column:
    records = [record for record in source.records if (record.aggregate or record.task) in tasks]
    model = records[0].provenance.get("model", {}) if records else {}
    return Column(
        label=source.label,
        run=source.run,
        folder=source.store.folder if source.store else None,
        model=source.model,
        revision=source.revision,
        protocol=source.protocol,
        settings=model.get("settings", {}),
        weights=model.get("weights_sha256"),
        limited=any(record.limit for record in records),
        speed=_speed(records) if records else None,
    )


def _speed(records: Sequence[JobRecord]) -> Speed:
    hardware = {_hardware(record.provenance.get("hardware", {})) for record in records}
    return Speed(
        tokens=sum(int(record.timing.get("tokens", 0)) for record in records),
        encoding_s=sum(float(record.timing.get("encoding_s", 0)) for record in records),
        total_s=sum(float(record.timing.get("total_s", 0)) for record in records),
        hardware=hardware.pop() if len(hardware) == 1 else None,
        from_cache=any(_least_tokens(record.audit) > record.timing.get("tokens", 0) for record in records),
    )


def _hardware(found: dict[str, object]) -> str:
    cuda = found.get("cuda")
    if isinstance(cuda, list) and cuda:
        return str(cuda[0])
    return f"{found.get('cpu', 'unknown processor')}, {found.get('cores', '?')} cores"


def _least_tokens(audit: dict[str, object]) -> int:
    """Fewer tokens than any encoding of the audited texts takes: each text at the low end of its histogram's bin."""
    total = 0
    sides = audit.get("sides", {})
    for side in sides.values() if isinstance(sides, dict) else ():
        lengths = side.get("token_lengths", {"edges": [], "counts": []})
        limit = side.get("max_length") or 0
        total += sum(count * min(edge, limit) for edge, count in zip(lengths["edges"], lengths["counts"], strict=True))
    return total
