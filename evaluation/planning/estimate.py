"""Estimates what jobs will cost: texts, tokens, operations, download, disk, memory, time. Needs no network.

Texts that several jobs encode in the same way are counted once, for the first of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evaluation.config.model_config import ModelConfig
from evaluation.config.run_config import RunConfig
from evaluation.hub.cache import snapshot_folder
from evaluation.jobs import Job
from evaluation.models.names import has_no_checkpoint, is_bm25, is_builtin, is_folder_name, is_in_memory
from evaluation.models.sizes import ModelShape, shape_of_folder, shape_of_name
from evaluation.planning.calibration import Calibration
from evaluation.planning.text_groups import Script, TextGroup
from evaluation.planning.workload import workload
from evaluation.system.machine import place_name

SPECIAL_TOKENS = 2
_VECTOR_OVERHEAD = 24  # bytes per cached text besides its vector (hash and token count): encoding/cache.py
_SAME_SIZE = 0.99  # two collections of one corpus that differ in so few texts share all but a shard of each
_FILE_BYTES_PER_CHARACTER = 0.6  # parquet files of English text; only the Hub knows the actual sizes
_WEIGHT_BYTES = 4
_STREAMED_TEXTS = 16_384  # documents whose vectors are held at once: encoding/batching.py
_SCORING_S: Mapping[str, tuple[float, float]] = {
    "Retrieval": (0.2, 1e-4),
    "Clustering": (2.5, 1e-3),
    "Classification": (1.0, 1e-3),
    "MultilabelClassification": (1.0, 2e-3),
    "PairClassification": (0.1, 1e-3),
}
"""Seconds besides encoding, until a task has run here: a constant and seconds per distinct text (on two cores)."""
_OTHER_SCORING_S = (0.2, 2e-4)


@dataclass(frozen=True, slots=True)
class JobCost:
    """What one job will cost. None means unknown.

    Attributes:
        label, task: Identify the job.
        state: "done", "waiting", "damaged" (the job runs again) or "unknown until fetched".
        texts: Texts handed to the encoder.
        unique_texts: Distinct texts among them.
        tokens: Tokens of the distinct texts, after truncation.
        own_texts, own_tokens: The part of these that no earlier job encodes.
        new_tokens: Tokens that will go through the model.
        flops: Operations for the new tokens.
        vector_bytes: Size of the largest set of vectors held in memory at once.
        cache_bytes: Size of the new vectors in the cache on disk.
        download_bytes: Approximate size of the dataset files that are not in the Hub's cache.
        seconds: Time on this machine, loading and scoring included.
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
class RunCost:
    """The costs of all jobs, the bytes to fetch for each model (None: unknown), and remarks."""

    jobs: list[JobCost]
    model_bytes: Mapping[str, int | None]
    notes: list[str]


def estimate(
    config: RunConfig,
    jobs: Sequence[Job],
    calibration: Calibration,
    states: Mapping[tuple[str, str], str] | None = None,
) -> RunCost:
    """Returns the cost of each job.

    Args:
        jobs: The jobs, in the order in which they will run.
        calibration: What earlier runs and measurements taught.
        states: (label, task) -> state, for jobs whose state is not "waiting".

    Raises:
        DataError: Local data changed since the config was checked.

    >>> cost = estimate(config, build_jobs(config), Calibration())  # doctest: +SKIP
    >>> sum(job.new_tokens for job in cost.jobs)  # doctest: +SKIP
    1843000
    """
    shapes = {model.label: find_shape(config, model) for model in config.models}
    run = _RunEstimate(config, calibration, shapes)
    costs = [run.cost(job, (states or {}).get(job.key, "waiting")) for job in jobs]
    return RunCost(costs, _model_bytes(config, jobs, shapes), [*run.notes, *run.cache_notes()])


@dataclass(slots=True)
class _EncodedTexts:
    """The texts of one pool that earlier jobs encode: the size of the largest whole pool, and the sizes of parts."""

    whole: float = 0.0
    parts: set[float] = field(default_factory=set)

    def holds(self, group: TextGroup) -> bool:
        return self.whole >= _SAME_SIZE * group.unique or group.unique in self.parts

    def add(self, group: TextGroup) -> None:
        if group.is_cut:
            self.parts.add(group.unique)
        else:
            self.whole = max(self.whole, group.unique)


@dataclass(slots=True)
class _Totals:
    """Sums over the groups of a job: all tokens, and texts, tokens, operations and seconds of what is encoded anew."""

    tokens: float = 0.0
    own_texts: float = 0.0
    own_tokens: float = 0.0
    flops: float = 0.0
    encoding_s: float = 0.0


