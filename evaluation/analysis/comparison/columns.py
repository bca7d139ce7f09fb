"""The columns of a comparison: models of stored runs and of published tables, with unique labels. Compares nothing."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluation.analysis.comparison.published_tables import (
    PublishedScore,
    published_tasks,
    read_published,
    tables_by_model,
)
from evaluation.analysis.comparison.types import Column, Speed
from evaluation.analysis.run_view import RunView, read_run_view
from evaluation.analysis.task_scores import TaskScore
from evaluation.errors import ComparisonError, DamagedFileError, SchemaVersionError
from evaluation.records.job_record import JobRecord
from evaluation.records.origin import ModelProvenance
from evaluation.records.store import RUN_FILE
from evaluation.system.nearest_names import nearest_hint

_SOURCE_NAMES = {"MTEB results repository": "MTEB", "model card": "card"}
_FILTERS = ("types", "languages", "only", "exclude")


@dataclass(frozen=True, slots=True)
class ScoredModel:
    """One model under one protocol with its scores.

    Attributes:
        label: Unique in a comparison.
        run: The run's name, or the published table's.
        view: The run; None for published scores.
        model: The checkpoint's name, such as intfloat/e5-base.
        benchmarks: Benchmarks that the run's config names without a filter.
        tasks: Task -> score, in the run's order.
        place: Series and step of a checkpoint, as the config has them; None for a row that is in no series.
    """

    label: str
    run: str
    view: RunView | None
    model: str
    revision: str | None
    protocol: str
    benchmarks: tuple[str, ...]
    tasks: Mapping[str, TaskScore]
    place: tuple[str, float] | None = None

    @property
    def records(self) -> list[JobRecord]:
        """All records behind the tasks that have a score."""
        return [record for task in self.tasks.values() if task.score is not None for record in task.records]


def read_columns(paths: Sequence[str | Path], published: Sequence[PublishedScore] = ()) -> list[ScoredModel]:
    """Reads the models of runs and of published tables, with unique labels.

    Args:
        paths: Folders of runs, and CSV files of published scores.
        published: Scores that are compared alone where there are no paths.

    Raises:
        ComparisonError: A path is neither, or there is nothing to compare.
        DamagedFileError: A stored file is missing or is not what was written.
        SchemaVersionError: A run was written by another version.
    """
    models = [model for path in paths for model in _read(Path(path))]
    if not paths:
        models = _of_tables(published, run="published")
    if not models:
        raise ComparisonError("There is nothing to compare: name the folder of a run, such as results/quickstart.")
    return _with_unique_labels(models)


def models_of(view: RunView, keys: Collection[tuple[str, str]] | None = None) -> list[ScoredModel]:
    """The models of a run.

    Args:
        keys: (label, task) of the jobs that count; None: all.
    """
    config = view.manifest.config
    places = places_of(config)
    protocols = {job.label: job.protocol for job in reversed(view.manifest.jobs)}
    return [
        ScoredModel(
            label=label,
            run=view.manifest.name,
            view=view,
            model=origin.name if origin else _declared(config, label),
            revision=origin.revision if origin else None,
            protocol=protocols[label],
            benchmarks=_whole_benchmarks(config),
            tasks=tasks,
            place=places.get(label),
        )
        for label in view.labels
        if (tasks := view.tasks(label, keys))
        for origin in [_origin(view, label)]
    ]


def places_of(config: Mapping[str, Any]) -> dict[str, tuple[str, float]]:
    """Label -> series and step, of the checkpoints that a stored config lists, whether they ran or not."""
    return {
        str(entry.get("label")): (series, float(step))
        for entry in _entries(config, "models")
        if isinstance(series := entry.get("series"), str) and isinstance(step := entry.get("step"), int | float)
    }


def chosen(models: list[ScoredModel], patterns: Sequence[str]) -> list[ScoredModel]:
    """The models whose labels match, in the order of the patterns; all without patterns.

    Raises:
        ComparisonError: A pattern matches no label.
    """
    if not patterns:
        return models
    kept: dict[str, ScoredModel] = {}
    for pattern in patterns:
        found = {m.label: m for m in models if m.label == pattern or fnmatch.fnmatchcase(m.label, pattern)}
        if not found:
            raise ComparisonError(_unknown("--model", pattern, [model.label for model in models]))
        kept |= {label: model for label, model in found.items() if label not in kept}
    return list(kept.values())


def position_of(models: Sequence[ScoredModel], baseline: str | None) -> int | None:
    """The position of the baseline's label.

    Raises:
        ComparisonError: No column has this label.
    """
    if baseline is None:
        return None
    labels = [model.label for model in models]
    if baseline not in labels:
        raise ComparisonError(_unknown("--baseline", baseline, labels))
    return labels.index(baseline)


def column(model: ScoredModel, tasks: Collection[str]) -> Column:
    """What a comparison says of a model beside its scores."""
    compared = [task for name, task in model.tasks.items() if name in tasks and task.score is not None]
    records = [record for task in compared for record in task.records]
    origin = records[0].provenance.model if records else None
    return Column(
        label=model.label,
        run=model.run,
        folder=model.view.folder if model.view else None,
        model=model.model,
        revision=model.revision,
        protocol=model.protocol,
        settings=origin.settings.model_dump() if origin and origin.settings else {},
        weights=origin.weights_sha256 if origin else None,
        limited=any(record.limit for record in records),
        speed=_speed(records) if records else None,
        series=model.place[0] if model.place else None,
        step=model.place[1] if model.place else None,
    )


def _read(path: Path) -> list[ScoredModel]:
    if path.is_file():
        return _of_tables(read_published([path]), run=path.stem)
    if not (path / RUN_FILE).is_file():
        what = "holds no run.json" if path.is_dir() else "does not exist"
        raise ComparisonError(
            f"{path} is not a run: it {what}. Name the folder of a run, such as results/quickstart, or a table of "
            "published scores, such as results/published/mteb_scores.csv."
        )
    try:
        view = read_run_view(path)
    except (DamagedFileError, SchemaVersionError) as error:
        if error.file.name == RUN_FILE:
            raise ComparisonError(str(error)) from error
        raise
    view.refuse_lost_records()
    return models_of(view)


def _of_tables(rows: Sequence[PublishedScore], *, run: str) -> list[ScoredModel]:
    tables = tables_by_model(rows)
    labels = {key: f"{key[0].rpartition('/')[2]} {_source_name(own)}" for key, own in tables.items()}
    counts = Counter(labels.values())
    return [
        ScoredModel(
            label=label,
            run=run,
            view=None,
            model=model,
            revision=next((row.revision for row in own if row.revision != "external"), None),
            protocol=protocol,
            benchmarks=(),
            tasks=published_tasks(label, own),
        )
        for (model, protocol), own in tables.items()
        for short in [labels[model, protocol]]
        for label in [f"{short} {protocol}" if counts[short] > 1 else short]
    ]


def _source_name(rows: Sequence[PublishedScore]) -> str:
    source = rows[0].source
    return next((short for start, short in _SOURCE_NAMES.items() if source.startswith(start)), source)


def _origin(view: RunView, label: str) -> ModelProvenance | None:
    models = (job.record.provenance.model for job in view.jobs_of(label) if job.record is not None)
    return next((model for model in models if model is not None), None)


def _declared(config: Mapping[str, Any], label: str) -> str:
    return str(next((model.get("model") for model in _entries(config, "models") if model.get("label") == label), label))


def _entries(config: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """A list of a stored config, which may have any shape."""
    entries = config.get(name)
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []


def _whole_benchmarks(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Benchmarks that the config takes without a filter."""
    return tuple(
        str(entry["mteb_benchmark"])
        for entry in _entries(config, "tasks")
        if "mteb_benchmark" in entry and not any(entry.get(name) for name in _FILTERS)
    )


