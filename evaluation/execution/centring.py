"""Says what centring would change of a row of plain bits, and orders jobs so that its score is known by then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from evaluation.jobs import Job

_MATTERS: Final = 5.0
"""Points; where centring would change the score by more, the row's notice says so."""


def running_order(jobs: Sequence[Job]) -> list[Job]:
    """Returns jobs model by model and task by task as given, except that rows of plain bits are a task's last ones."""
    models = {label: place for place, label in enumerate(dict.fromkeys(job.model.base_label for job in jobs))}
    tasks = {name: place for place, name in enumerate(dict.fromkeys(job.task.name for job in jobs))}
    return sorted(jobs, key=lambda job: (models[job.model.base_label], tasks[job.task.name], _centred(job) is not None))


def centring_notice(
    job: Job, score: float, known: Mapping[tuple[str, str], float], score_of: Callable[[Job], float]
) -> str | None:
    """Returns by how much centring would change a row of plain bits; None for other rows, or if it hardly matters.

    Args:
        job: The job.
        score: Its main score, 0-1.
        known: Key -> main score of jobs that ran before.
        score_of: Scores a job that is not among these.
    """
    centred = _centred(job)
    if centred is None:
        return None
    change = 100 * ((known[centred.key] if centred.key in known else score_of(centred)) - score)
    if abs(change) <= _MATTERS:
        return None
    return f"center: true, which subtracts the documents' mean first, would change this score by {change:+.1f}."


def _centred(job: Job) -> Job | None:
    """Returns the job of the same bits around the documents' mean; None where the row is not one of plain bits."""
    form = job.model.form
    if form is None or form.precision != "binary" or form.center or form.pca is not None:
        return None
    return replace(job, model=job.model.in_form(form.model_copy(update={"center": True})))
