"""Plans a run: what each job will cost, without a network and without loading a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from evaluation.analysis.number_formats import counted
from evaluation.analysis.tables.table import Table, TableRow, TextCell
from evaluation.analysis.tables.terminal import print_tables
from evaluation.config.run_config import RunConfig
from evaluation.errors import UsageError
from evaluation.jobs import Job
from evaluation.models.default_protocol import protocol_of
from evaluation.planning.calibration import Calibration
from evaluation.planning.devices import DEVICES, UTILISATION, seconds_on
from evaluation.planning.estimate import JobCost, RunCost, estimate, find_shape, jobs_that_fit, speed_name
from evaluation.system.machine import place_name
from evaluation.system.nearest_names import nearest_hint

_MOST_SUBSETS = 20
_HEADS = ("Task", "State", "Texts", "Distinct", "Tokens", "New tokens", "TFLOP", "Download", "Memory", "Disk", "Time")


def plan_run(config: RunConfig, jobs: Sequence[Job], *, fresh: bool = False) -> RunCost:
    """Returns the cost of a config's jobs. The speed of each model shape is measured once per machine and kept.

    Args:
        fresh: Whether stored jobs would run again.
    """
    calibration = Calibration()
    _measure_missing(config, jobs, calibration)
    states, notes = ({}, []) if fresh else _states(config, jobs)
    cost = estimate(config, jobs, calibration, states)
    return replace(cost, notes=[*_protocols(config, jobs), *_subsets(jobs), *notes, *cost.notes])


def _subsets(jobs: Sequence[Job]) -> list[str]:
    """Returns a line per task that is not scored on its one default subset, with the subsets' names."""
    tasks = {job.task.name: job.task.subsets for job in jobs if job.task.subsets != ("default",)}
    return [
        f"Subsets of {name}: {', '.join(subsets[:_MOST_SUBSETS])}"
        + (f" and {len(subsets) - _MOST_SUBSETS} more." if len(subsets) > _MOST_SUBSETS else ".")
        for name, subsets in tasks.items()
    ]


def _protocols(config: RunConfig, jobs: Sequence[Job]) -> list[str]:
    """Returns a line per model with its protocol, and one per warning about it."""
    lines, running = [], {job.model.base_label for job in jobs}
    for model in config.models:
        if model.form is None and model.label in running:
            protocol = protocol_of(config, model)
            lines += [protocol.sentence(model.label), *(f"warning: {text}" for text in protocol.warnings)]
    return lines


def fitting(cost: RunCost, hours: float, device: tuple[str, float | None] | None = None) -> frozenset[tuple[str, str]]:
    """Returns (label, task) of the jobs that fit into some hours of this machine, or of a device of `parse_device`.

    Raises:
        UsageError: No job fits.
    """
    jobs = cost.jobs
    if device is not None:
        jobs = [replace(job, seconds=None if job.flops is None else seconds_on(device[0], job.flops)) for job in jobs]
    chosen = jobs_that_fit(jobs, hours)
    if not chosen:
        known = [job.seconds for job in jobs if job.seconds is not None]
        least = f"the shortest takes about {min(known) / 3_600:.2f} h" if known else "no job's time is known"
        raise UsageError(f"--max-hours {hours:g}: no job fits; {least}.")
    return frozenset(chosen)


def parse_device(text: str) -> tuple[str, float | None]:
    """Parses the value of --on: NAME or NAME:PRICE.

    Raises:
        UsageError: The device is unknown, or the price is not a number.
    """
    name, separator, price = text.partition(":")
    if name.lower() not in DEVICES:
        hint = nearest_hint(name, DEVICES)
        raise UsageError(f"--on {text!r}: unknown device {name!r}{hint} (known: {', '.join(DEVICES)}).")
    try:
        return name.lower(), float(price) if separator else None
    except ValueError:
        raise UsageError(
            f"--on {text!r}: {price!r} is not a price per hour; write, for example, {name}:1.89."
        ) from None


