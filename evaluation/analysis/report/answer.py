"""Writes the answer that a report begins with: which model is better, by how much, how sure. Computes no statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from evaluation.analysis.comparison.types import Aggregate, AggregateCell, Comparison
from evaluation.analysis.number_formats import counted, p_equation, span
from evaluation.analysis.statistics.suite_tests import SuiteDifference

_NAMED = 3
"""Models named after the first two."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One sentence in two halves, and what qualifies it.

    Attributes:
        lead: Which model is ahead, and whether that is more than chance.
        rest: The rest: figures, completeness, protocols, and what holds for tasks like these.
        tally: On how many tasks the leader is better or worse by more than chance.
        cautions: Sentences that a reader must see before quoting a figure.
    """

    lead: str
    rest: str
    tally: str
    cautions: tuple[str, ...]


class _Standing(NamedTuple):
    """A column by its label, with its value of the aggregate."""

    label: str
    value: float
    cell: AggregateCell


def answer(comparison: Comparison) -> Answer:
    """Returns the sentence of a comparison, over the largest set of tasks that is fair to all its models."""
    whole = fair_mean(comparison) or _single_task(comparison)
    ranked = _ranked(comparison, whole)
    cautions = tuple(_cautions(comparison))
    if whole is None or not ranked:
        n_tasks = len(comparison.rows)
        if whole is not None and any(cell.value is not None for cell in whole.cells):
            return Answer("The models have no tasks in common", ", so that their means say nothing.", "", cautions)
        return Answer(
            "No model has a score", f" on {'any of ' * (n_tasks != 1)}the {counted(n_tasks, 'task')}.", "", cautions
        )
    where = _where(comparison, whole)
    if len(ranked) == 1:
        only = ranked[0]
        return Answer(f"{only.label} scores {only.value:.2f} points", f" {where}.", "", cautions)
    best = ranked[0]
    other = next((one for one in ranked if one.label == comparison.baseline), ranked[1])
    other = ranked[1] if other.label == best.label else other
    gap = best.value - other.value
    found = _tested(comparison, best, other)
    surely, how_sure = _certainty(found, gap, comparison)
    ahead = f"{best.label} is {gap:.2f} points ahead of {other.label}"
    lead = {
        True: f"{best.label} is better than {other.label} by {gap:.2f} points",
        False: f"{ahead}, which chance could explain",
        None: ahead,
    }[surely]
    rest = f": {best.value:.2f} against {other.value:.2f} points {where} ({how_sure})"
    behind = [f"{one.label} {one.value:.2f}" for one in ranked if one.label not in (best.label, other.label)]
    rest += f"; then {', '.join(behind[:_NAMED])}" if behind else ""
    rest += f" and {len(behind) - _NAMED} more" if len(behind) > _NAMED else ""
    rest = f"{rest}. {_other_tasks(found, best.label) if found is not None else ''}".rstrip()
    return Answer(lead, rest, _tally(comparison, best.label, other.label), cautions)


def fair_mean(comparison: Comparison) -> Aggregate | None:
    """The mean over the tasks that every model has; without one, where all have the same or none, that over all."""
    by_kind = {aggregate.kind: aggregate for aggregate in comparison.aggregates}
    common, whole = by_kind.get("common"), by_kind.get("mean")
    if whole is not None and not any(cell.missing for cell in whole.cells):
        return whole
    return common or whole


def _single_task(comparison: Comparison) -> Aggregate | None:
    """The only task as its own mean."""
    if len(comparison.rows) != 1:
        return None
    cells = []
    for cell in comparison.rows[0].cells:
        found = cell.difference
        suite = None
        if found is not None:
            suite = SuiteDifference(found.value, found.interval, found.p_two_sided, found.p_drop, 1)
        missing = (comparison.rows[0].task,) if cell.score is None else ()
        cells.append(AggregateCell(cell.score, 1, missing, cell.delta, suite))
    return Aggregate(comparison.rows[0].task, "mean", tuple(cells))


def _ranked(comparison: Comparison, whole: Aggregate | None) -> list[_Standing]:
    """Models with a mean over the same tasks, best first: those that miss only what all miss, or the only one."""
    if whole is None:
        return []
    found = [
        _Standing(column.label, cell.value, cell)
        for column, cell in zip(comparison.columns, whole.cells, strict=True)
        if cell.value is not None and not column.is_published
    ]
    nobodys = set.intersection(*(set(one.cell.missing) for one in found)) if found else set()
    complete = [standing for standing in found if set(standing.cell.missing) == nobodys]
    return sorted(complete, key=lambda standing: -standing.value) or found[: len(found) == 1]


def _where(comparison: Comparison, whole: Aggregate) -> str:
    """Returns completeness and protocols: "over all 8 tasks, protocol e5"."""
    counted = max((cell.n_scored for cell in whole.cells), default=0)
    n_rows = len(comparison.rows)
    named = f"{comparison.benchmark}'s " if comparison.benchmark else "the "
    tasks = (
        f"on average over all {n_rows} tasks"
        if counted == n_rows
        else f"on average over {counted} of {named}{n_rows} tasks"
    )
    if n_rows == 1:
        tasks = f"on {comparison.rows[0].task}"
    protocols = dict.fromkeys(column.protocol for column in comparison.columns if not column.is_published)
    if len(protocols) == 1:
        return f"{tasks}, protocol {next(iter(protocols))}"
    told = " and ".join(
        f"{protocol} ({', '.join(column.label for column in comparison.columns if column.protocol == protocol)})"
        for protocol in protocols
    )
    return f"{tasks}, under protocols {told}"


class _Test(NamedTuple):
    """The difference best - other with the p that decides, and what that p is corrected for."""

    difference: SuiteDifference
    sign: int
    p: float
    corrected: str


def _tested(comparison: Comparison, best: _Standing, other: _Standing) -> _Test | None:
    """From all pairs of models under one correction where there are several; else from the baseline's column."""
    pair = comparison.standings.pair(best.label, other.label) if comparison.standings is not None else None
    if pair is not None and len(comparison.rows) > 1:
        n_pairs = len(comparison.standings.pairs) if comparison.standings is not None else 1
        corrected = f" after Holm over {n_pairs} pairs of models" if n_pairs > 1 else ""
        return _Test(pair.difference, 1 if pair.first == best.label else -1, pair.p, corrected)
    against = best.cell if other.label == comparison.baseline else other.cell
    difference, sign = against.difference, 1 if other.label == comparison.baseline else -1
    if difference is None or difference.p_two_sided is None:
        return None
    return _Test(difference, sign, difference.p_two_sided, "")


