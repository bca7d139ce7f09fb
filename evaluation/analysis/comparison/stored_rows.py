"""Sets each stored form beside its model's own vectors: bytes, change of the score, and whether it loses too much."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from evaluation.analysis.comparison.columns import ScoredModel
from evaluation.analysis.comparison.evidence import ALGORITHM, Evidence
from evaluation.analysis.comparison.stored_types import StoredComparison, StoredRow
from evaluation.config.stored_forms import PLAIN
from evaluation.records.job_record import JobRecord

if TYPE_CHECKING:
    from evaluation.analysis.statistics.contributions import Floats
    from evaluation.analysis.statistics.loss_verdicts import LossVerdict, PairedChange
    from evaluation.analysis.statistics.paired_tests import Difference, Sample
    from evaluation.analysis.statistics.suite_tests import SuiteDifference

_ROUNDING = 1e-12


def compare_stored(
    models: Sequence[ScoredModel], tasks: Sequence[str], evidence: Evidence, margin: float
) -> StoredComparison | None:
    """Returns the stored forms of a comparison; None where no model has any.

    Args:
        tasks: The compared tasks, whose rows `evidence` was asked for.
        evidence: Their samples.
        margin: The loss that matters, in points.
    """
    origins = [_origin(model) for model in models]
    rows: list[StoredRow] = []
    sentences: list[str] = []
    for own, origin in enumerate(origins):
        if origin is None or origin.stored != PLAIN:
            continue
        forms = [
            at
            for at, other in enumerate(origins)
            if other is not None and models[at].view is models[own].view and _is_form_of(other, origin)
        ]
        if not forms:
            continue
        for task in tasks:
            rows += _of_task(models, [own, *forms], task, evidence, margin)
        if not evidence.options.intervals:
            continue
        means: list[StoredRow] = []
        for form in forms:
            of_form = [row for row in rows if row.label == models[form].label]
            absent = [task for task in tasks if task in models[own].tasks and task not in models[form].tasks]
            means.append(_mean(of_form, _differences(own, form, tasks, evidence), margin, absent))
        tested = {row.task for row in rows if row.model == models[own].label and row.verdict is not None}
        sentences.append(_sentence(models[own].label, means, rows, margin))
        rows += means if len(tested) > 1 else []
    return StoredComparison(tuple(rows), margin, evidence.options.intervals, tuple(sentences)) if rows else None


def _origin(model: ScoredModel) -> JobRecord | None:
    records = [record for task in model.tasks.values() for record in task.records]
    return next((record for record in records if record.state == "done"), None)


def _is_form_of(form: JobRecord, own: JobRecord) -> bool:
    return form.stored != PLAIN and form.label == f"{own.label}@{form.stored}"


def _of_task(
    models: Sequence[ScoredModel], columns: Sequence[int], task: str, evidence: Evidence, margin: float
) -> Iterator[StoredRow]:
    """Yields the row of the model's own vectors, the first of `columns`, then those of its forms."""
    own, reference = models[columns[0]], models[columns[0]].tasks.get(task)
    for column in columns:
        model, origin = models[column], _origin(models[column])
        found = model.tasks.get(task)
        stored = origin.stored if origin is not None else PLAIN
        if found is None:
            continue
        vectors = found.records[0].vectors if len(found.records) == 1 else None
        row = StoredRow(own.label, model.label, stored, task, found.points, vectors)
        if column != columns[0] and found.points is not None and reference is not None and reference.points is not None:
            pair = evidence.samples(task)[column], evidence.samples(task)[columns[0]]
            verdict, note = _judged(*pair, margin / 100)
            row = replace(row, verdict=verdict, change=found.points - reference.points, note=note)
        yield row


def _judged(form: Sample | None, own: Sample | None, margin: float) -> tuple[LossVerdict | None, str]:
    """Returns the verdict on one task, or why there is none."""
    from evaluation.analysis.statistics.loss_verdicts import judge_loss
    from evaluation.analysis.statistics.paired_tests import MIN_UNITS

    if form is None or own is None:
        return None, "not tested: no samples"
    if form.units.kind == ALGORITHM:
        return None, "not tested: its units show the algorithm's chance only"
    change = _paired(form, own)
    if len(form.contributions.clusters.weights) < MIN_UNITS:
        return None, f"not tested: fewer than {MIN_UNITS} independent units"
    return judge_loss(change, margin), ""


