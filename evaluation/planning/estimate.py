"""Jobs -> what they will cost: texts, tokens, operations, download, disk, memory, time. No network, no model.

Texts that several jobs encode alike are counted once, in the first of them, as far as the embedding cache holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evaluation.config.models import ModelConfig, RunConfig
from evaluation.hub.cache import snapshot_folder
from evaluation.jobs import Job
from evaluation.models.checkpoint import is_folder_name
from evaluation.models.sizes import ModelShape, is_builtin, shape_of_folder, shape_of_name
from evaluation.planning.history import Calibration
from evaluation.planning.workload import TextGroup, workload
from evaluation.system.machine import place_name

SPECIAL_TOKENS = 2
_VECTOR_OVERHEAD = 24  # hash and token count of a cached text: encoding/cache.py
_SAME_SIZE = 0.99  # two collections of one corpus that differ in so few texts share all but a shard of each
_FILE_BYTES_A_CHARACTER = 0.6  # parquet files of English text; the sizes themselves are known to the Hub only
_WEIGHT_BYTES = 4
_OVERHEAD_S: Mapping[str, tuple[float, float]] = {
    "Retrieval": (0.2, 1e-4),
    "Clustering": (2.5, 1e-3),
    "Classification": (1.0, 1e-3),
    "MultilabelClassification": (1.0, 2e-3),
    "PairClassification": (0.1, 1e-3),
}
"""Seconds of a task beside encoding before it ever ran here: at least, and a distinct text (quickstart, two cores)."""
_OTHER_OVERHEAD_S = (0.2, 2e-4)

DEVICES: Mapping[str, float] = {
    "t4": 65,
    "v100": 125,
    "a10g": 70,
    "l4": 121,
    "l40s": 362,
    "a100": 312,
    "h100": 989,
    "h200": 989,
    "rtx-3090": 71,
    "rtx-4090": 165,
}
"""Dense half-precision TFLOP/s of NVIDIA's data sheets (without sparsity)."""
UTILISATION = 0.3
"""Share of a card's peak that an encoder of these sizes is assumed to reach."""


@dataclass(frozen=True, slots=True)
class JobCost:
    """What one job will cost. None: unknown.

    Attributes:
        state: done, waiting, damaged (it runs again), or unknown until fetched.
        texts: Handed to the encoder.
        unique_texts: Distinct ones.
        tokens: Of the distinct texts, as kept after truncation.
        own_texts, own_tokens: Of these, what no earlier job encodes.
        new_tokens: What will go through the model: texts that the embedding cache dropped meanwhile count again.
        flops: Of the new tokens.
        vector_bytes: The largest set of vectors held in memory at once.
        cache_bytes: What the new vectors take in the cache on disk.
        download_bytes: Dataset files, about, where they are not in the Hub's cache.
        seconds: On this machine, loading and scoring included.
    """

    label: str
    task: str
    state: str
    texts: int | None = None
    unique_texts: int | None = None
    tokens: int | None = None
    own_texts: int | None = None
    own_tokens: int | None = None
    new_tokens: int | None = None
    flops: float | None = None
    vector_bytes: int | None = None
    cache_bytes: int | None = None
    download_bytes: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class PlanCost:
    """The jobs, what their models have to be fetched for, and remarks."""

    jobs: list[JobCost]
    model_bytes: Mapping[str, int | None]
    notes: list[str]


@dataclass(slots=True)
class _Seen:
    """Which texts earlier jobs of the plan encode, and how far back in the embedding cache they are.

    Attributes:
        pools: (model, prefix, pool) -> distinct texts, whether they are a part of the pool, bytes written before.
        written: Bytes that the cache was given so far; it drops what was unused for longest.
    """

    pools: dict[tuple[str, ...], list[tuple[float, bool, float]]] = field(default_factory=dict)
    written: float = 0.0

    def since(self, key: tuple[str, ...], group: TextGroup) -> float | None:
        """Bytes written since an earlier job began to encode all texts of a group; None where none does."""
        found = [
            self.written - before
            for unique, is_cut, before in self.pools.get(key, ())
            if (unique == group.unique if is_cut else unique >= _SAME_SIZE * group.unique)
        ]
        return min(found, default=None)

    def add(self, key: tuple[str, ...], group: TextGroup, n_bytes: float) -> None:
        """A group is encoded, or read again."""
        self.pools.setdefault(key, []).append((group.unique, group.is_cut, self.written))
        self.written += n_bytes