def _certainty(found: _Test | None, gap: float, comparison: Comparison) -> tuple[bool | None, str]:
    """Whether chance does not explain the lead (None: unknown), and the figures that say so.

    It is unknown where the tasks that can be tested say the opposite of the lead over all.
    """
    if found is None:
        return None, "its certainty is unknown: fewer than two tasks have stored samples"
    difference, sign = found.difference, found.sign
    parts = []
    if abs(difference.value - sign * gap) > 0.005:
        parts.append(f"{sign * difference.value:+.2f} on the {counted(difference.n_tasks, 'task')} that can be tested")
    else:
        parts.append(f"{gap:+.2f}{' on these tasks' if difference.n_tasks > 1 else ''}")
    if difference.interval is not None:
        low, high = sorted((sign * difference.interval.low, sign * difference.interval.high))
        parts.append(f"{comparison.options.confidence:.0%} interval {span(low, high, signed=True)}")
    parts.append(p_equation(found.p) + found.corrected)
    is_opposite = sign * difference.value < 0 < gap
    return None if is_opposite else found.p < comparison.options.alpha, ", ".join(parts)


def _other_tasks(found: _Test, best: str) -> str:
    """What the tasks' differences say of tasks like these."""
    others = found.difference.other_tasks
    if others is None:
        return ""
    low, high = sorted((found.sign * others.interval.low, found.sign * others.interval.high))
    if low <= 0 <= high:
        verdict = f"{best} may or may not be ahead"
    else:
        verdict = f"{best} is ahead" if low > 0 else f"{best} is behind"
    lead = f"the average lead could be anything from {span(low, high, signed=True)} points"
    return f"On new tasks like these {verdict}: {lead} (estimated from {others.n_tasks} tasks)."


def _tally(comparison: Comparison, best: str, other: str) -> str:
    """Significant differences task by task; only against the baseline, which the tests are made against."""
    if comparison.baseline not in (best, other):
        return ""
    tested, sign = (best, 1) if other == comparison.baseline else (other, -1)
    cells = [row.cells[comparison.column(tested)] for row in comparison.rows]
    cells = [cell for cell in cells if cell.p_adjusted is not None and cell.delta is not None]
    if not cells:
        return ""
    better = sum(cell.significant and sign * (cell.delta or 0) > 0 for cell in cells)
    worse = sum(cell.significant and sign * (cell.delta or 0) < 0 for cell in cells)
    return (
        f"Task by task, {best} is significantly better than {other} on {better}, significantly worse on {worse}, and "
        f"undecided on {len(cells) - better - worse} of {counted(len(cells), 'task')} that can be tested "
        f"(Holm's correction over the whole table, two-sided, {comparison.options.alpha:g})."
    )


def _cautions(comparison: Comparison) -> list[str]:
    found = []
    if any(column.limited for column in comparison.columns):
        found.append("Limited run: tasks were cut down, so these scores are not for reporting.")
    protocols = {column.protocol for column in comparison.columns if not column.is_published}
    if len(protocols) > 1:
        found.append("The models run under different protocols: differences mix the model with the text it was given.")
    missing = [
        f"{column.label} on {row.task}"
        for row in comparison.rows
        for column, cell in zip(comparison.columns, row.cells, strict=True)
        if cell.score is None and not column.is_published
    ]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        found.append(f"Not complete: no score for {shown}.")
    trained = [column.label for position, column in enumerate(comparison.columns) if _trained(comparison, position)]
    if trained:
        found.append(f"Trained on data of some of these tasks (marked T in the table): {', '.join(trained)}.")
    return found


def _trained(comparison: Comparison, position: int) -> bool:
    return any(row.cells[position].trained for row in comparison.rows)
