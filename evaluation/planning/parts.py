"""Divides a config's jobs into parts of about equal cost, for processes that share the work without communicating.

The division is a function of the config and its data alone, in whole numbers: what a machine has cached, stored or
measured does not count, so that every machine finds the same parts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from evaluation.config.model_config import ModelConfig
from evaluation.config.run_config import RunConfig
from evaluation.errors import UsageError
from evaluation.jobs import Job
from evaluation.models.names import is_bm25, is_builtin, is_folder_name
from evaluation.models.sizes import ModelShape, shape_of_folder, shape_of_name

_PART = re.compile(r"(\d{1,5})/(\d{1,5})")
_ARRAY = "SLURM_ARRAY_TASK_"
_UNKNOWN_SHAPE = "intfloat/e5-base-v2"
"""Stands for models whose size is known only where they are cached, and for served ones."""
_CHARACTERS_PER_TOKEN = 4
_JOB_WORK, _TEXT_WORK = 10**12, 10**8
"""Work of a job and of each of its distinct texts besides encoding, in operations."""


class Part(NamedTuple):
    """One of several parts of a run, counted from 1."""

    number: int
    n_parts: int

    def __str__(self) -> str:
        return f"{self.number}/{self.n_parts}"


def parse_part(text: str, environment: Mapping[str, str]) -> Part:
    """Parses the value of --part: K/N, or auto for the task of a Slurm array.

    Args:
        environment: Holds Slurm's variables.

    Raises:
        UsageError: It names no part, or no array's task runs this process.

    >>> parse_part("3/8", {})
    Part(number=3, n_parts=8)
    >>> parse_part("auto", {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "4"})
    Part(number=1, n_parts=4)
    """
    if text == "auto":
        return _part_of_array(environment)
    found = _PART.fullmatch(text)
    part = Part(int(found[1]), int(found[2])) if found else None
    if part is None or not 1 <= part.number <= part.n_parts:
        raise UsageError(f"--part {text!r} is not a part; write K/N with K from 1 to N, such as 3/8, or auto.")
    return part


def _part_of_array(environment: Mapping[str, str]) -> Part:
    names = [_ARRAY + name for name in ("ID", "COUNT")]
    try:
        number, count = (int(environment[name]) for name in names)
        first = int(environment.get(_ARRAY + "MIN", 1))
        step = int(environment.get(_ARRAY + "STEP", 1))
    except (KeyError, ValueError):
        raise UsageError(
            f"--part auto needs {' and '.join(names)}, which Slurm sets in a job array; start it with sbatch --array, "
            "or write --part K/N."
        ) from None
    place, rest = divmod(number - first, max(step, 1))
    if rest or not 0 <= place < count:
        raise UsageError(
            f"--part auto: task {number} of an array of {count} tasks that begins with {first} is not in an unbroken "
            "row; use an array such as --array=1-8, or write --part K/N."
        )
    return Part(place + 1, count)


def jobs_of_part(config: RunConfig, jobs: Sequence[Job], part: Part) -> list[Job]:
    """Returns the jobs of a part, in their order; each job is in one part.

    Raises:
        DataError: Local data changed since the config was checked.
    """
    known = {job.key: _work(config, job) for job in jobs}
    sizes = [work for work in known.values() if work is not None]
    usual = sum(sizes) // len(sizes) if sizes else _JOB_WORK
    work = {key: usual if size is None else size for key, size in known.items()}
    loads = [0] * part.n_parts
    chosen = set()
    for key in sorted(work, key=lambda key: (-work[key], key)):  # the largest first, each to the least loaded part
        place = loads.index(min(loads))
        loads[place] += work[key]
        if place == part.number - 1:
            chosen.add(key)
    return [job for job in jobs if job.key in chosen]


def _work(config: RunConfig, job: Job) -> int | None:
    """Returns the operations of a job in about; None where mteb has no statistics of its dataset."""
    from evaluation.planning.workload import workload

    groups = workload(job.task, job.rules, job.limit)
    if groups is None:
        return None
    shape = _shape(config, job.model)
    per_token = 2 * shape.layers * shape.width * (4 * shape.width + 2 * shape.inner_width)
    if is_bm25(job.model.model):
        per_token = 0  # it encodes nothing
    most = _CHARACTERS_PER_TOKEN * (job.model.max_length or shape.max_length)
    total = _JOB_WORK
    for group in groups:
        characters = group.characters.astype("int64").clip(max=most)
        mean_tokens = int(characters.sum()) // (_CHARACTERS_PER_TOKEN * max(len(characters), 1)) + 1
        total += round(group.unique) * (_TEXT_WORK + mean_tokens * per_token)
    return total


def _shape(config: RunConfig, model: ModelConfig) -> ModelShape:
    shape = shape_of_name(model.model)
    is_folder = model.endpoint is None and not is_builtin(model.model)
    if shape is None and is_folder and (is_folder_name(model.model) or config.resolve_path(model.model).is_dir()):
        shape = shape_of_folder(config.resolve_path(model.model), model.model)
    usual = shape_of_name(_UNKNOWN_SHAPE)
    assert usual is not None, _UNKNOWN_SHAPE
    return shape or usual