def estimate(
    config: RunConfig,
    jobs: Sequence[Job],
    calibration: Calibration,
    states: Mapping[tuple[str, str], str] | None = None,
) -> PlanCost:
    """The cost of each job.

    Args:
        config: Whose jobs they are.
        jobs: In the order they will run.
        calibration: What earlier runs taught.
        states: (label, task) -> another state than waiting.

    Raises:
        DataError: Local data that changed since it was planned.
    """
    shapes = {model.label: find_shape(config, model) for model in config.models}
    loads: dict[tuple[object, ...], list[TextGroup] | None] = {}
    seen, fetched = _Seen(), set[tuple[str, str]]()
    notes: dict[str, None] = {}
    costs = []
    for job in jobs:
        key = (job.task.name, job.task.splits, job.task.subsets, job.rules.join_title)
        if key not in loads:
            loads[key] = workload(job.task, job.rules, job.limit)
        groups, shape = loads[key], shapes[job.model.label]
        state = (states or {}).get((job.model.label, job.task.name), "waiting")
        download = _download_bytes(job, groups, fetched)
        if groups is None or shape is None:
            notes[_why_unknown(job, groups)] = None
            texts = None if groups is None else sum(group.texts for group in groups)
            known = JobCost(job.model.label, job.task.name, state, texts, download_bytes=download)
            costs.append(replace(known, seconds=0.0) if state == "done" else known)
            continue
        costs.append(_cost(config, job, groups, shape, calibration, seen, state, download, notes))
    return PlanCost(costs, _model_bytes(config, jobs, shapes), list(notes))


def _why_unknown(job: Job, groups: Sequence[TextGroup] | None) -> str:
    if groups is None:
        return f"mteb has no statistics of {job.task.name}: its cost is unknown until fetched."
    if job.model.endpoint is not None:
        return f"{job.model.label} is served by {job.model.endpoint.url}: its tokens and time are not known here."
    return f"{job.model.model} is not known: its cost is unknown until fetched."


def _cost(  # noqa: PLR0913 - one place that joins what a cost is made of
    config: RunConfig,
    job: Job,
    groups: Sequence[TextGroup],
    shape: ModelShape,
    calibration: Calibration,
    seen: _Seen,
    state: str,
    download: int | None,
    notes: dict[str, None],
) -> JobCost:
    runtime, model = config.runtime, job.model
    max_length = model.max_length or shape.max_length
    vector_bytes = 4 * shape.width
    place = place_name(runtime.device)
    speed = calibration.seconds_a_token(place, speed_name(shape, model))
    totals = dict.fromkeys(("tokens", "own", "own_texts", "new", "new_texts", "flops", "seconds"), 0.0)
    for group in groups:
        prefix = job.rules.prefix(group.side)
        ratio = calibration.characters_a_token(shape.tokenizer, group.script, job.task.source or job.task.name)
        kept = np.minimum(SPECIAL_TOKENS + (group.characters + len(prefix)) / ratio, max_length)
        tokens, mean = float(kept.mean()) * group.unique, float((kept * kept).mean() / kept.mean())
        totals["tokens"] += tokens
        key, n_bytes = (*_model_key(model, shape), prefix, group.pool), group.unique * (vector_bytes + _VECTOR_OVERHEAD)
        since = seen.since(key, group) if runtime.cache else None
        kept_until_now = since is not None and since <= runtime.cache_gib * 2**30
        if since is None:
            totals["own"] += tokens
            totals["own_texts"] += group.unique
        elif not kept_until_now:
            gib = since / 2**30
            notes[f"{job.task.name} encodes texts again; runtime.cache_gib {gib:,.0f} would keep them."] = None
        seen.add(key, group, 0 if kept_until_now else n_bytes)
        if kept_until_now or state == "done":
            continue
        totals["new"] += tokens
        totals["new_texts"] += group.unique
        totals["flops"] += shape.flops(tokens, mean)
        totals["seconds"] += tokens * shape.layers * _at_length(speed, mean) if speed else 0.0
    n_unique = sum(group.unique for group in groups)
    largest = max((group.texts for group in groups if group.side != "passage"), default=0)
    streamed = max((min(group.texts, 16_384) for group in groups if group.side == "passage"), default=0)
    scoring = calibration.scoring_s(place, job.task.source or job.task.name)
    least, a_text = _OVERHEAD_S.get(job.task.type, _OTHER_OVERHEAD_S)
    beside = scoring if scoring is not None else least + a_text * n_unique
    return JobCost(
        label=model.label,
        task=job.task.name,
        state=state,
        texts=sum(group.texts for group in groups),
        unique_texts=round(n_unique),
        tokens=round(totals["tokens"]),
        own_texts=round(totals["own_texts"]),
        own_tokens=round(totals["own"]),
        new_tokens=round(totals["new"]),
        flops=totals["flops"],
        vector_bytes=(largest + streamed) * vector_bytes,
        cache_bytes=round(totals["new_texts"]) * (vector_bytes + _VECTOR_OVERHEAD) if runtime.cache else 0,
        download_bytes=download,
        seconds=0.0 if state == "done" else totals["seconds"] + beside if speed else None,
    )


