"""Plan beside truth: what each job was expected to cost, what it did cost, and what later plans learn of it."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.config.models import RunConfig
from evaluation.errors import EvaluationError
from evaluation.jobs import Job
from evaluation.planning.estimate import SPECIAL_TOKENS, JobCost, estimate, find_shape
from evaluation.planning.history import Calibration
from evaluation.planning.workload import workload
from evaluation.records.job_record import JobRecord
from evaluation.records.run_manifest import Cost, PlanAndTruth
from evaluation.system.machine import place_name


class Estimates:
    """The costs of a run's jobs, made before it; the records come in as jobs end.

    Args:
        config: The run's config.
        jobs: Those that will run.
    """

    def __init__(self, config: RunConfig, jobs: Sequence[Job]) -> None:
        self._config, self._calibration = config, Calibration()
        self._costs: dict[tuple[str, str], JobCost] = {}
        try:
            found = estimate(config, jobs, self._calibration)
        except EvaluationError:  # a job that can't be read says so itself when it runs
            return
        self._costs = {(cost.label, cost.task): cost for cost in found.jobs}

    def new_tokens(self, job: Job) -> int | None:
        """Tokens that the job is expected to encode; None where that is not known."""
        cost = self._costs.get((job.model.label, job.task.name))
        return None if cost is None else cost.new_tokens

    def beside(self, job: Job, record: JobRecord | None) -> PlanAndTruth | None:
        """Expected tokens and seconds of a job, and the true ones once it ran; None where nothing was expected."""
        cost = self._costs.get((job.model.label, job.task.name))
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

    def learn(self, job: Job, record: JobRecord) -> None:
        """Keep characters a token and the time beside encoding of a job that ended with a score."""
        shape = find_shape(self._config, job.model)
        is_elsewhere = self._config.runtime.executor != "local"  # and so is what it takes there
        if record.timing is None or record.audit is None or shape is None or job.limit is not None or is_elsewhere:
            return
        task = job.task.source or job.task.name
        beside = record.timing.total_s - record.timing.encoding_s
        self._calibration.note_scoring(place_name(self._config.runtime.device), task, beside)
        sides = record.audit.sides.values()
        n_texts = sum(side.unique_texts for side in sides)
        characters, tokens = sum(side.characters for side in sides), sum(side.tokens for side in sides)
        groups = workload(job.task, job.rules, None) or []
        if groups:
            tokens -= SPECIAL_TOKENS * n_texts
            self._calibration.note_texts(shape.tokenizer, groups[0].script, task, characters, tokens)
        self._calibration.save()