def _paired(form: Sample, own: Sample) -> PairedChange:
    import numpy as np

    from evaluation.analysis.statistics.contributions import estimate, stacked
    from evaluation.analysis.statistics.loss_verdicts import Losses, PairedChange, skewness_of
    from evaluation.analysis.statistics.paired_tests import matched_contributions

    paired = form.contributions - matched_contributions(form, own)
    found, n_parts = estimate(stacked([paired]))[0], len(paired.values)

    def losses_in(parts: Sequence[int], weight: float) -> Losses:
        """Of the clusters that have units in these parts, each by the mean change of its units there."""
        shares = [np.full(len(values), (at in parts) / len(values)) for at, values in enumerate(paired.values)]
        weights = paired.clusters.sums(shares)
        sums = paired.clusters.sums([one * values for one, values in zip(shares, paired.values, strict=True)])
        changes = sums[weights > 0] / weights[weights > 0]
        return Losses(len(changes), int((changes < -_ROUNDING).sum()), float(max(-changes.min(), 0.0)), weight)

    of_parts = [losses_in([at], 1 / n_parts) for at in range(n_parts)] if n_parts > 1 else []
    return PairedChange(
        value=found.point,
        error=found.error,
        df=found.df,
        skewness=float(skewness_of(found.residuals, found.error)),
        losses=(losses_in(range(n_parts), 1.0), *of_parts),
    )


def _differences(
    own: int, form: int, tasks: Sequence[str], evidence: Evidence
) -> list[tuple[Difference, PairedChange]]:
    """Returns the change on each task that can be tested, for the mean."""
    from evaluation.analysis.statistics.paired_tests import compare_pairs

    found = []
    for task in tasks:
        one, other = evidence.samples(task)[form], evidence.samples(task)[own]
        if one is None or other is None or one.units.kind == ALGORITHM:
            continue
        (difference,) = compare_pairs([(one, other)])
        if not isinstance(difference, Exception) and difference.is_in_means:
            found.append((difference, _paired(one, other)))
    return found


def _mean(
    of_form: Sequence[StoredRow],
    differences: Sequence[tuple[Difference, PairedChange]],
    margin: float,
    absent: Sequence[str],
) -> StoredRow:
    """Returns the row of a form over all tasks that can be tested."""
    from evaluation.analysis.statistics.loss_verdicts import Losses, PairedChange, judge_loss
    from evaluation.analysis.statistics.suite_tests import suite_difference

    first = of_form[0]
    row = StoredRow(first.model, first.label, first.stored, None, None, None)
    if not differences:
        return replace(row, note="not tested")
    whole, k = suite_difference([found for found, _ in differences]), len(differences)
    of_tasks = [change.losses[0] for _, change in differences]
    of_all = Losses(
        sum(own.n for own in of_tasks), sum(own.n_lost for own in of_tasks), max(own.largest for own in of_tasks)
    )
    in_tasks = [replace(own, weight=own.weight / k) for _, change in differences for own in change.losses]
    left_out = [*absent, *(own.task for own in of_form if own.task is not None and own.verdict is None)]
    change = PairedChange(
        value=whole.value,
        error=whole.error,
        df=whole.df,
        skewness=_skewness_of_mean([found for found, _ in differences], whole),
        losses=(of_all, *in_tasks),
    )
    note = f"without {', '.join(left_out)}" if left_out else ""
    return replace(row, verdict=judge_loss(change, margin / 100), change=100 * whole.value, note=note)


def _skewness_of_mean(differences: Sequence[Difference], whole: SuiteDifference) -> float:
    """Returns the skewness of the mean over tasks; tasks with the same units move it together."""
    from evaluation.analysis.statistics.loss_verdicts import skewness_of

    together: dict[Hashable, Floats] = {}
    for at, found in enumerate(differences):
        if found.residuals is not None:
            key = found.unit_ids or at, len(found.residuals)
            together[key] = together.get(key, 0.0) + found.residuals / whole.n_tasks
    return float(sum(skewness_of(residuals, whole.error) for residuals in together.values()))


def _sentence(label: str, means: Sequence[StoredRow], rows: Sequence[StoredRow], margin: float) -> str:
    """Returns what may be claimed of a model's forms together."""
    from evaluation.analysis.number_formats import counted, p_equation
    from evaluation.analysis.statistics.corrections import holm
    from evaluation.analysis.statistics.loss_verdicts import ONE_SIDED

    adjusted = holm([row.verdict.p if row.verdict is not None else None for row in means])
    sizes = {row.label: row.vectors.bytes_per_vector for row in rows if row.vectors is not None}
    claimed = [
        (sizes[row.label], row, p)
        for row, p in zip(means, adjusted, strict=True)
        if p is not None and p <= ONE_SIDED and row.label in sizes
    ]
    if not claimed:
        return f"{label}: no form is shown to lose less than {counted(margin, 'point')}."
    size, row, p = min(claimed, key=lambda claim: claim[0])
    n_forms = sum(own is not None for own in adjusted)
    return (
        f"{label}: the smallest form that is shown to lose less than {counted(margin, 'point')} is {row.stored}, "
        f"{size:,} bytes per vector ({p_equation(p)}, one-sided, Holm over {counted(n_forms, 'form')})"
        f"{f', {row.note}' if row.note else ''}."
    )