def _at_length(seconds: Mapping[int, float], length: float) -> float:
    """Seconds a token and layer of texts of some length, between the measured ones."""
    lengths = sorted(seconds)
    return float(np.interp(length, lengths, [seconds[known] for known in lengths]))


def _model_key(model: ModelConfig, shape: ModelShape) -> tuple[str, ...]:
    """What decides a vector beside its text, as far as a config says it."""
    length = str(model.max_length or shape.max_length)
    return model.model, str(model.revision), length, str(model.pooling), model.dtype, model.backend


def speed_name(shape: ModelShape, model: ModelConfig) -> str:
    """What a measurement of speed is kept under, beside the place."""
    return f"{shape.name} {model.dtype}"


def find_shape(config: RunConfig, model: ModelConfig) -> ModelShape | None:
    """The shape of a config's model: by name, from its folder, or from the Hub's cache."""
    if model.endpoint is not None:
        return None
    known = shape_of_name(model.model)
    if known is not None or is_builtin(model.model):
        return known
    folder = config.resolve_path(model.model)
    if is_folder_name(model.model) or folder.is_dir():
        return shape_of_folder(folder, str(folder))
    snapshot = snapshot_folder("model", model.model, model.revision)
    return None if snapshot is None else shape_of_folder(snapshot, model.model)


def _download_bytes(job: Job, groups: Sequence[TextGroup] | None, fetched: set[tuple[str, str]]) -> int | None:
    """Dataset files not in the Hub's cache, about; each repository counts for the first job that reads it."""
    if job.task.data is not None:
        return 0
    repository = (job.task.dataset, job.task.dataset_revision)
    if repository in fetched or snapshot_folder("dataset", *repository) is not None:
        return 0
    fetched.add(repository)
    if groups is None:
        return None
    characters = sum(float(group.characters.mean()) * group.texts for group in groups if len(group.characters))
    return round(_FILE_BYTES_A_CHARACTER * characters)


def _model_bytes(
    config: RunConfig, jobs: Iterable[Job], shapes: Mapping[str, ModelShape | None]
) -> dict[str, int | None]:
    """Model name -> bytes of its weights that are to be fetched, single precision assumed; None: unknown."""
    wanted = {job.model.label for job in jobs}
    sizes: dict[str, int | None] = {}
    for model in config.models:
        if model.label not in wanted or is_builtin(model.model) or model.endpoint is not None:
            continue
        if is_folder_name(model.model) or config.resolve_path(model.model).is_dir():
            continue
        if snapshot_folder("model", model.model, model.revision) is None:
            shape = shapes[model.label]
            sizes[model.model] = None if shape is None else _WEIGHT_BYTES * shape.parameters
    return sizes


def jobs_that_fit(costs: Sequence[JobCost], hours: float) -> set[tuple[str, str]]:
    """(label, task) of the jobs that fit into some hours, the cheapest first; stored ones always do.

    Jobs whose time is unknown are left out.
    """
    left, chosen = hours * 3_600, set[tuple[str, str]]()
    for cost in sorted(costs, key=lambda cost: float("inf") if cost.seconds is None else cost.seconds):
        if cost.state == "done":
            chosen.add((cost.label, cost.task))
        elif cost.seconds is not None and cost.seconds <= left:
            left -= cost.seconds
            chosen.add((cost.label, cost.task))
    return chosen


def seconds_on(device: str, flops: float) -> float:
    """Time of the operations on a card of `DEVICES`, at the assumed share of its peak."""
    return flops / (DEVICES[device] * 1e12 * UTILISATION)
