"""Sets the planned cost of each job beside its actual cost, and calibrates later plans with the difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluation.config.models import RunConfig
from evaluation.errors import EvaluationError
from evaluation.jobs import Job
from evaluation.planning.calibration import Calibration
from evaluation.planning.estimate import SPECIAL_TOKENS, JobCost, estimate, find_shape
from evaluation.planning.workload import workload
from evaluation.records.store import JobRecord
from evaluation.system.machine import place_name

_PLANNED = ("texts", "unique_texts", "tokens", "new_tokens", "seconds")


class PlannedCosts:
    """The costs of a run's jobs, estimated before the run.

    Args:
        config: The run's config.
        jobs: The jobs that will run.
    """

    def __init__(self, config: RunConfig, jobs: Sequence[Job]) -> None:
        self._config, self._calibration = config, Calibration()
        self._costs: dict[tuple[str, str], JobCost] = {}
        try:
            plan = estimate(config, jobs, self._calibration)
        except EvaluationError:  # a job that can't be read reports that itself when it runs
            return
        self._costs = {(cost.label, cost.task): cost for cost in plan.jobs}

    def new_tokens(self) -> dict[tuple[str, str], int]:
        """Returns (label, task) -> tokens that the job is expected to encode, for jobs where that is known."""
        return {key: cost.new_tokens for key, cost in self._costs.items() if cost.new_tokens is not None}

    def compare(self, job: Job, record: JobRecord | None) -> dict[str, Any]:
        """Returns the planned texts, tokens and seconds of a job, and the actual ones once it has a record."""
        cost = self._costs.get(job.key)
        if cost is None:
            return {}
        plan = {name: getattr(cost, name) for name in _PLANNED}
        if record is None or not record.timing:
            return {"plan": plan}
        sides = list(record.audit.get("sides", {}).values())
        truth = {
            "texts": sum(side["texts"] for side in sides),
            "unique_texts": sum(side["unique_texts"] for side in sides),
            "tokens": sum(side["tokens_kept"] for side in sides),
            "new_tokens": record.timing.get("tokens"),
            "seconds": record.timing.get("total_s"),
        }
        return {"plan": plan, "truth": truth}

    def calibrate(self, job: Job, record: JobRecord) -> None:
        """Stores characters per token and the time besides encoding of a job that ended with a score."""
        shape = find_shape(self._config, job.model)
        is_elsewhere = self._config.runtime.executor != "local"  # timings of other machines say nothing of this one
        if record.state != "done" or shape is None or job.limit is not None or is_elsewhere:
            return
        task = job.task.source or job.task.name
        scoring_s = record.timing["total_s"] - record.timing["encoding_s"]
        self._calibration.note_scoring(place_name(self._config.runtime.device), task, scoring_s)
        groups = workload(job.task, job.rules, None)
        if groups:
            sides = record.audit["sides"].values()
            special_tokens = SPECIAL_TOKENS * sum(side["unique_texts"] for side in sides)
            tokens = sum(side["tokens"] for side in sides) - special_tokens
            characters = sum(side["characters"] for side in sides)
            self._calibration.note_texts(shape.tokenizer, groups[0].script, task, characters, tokens)
        self._calibration.save()