class _RunEstimate:
    """Estimates one job after the other and remembers which texts are encoded by then."""

    def __init__(self, config: RunConfig, calibration: Calibration, shapes: Mapping[str, ModelShape | None]) -> None:
        self._config, self._calibration, self._shapes = config, calibration, shapes
        self._place = place_name(config.runtime.device)
        self._groups: dict[tuple[object, ...], list[TextGroup] | None] = {}
        self._kept: dict[tuple[int, int, float, int], tuple[float, float]] = {}
        self._encoded: dict[tuple[str, ...], _EncodedTexts] = {}
        self._fetched: set[tuple[str, str]] = set()
        self._cache_bytes = 0.0
        self.notes: dict[str, None] = {}

    def cost(self, job: Job, state: str) -> JobCost:
        """Returns the cost of the next job."""
        groups, shape = self._groups_of(job), self._shapes[job.model.label]
        download = self._download_bytes(job, groups)
        if groups is not None and is_bm25(job.model.model):
            return self._cost_of_bm25(job, state, groups, download)
        if groups is None or shape is None:
            self.notes[_why_unknown(job, groups)] = None
            texts = None if groups is None else sum(group.texts for group in groups)
            seconds = 0.0 if state == "done" else None
            return JobCost(*job.key, state, texts, download_bytes=download, seconds=seconds)
        totals = self._totals(job, groups, shape)
        bytes_per_vector = 4 * shape.width
        largest = max((group.texts for group in groups if group.side != "passage"), default=0)
        streamed = max((min(group.texts, _STREAMED_TEXTS) for group in groups if group.side == "passage"), default=0)
        n_unique = sum(group.unique for group in groups)
        is_measured = self._seconds_per_token(job.model, shape) is not None
        cost = JobCost(
            *job.key,
            state,
            texts=sum(group.texts for group in groups),
            unique_texts=round(n_unique),
            tokens=round(totals.tokens),
            own_texts=round(totals.own_texts),
            own_tokens=round(totals.own_tokens),
            new_tokens=round(totals.own_tokens),
            flops=totals.flops,
            vector_bytes=(largest + streamed) * bytes_per_vector,
            cache_bytes=self._config.runtime.cache * round(totals.own_texts) * (bytes_per_vector + _VECTOR_OVERHEAD),
            download_bytes=download,
            seconds=totals.encoding_s + self._scoring_s(job, n_unique) if is_measured else None,
        )
        self._cache_bytes += cost.cache_bytes or 0
        if state == "done":
            return replace(cost, new_tokens=0, flops=0.0, cache_bytes=0, seconds=0.0)
        return cost

    def _cost_of_bm25(self, job: Job, state: str, groups: Sequence[TextGroup], download: int | None) -> JobCost:
        """Returns the cost of a job that encodes nothing."""
        return JobCost(
            *job.key,
            state,
            texts=sum(group.texts for group in groups),
            new_tokens=0,
            flops=0.0,
            cache_bytes=0,
            download_bytes=download,
            seconds=0.0 if state == "done" else self._scoring_s(job, sum(group.unique for group in groups)),
        )

    def cache_notes(self) -> list[str]:
        """Returns a warning if the vectors of all jobs do not fit into the cache."""
        limit, needed = self._config.runtime.cache_gib, self._cache_bytes / 2**30
        if needed <= limit:
            return []
        return [
            f"The vectors of all jobs take {needed:,.1f} GiB, but the cache is limited to {limit:g} GiB, so that texts "
            f"shared by several jobs may be encoded again; raise runtime.cache_gib to {np.ceil(needed):.0f}."
        ]

    def _groups_of(self, job: Job) -> list[TextGroup] | None:
        key = (job.task.name, job.task.splits, job.task.subsets, job.rules.join_title)
        if key not in self._groups:
            self._groups[key] = workload(job.task, job.rules, job.limit)
        return self._groups[key]

    def _totals(self, job: Job, groups: Sequence[TextGroup], shape: ModelShape) -> _Totals:
        totals, model, max_length = _Totals(), job.model, job.model.max_length or shape.max_length
        speed = sorted((self._seconds_per_token(model, shape) or {}).items())
        lengths, seconds = [length for length, _ in speed], [own for _, own in speed]
        task = job.task.source or job.task.name
        vectors = (model.model, str(model.revision), str(max_length), str(model.pooling), model.dtype, model.backend)
        ratios: dict[Script, float] = {}
        for group in groups:
            prefix = job.rules.prefix(group.side)
            if group.script not in ratios:
                ratios[group.script] = self._calibration.characters_per_token(shape.tokenizer, group.script, task)
            per_text, mean = self._lengths(group, len(prefix), ratios[group.script], max_length)
            tokens = per_text * group.unique
            totals.tokens += tokens
            if self._is_encoded((*vectors, prefix, group.pool), group):
                continue
            totals.own_texts += group.unique
            totals.own_tokens += tokens
            totals.flops += shape.flops(tokens, mean)
            if speed:  # between the measured text lengths
                totals.encoding_s += tokens * shape.layers * float(np.interp(mean, lengths, seconds))
        return totals

    def _lengths(self, group: TextGroup, prefix: int, ratio: float, max_length: int) -> tuple[float, float]:
        """Returns the mean number of tokens per text, and of the text that a token is in; models share the result."""
        key = (id(group), prefix, ratio, max_length)  # groups are kept as long as this object
        if key not in self._kept:
            kept = np.minimum(SPECIAL_TOKENS + (group.characters + prefix) / ratio, max_length)
            total = float(kept.sum())
            self._kept[key] = total / len(kept), float(kept @ kept) / total
        return self._kept[key]

    def _is_encoded(self, vectors: tuple[str, ...], group: TextGroup) -> bool:
        """Returns whether an earlier job encodes the group; if not, it counts as encoded from now on."""
        if not self._config.runtime.cache:
            return False
        encoded = self._encoded.setdefault(vectors, _EncodedTexts())
        is_known = encoded.holds(group)
        encoded.add(group)
        return is_known

    def _seconds_per_token(self, model: ModelConfig, shape: ModelShape) -> Mapping[int, float] | None:
        return self._calibration.seconds_per_token(self._place, speed_name(shape, model))

    def _scoring_s(self, job: Job, n_unique: float) -> float:
        measured = self._calibration.scoring_s(self._place, job.task.source or job.task.name)
        constant, per_text = _SCORING_S.get(job.task.type, _OTHER_SCORING_S)
        return constant + per_text * n_unique if measured is None else measured

    def _download_bytes(self, job: Job, groups: Sequence[TextGroup] | None) -> int | None:
        """Each repository counts for the first job that reads it."""
        if job.task.data is not None:
            return 0
        repository = (job.task.dataset, job.task.dataset_revision)
        if repository in self._fetched or snapshot_folder("dataset", *repository) is not None:
            return 0
        self._fetched.add(repository)
        if groups is None:
            return None
        characters = sum(float(group.characters.mean()) * group.texts for group in groups if len(group.characters))
        return round(_FILE_BYTES_PER_CHARACTER * characters)


