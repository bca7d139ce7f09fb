"""Writes the notes below a comparison: protocols, what is mixed, limited or missing, standings, how sure it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evaluation.analysis.comparison.evidence import ALGORITHM
from evaluation.analysis.comparison.series import find_series
from evaluation.analysis.comparison.types import Column, Comparison
from evaluation.analysis.number_formats import brackets, counted, p_equation, points
from evaluation.analysis.task_scores import NO_SAMPLES

_SHOWN = 12  # tasks named of a list
_NOT_THERE = ("not in this run", "not run")


def comparison_notes(comparison: Comparison, mixed_sentences: Sequence[str]) -> tuple[str, ...]:
    """Returns all sentences, the most important first.

    Args:
        comparison: Without notes so far.
        mixed_sentences: What its columns differ in.
    """
    return tuple(
        [
            *_limited(comparison.columns),
            *(f"Mixed: {sentence[0].lower()}{sentence[1:]}" for sentence in mixed_sentences),
            *_protocols(comparison.columns),
            *_missing(comparison),
            *_seeds(comparison),
            *_suites(comparison),
            *_standings(comparison),
            *_series(comparison),
            *_intervals(comparison),
        ]
    )


def _series(comparison: Comparison) -> Iterator[str]:
    for series in find_series(comparison):
        yield f"Series {series.name}: {series.sentence[0].lower()}{series.sentence[1:]}"


def _limited(columns: Sequence[Column]) -> Iterator[str]:
    labels = [column.label for column in columns if column.limited]
    if labels:
        yield f"Limited run: these scores are not for reporting ({', '.join(labels)})."


def _protocols(columns: Sequence[Column]) -> Iterator[str]:
    ours = [column for column in columns if not column.is_published]
    protocols = {column.protocol for column in columns}
    one = f"Protocol: {next(iter(protocols))}." if len(protocols) == 1 else "Protocols are in brackets."
    yield f"Scores in points. {one}"
    if len(ours) < len(columns):
        yield "Published scores: dataset revisions and versions of the metrics are those of their sources, not checked."


def _missing(comparison: Comparison) -> Iterator[str]:
    whole = next((a for a in comparison.aggregates if a.kind == "mean"), None)
    alike: dict[tuple[str, ...], list[str]] = {}
    for position, column in enumerate(comparison.columns):
        if whole is not None and whole.cells[position].missing:
            alike.setdefault(whole.cells[position].missing, []).append(column.label)
    for missing, labels in alike.items():
        of = whole.cells[0].n_tasks if whole is not None else len(missing)
        yield f"Without {len(missing)} of {of} tasks ({listed_briefly(missing)}): {', '.join(labels)}."
    for position, column in enumerate(comparison.columns):
        missing = whole.cells[position].missing if whole is not None else ()
        others = [row.task for row in comparison.rows if row.task in missing and row.cells[position].score is not None]
        if others:
            yield f"{column.label}: different subsets from those of {comparison.benchmark}: {listed_briefly(others)}."
        failed = [
            f"{row.task} ({row.cells[position].note})"
            for row in comparison.rows
            if row.cells[position].score is None and row.cells[position].note not in ("", *_NOT_THERE)
        ]
        if failed:
            yield f"{column.label} has no score on {listed_briefly(failed)}."


def _suites(comparison: Comparison) -> Iterator[str]:
    for aggregate in comparison.aggregates:
        for column, cell in zip(comparison.columns, aggregate.cells, strict=True):
            found = cell.difference
            if found is None:
                continue
            interval = f" {brackets(found.interval.low, found.interval.high, signed=True)}" if found.interval else ""
            p = f", {p_equation(found.p_two_sided)}" if found.p_two_sided is not None else ""
            sentence = (
                f"{column.label} - {comparison.baseline} on these {found.n_tasks} tasks with samples: "
                f"{points(found.value, signed=True)}{interval}{p}"
            )
            if (others := found.other_tasks) is not None:
                sentence += (
                    f"; on tasks like these {brackets(others.interval.low, others.interval.high, signed=True)}, "
                    f"{p_equation(others.p_two_sided)} (t over {others.n_tasks} tasks)"
                )
            yield f"{sentence}."


def _standings(comparison: Comparison) -> Iterator[str]:
    found = comparison.standings
    if found is None:
        return
    options, n_pairs = comparison.options, len(found.pairs)
    if n_pairs > 1:
        over = (
            f"{counted(found.n_tasks, 'task')} that can be tested, {n_pairs} pairs of models, Holm's correction, "
            f"{options.alpha:g}"
        )
        for group in found.groups:
            yield f"Not separated by their means: {listed_briefly(group)} ({over})."
        if not found.groups:
            yield f"All models are separated by their means ({over})."
        ranks = [
            f"{one.label} {_span(one.ranks)} by the mean, {_span(one.borda_ranks)} by Borda" for one in found.models
        ]
        more = f"; and {len(ranks) - _SHOWN} more" if len(ranks) > _SHOWN else ""
        yield f"Ranks that these tests leave possible: {'; '.join(ranks[:_SHOWN])}{more}."
        ranked = {one.label for one in found.models}
        others = [own.label for own in comparison.columns if not own.is_published and own.label not in ranked]
        if others:
            yield f"Not in these tests: {listed_briefly(others)}; forms that rescore have no score on some tasks."
    leaders = [one.label for one in found.models if one.borda == 1]
    first = found.models[0]
    if first.borda != 1:
        last = " (last by the mean)" if leaders[0] == found.models[-1].label and len(found.models) > 2 else ""
        where = " on the tasks that can be tested" if found.untested else ""
        yield (
            f"Mean and Borda count disagree{where}: {first.label} has the highest mean, but {' and '.join(leaders)}"
            f"{last} {'has' if len(leaders) == 1 else 'have'} the most Borda points. The mean weighs how far a task is "
            "won, the Borda count only how many models are beaten."
        )


def _span(ranks: tuple[int, int]) -> str:
    return str(ranks[0]) if ranks[0] == ranks[1] else f"{ranks[0]}-{ranks[1]}"


def _seeds(comparison: Comparison) -> Iterator[str]:
    """Columns whose experiments were drawn with different seeds."""
    seeds: dict[object, list[str]] = {}
    for position, column in enumerate(comparison.columns):
        stored = [row.cells[position].stored for row in comparison.rows]
        records = [record for task in stored if task is not None for record in task.records]
        for seed in dict.fromkeys(record.provenance.seed for record in records):
            if seed is not None:
                seeds.setdefault(seed, []).append(column.label)
    if len(seeds) > 1:
        told = "; ".join(f"{seed} for {listed_briefly(labels)}" for seed, labels in seeds.items())
        yield (
            f"Seeds are mixed: {told}. Training sets of classification and sets of clustering were drawn "
            "differently, so part of each difference is that draw."
        )


def _intervals(comparison: Comparison) -> Iterator[str]:
    cells = [
        (column, row, cell)
        for row in comparison.rows
        for column, cell in zip(comparison.columns, row.cells, strict=True)
    ]
    options = comparison.options
    if any(cell.interval for _, _, cell in cells):
        yield (
            f"Intervals: {options.confidence:.0%}, over queries or examples, clustered where they share a sentence or "
            "document; Wilson's for scores, sign flips or Student's t for differences."
        )
        if comparison.baseline is None and len(comparison.columns) > 1:
            yield (
                "Models whose intervals overlap may still differ significantly, as both answered the same examples: "
                "--baseline tests the differences."
            )
    few = [
        cell for _, _, cell in cells if cell.difference is not None and "differ: no interval" in cell.difference.note
    ]
    if few:
        n = sum(cell.difference is not None for _, _, cell in cells)
        yield f"{len(few)} of {n} differences have no interval, as fewer than 10 units differ; their p is exact."
    tested = [cell for _, _, cell in cells if cell.p_adjusted is not None]
    if tested:
        of_means = (cell.significant for aggregate in comparison.aggregates for cell in aggregate.cells)
        is_any = any(of_means) or any(cell.significant for cell in tested)
        yield (
            f"{'Significant' if is_any else 'No difference is significant'}: paired test against "
            f"{comparison.baseline}, p < {options.alpha:g} after Holm's correction over all tasks and columns, of "
            "means over the columns. Intervals are not corrected, so one may exclude 0 without being significant."
        )
    noise = [row.task for column, row, cell in cells if cell.note == f"{ALGORITHM} noise only"]
    if noise:
        tasks = listed_briefly(dict.fromkeys(noise))
        yield f"Intervals of clustering are algorithm noise only and are not tested: {tasks}."
    for number, column in enumerate(comparison.columns):
        own = [(row.task, row.cells[number].note) for row in comparison.rows]
        without = [task for task, note in own if note == NO_SAMPLES]
        if without:
            yield f"{column.label}: {NO_SAMPLES}: {listed_briefly(without)}."
        others = {note for _, note in own if note.startswith("no test")}
        yield from (f"{column.label}: {note}" for note in sorted(others))


def listed_briefly(names: Sequence[str] | dict[str, None]) -> str:
    """Returns the first dozen names, and how many more there are."""
    shown = list(names)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more