def print_plan(
    cost: RunCost, device: tuple[str, float | None] | None, chosen: frozenset[tuple[str, str]] | None
) -> None:
    """Prints a row per job, totals, and what has to be fetched."""
    console = Console()
    labels = len({job.label for job in cost.jobs}) > 1
    shown = [job for job in cost.jobs if chosen is None or (job.label, job.task) in chosen]
    header = _cells([*(["Model"] if labels else []), *_HEADS])
    rows = [TableRow(_cells([*([job.label] if labels else []), *_row(job)])) for job in shown]
    total = TableRow(_cells([*([""] if labels else []), *_row(_total(shown))]), rule=True)
    print_tables([Table("", header, 2 + labels, (*rows, total))], console)
    for line in [*_remarks(cost, shown, device), *cost.notes]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    left_out = len(cost.jobs) - len(shown)
    if left_out:
        line = f"Left out, as they do not fit into --max-hours: {left_out} of {counted(len(cost.jobs), 'job')}."
        console.print(line, highlight=False)


def _cells(texts: Sequence[str]) -> tuple[TextCell, ...]:
    return tuple(map(TextCell, texts))


def _remarks(cost: RunCost, shown: Sequence[JobCost], device: tuple[str, float | None] | None) -> list[str]:
    labels = {job.label for job in shown}
    lines = [
        f"Model {name}: " + ("size unknown until fetched" if size is None else f"{_size(size)} to fetch (about)") + "."
        for name, size in cost.model_bytes.items()
        if labels
    ]
    if device is not None:
        name, price = device
        seconds = seconds_on(name, sum(job.flops or 0.0 for job in shown))
        money = "" if price is None else f", {seconds / 3_600 * price:,.2f} at {price:g} per hour"
        share = f"{UTILISATION:.0%} of {DEVICES[name]:g} TFLOP/s assumed"
        lines.append(f"On one {name}: {_time(seconds)} of encoding{money} ({share}; without fetching and scoring).")
    return lines


def _measure_missing(config: RunConfig, jobs: Sequence[Job], calibration: Calibration) -> None:
    place, wanted = place_name(config.runtime.device), {job.model.label for job in jobs}
    for model in config.models:
        shape = find_shape(config, model) if model.label in wanted else None
        if shape is None or calibration.seconds_per_token(place, speed_name(shape, model)) is not None:
            continue
        from evaluation.planning.speed import measure_speed

        measured = measure_speed(shape, device=config.runtime.device, dtype=model.dtype)
        calibration.note_speed(place, speed_name(shape, model), measured)
        calibration.save()


def _states(config: RunConfig, jobs: Sequence[Job]) -> tuple[dict[tuple[str, str], str], list[str]]:
    if not (config.run_folder / "jobs").is_dir():
        return {}, []
    from evaluation.execution.local_executor import LocalExecutor
    from evaluation.execution.stored_run import stored_states

    return stored_states(config, jobs, LocalExecutor(config).fingerprint)


def _total(jobs: Sequence[JobCost]) -> JobCost:
    def total(name: str) -> float | None:
        values = [getattr(job, name) for job in jobs]
        known = [value for value in values if value is not None]
        return sum(known) if known else None

    names = ("texts", "new_tokens", "flops", "cache_bytes", "download_bytes", "seconds")
    sums = {name: total(name) for name in names}
    sums |= {"unique_texts": total("own_texts"), "tokens": total("own_tokens")}  # shared ones once
    largest = max((job.vector_bytes for job in jobs if job.vector_bytes is not None), default=None)
    count = f"{len(jobs)} job{'s' if len(jobs) != 1 else ''}"
    return JobCost("", count, "", vector_bytes=largest, **sums)  # type: ignore[arg-type]  # sums of the same types


def _row(job: JobCost) -> list[str]:
    return [
        job.task,
        job.state,
        *(_count(number) for number in (job.texts, job.unique_texts, job.tokens, job.new_tokens)),
        "?" if job.flops is None else f"{job.flops / 1e12:,.1f}",
        *(_size(number) for number in (job.download_bytes, job.vector_bytes, job.cache_bytes)),
        _time(job.seconds),
    ]


def _count(number: int | None) -> str:
    if number is None:
        return "?"
    return f"{number:,}" if number < 10_000_000 else f"{number / 1e6:,.1f}M"


def _size(n_bytes: int | None) -> str:
    if n_bytes is None:
        return "?"
    return f"{n_bytes / 2**30:,.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:,.1f} MiB"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:,.1f} h"