def _why_unknown(job: Job, groups: Sequence[TextGroup] | None) -> str:
    if groups is None:
        return f"mteb has no statistics of {job.task.name}; its cost is unknown until its data is fetched."
    if job.model.endpoint is not None:
        return f"{job.model.label} is served by {job.model.endpoint.url}; its tokens and time are not known here."
    if is_in_memory(job.model.model):
        return f"{job.model.label} embeds by its own encode; its tokens and time are not known here."
    return f"the size of {job.model.model} is not known; its cost is unknown until the model is fetched."


def speed_name(shape: ModelShape, model: ModelConfig) -> str:
    """Returns the name under which a speed measurement is kept, besides the place."""
    return f"{shape.name} {model.dtype}"


def find_shape(config: RunConfig, model: ModelConfig) -> ModelShape | None:
    """Returns the shape of a model by its name, from its folder, or from the Hub's cache; None if unknown."""
    if model.endpoint is not None or has_no_checkpoint(model.model):
        return None
    known = shape_of_name(model.model)
    if known is not None or is_builtin(model.model):
        return known
    folder = config.resolve_path(model.model)
    if is_folder_name(model.model) or folder.is_dir():
        return shape_of_folder(folder, str(folder))
    snapshot = snapshot_folder("model", model.model, model.revision)
    return None if snapshot is None else shape_of_folder(snapshot, model.model)


def _model_bytes(
    config: RunConfig, jobs: Iterable[Job], shapes: Mapping[str, ModelShape | None]
) -> dict[str, int | None]:
    """Returns model name -> bytes of weights to fetch, assuming single precision; None: unknown."""
    wanted = {job.model.label for job in jobs}
    sizes: dict[str, int | None] = {}
    for model in config.models:
        is_here = is_builtin(model.model) or has_no_checkpoint(model.model)
        if model.label not in wanted or is_here or model.endpoint is not None:
            continue
        if is_folder_name(model.model) or config.resolve_path(model.model).is_dir():
            continue
        if snapshot_folder("model", model.model, model.revision) is None:
            shape = shapes[model.label]
            sizes[model.model] = None if shape is None else _WEIGHT_BYTES * shape.parameters
    return sizes


def jobs_that_fit(costs: Sequence[JobCost], hours: float) -> set[tuple[str, str]]:
    """Returns (label, task) of the jobs that fit into some hours, shortest first; stored jobs always fit.

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