def _with_unique_labels(models: Sequence[ScoredModel]) -> list[ScoredModel]:
    """Labels that occur twice get the run's name, then its folder, then a number."""
    labels = [model.label for model in models]
    for extra in ("run", "folder"):
        counts = Counter(labels)
        for position, model in enumerate(models):
            if counts[labels[position]] > 1:
                place = model.run if extra == "run" or model.view is None else model.view.folder
                labels[position] = f"{model.label} ({place})"
    counts = Counter(labels)
    seen: Counter[str] = Counter()
    for position, label in enumerate(labels):
        if counts[label] > 1:
            seen[label] += 1
            labels[position] = f"{label} #{seen[label]}"
    return [replace(model, label=label) for model, label in zip(models, labels, strict=True)]


def _unknown(option: str, value: str, labels: Sequence[str]) -> str:
    return f"{option} {value!r}: no column has this label{nearest_hint(value, labels)} (labels: {', '.join(labels)})."


def _speed(records: Sequence[JobRecord]) -> Speed:
    timings = [record.timing for record in records if record.timing is not None]
    machines = {record.provenance.hardware.name for record in records if record.provenance.hardware is not None}
    peaks = [record.peak_memory for record in records if record.peak_memory is not None]
    return Speed(
        tokens=sum(timing.tokens for timing in timings),
        encoding_s=sum(timing.encoding_s for timing in timings),
        total_s=sum(timing.total_s for timing in timings),
        hardware=machines.pop() if len(machines) == 1 else None,
        from_cache=any(_used_the_cache(record) for record in records),
        peak=max(peaks, key=lambda peak: (peak.bytes, not peak.at_most), default=None),
    )


def _used_the_cache(record: JobRecord) -> bool:
    """Whether fewer tokens went through the model than any encoding of the audited texts takes.

    The least that it takes: each text at the low end of its histogram's bin.
    """
    if record.audit is None or record.audit.vectors is None or record.timing is None:
        return False
    limit, least = record.audit.vectors.max_length, 0
    for side in record.audit.sides.values():
        lengths = side.token_lengths
        least += sum(n * min(edge, limit) for edge, n in zip(lengths.edges, lengths.counts, strict=True))
    return least > record.timing.tokens
