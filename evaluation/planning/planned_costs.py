"""Sets the planned cost of each job beside its actual cost, and calibrates later plans with the difference."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.config.run_config import RunConfig
from evaluation.errors import EvaluationError
from evaluation.jobs import Job
from evaluation.planning.calibration import Calibration
from evaluation.planning.estimate import SPECIAL_TOKENS, JobCost, estimate, find_shape
from evaluation.planning.text_groups import script_of
from evaluation.records.job_record import JobRecord
from evaluation.records.run_manifest import Cost, PlanAndTruth
from evaluation.system.machine import place_name


class PlannedCosts:
    """The costs of a run's jobs, estimated before the run."""

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

    def compare(self, job: Job, record: JobRecord | None) -> PlanAndTruth | None:
        """Returns the planned cost of a job, and the actual cost once it has a record; None if it was not planned."""
        cost = self._costs.get(job.key)
        if cost is None:
            return None
        plan = Cost(**{name: getattr(cost, name) for name in Cost.model_fields})
        if record is None or record.timing is None or record.audit is None:
            return PlanAndTruth(plan=plan)
        sides = record.audit.sides.values()
        truth = Cost(
            texts=sum(side.texts for side in sides),
            unique_texts=sum(side.unique_texts for side in sides),
            tokens=sum(side.tokens_kept for side in sides),
            new_tokens=record.timing.tokens,
            seconds=record.timing.total_s,
        )
        return PlanAndTruth(plan=plan, truth=truth)

    def calibrate(self, job: Job, record: JobRecord) -> None:
        """Stores characters per token and the time besides encoding of a job that ended with a score."""
        shape = find_shape(self._config, job.model)
        is_elsewhere = self._config.runtime.executor != "local"  # timings of other machines say nothing of this one
        if record.timing is None or record.audit is None or shape is None or job.limit is not None or is_elsewhere:
            return
        task = job.task.source or job.task.name
        scoring_s = record.timing.total_s - record.timing.encoding_s
        self._calibration.note_scoring(place_name(self._config.runtime.device), task, scoring_s)
        sides = record.audit.sides.values()
        tokens = sum(side.tokens - SPECIAL_TOKENS * side.unique_texts for side in sides)
        characters = sum(side.characters for side in sides)
        script = script_of([text for side in sides for text in side.examples])
        self._calibration.note_texts(shape.tokenizer, script, task, characters, tokens)
        self._calibration.save()
