"""Runs jobs on a Ray cluster: small ones whole, each in a worker; of large ones every shard, on all workers.

Jobs go by their expected tokens, the longest first, model by model. A job that is more than a worker's fair share would
leave the others idle at the end: its texts are read and its scores computed here, in the driver, and the workers encode
and search its shards.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

import ray

from evaluation.config import RunConfig
from evaluation.errors import EvaluationError, ModelError
from evaluation.execution.job_running import JobOutcome, LoadedModel, failed_job, run_job
from evaluation.execution.local_executor import job_fingerprint
from evaluation.execution.ray_pool import ClusterModels, Work, WorkerPool
from evaluation.execution.reporting import Reporter
from evaluation.execution.resolving import ResolvedModel
from evaluation.execution.spread_encoder import SpreadEncoder
from evaluation.plan import Job

_SHOW_EVERY_S = 1.0
_FAIR_PARTS = 2
"""A job with more than 1 / (2 x workers) of all tokens is spread."""


class RayExecutor:
    """The workers of a cluster, each with one model.

    Args:
        config: The run's config.
        reporter: Where progress is shown.

    Raises:
        ConnectionError: There is no cluster at `runtime.ray.address`.
    """

    def __init__(self, config: RunConfig, reporter: Reporter) -> None:
        self._config, self._reporter = config, reporter
        self._next_show = math.inf  # until the run has begun
        self._spread_jobs: list[str] = []
        _connect(config.runtime.ray.address)
        self._pool = WorkerPool(config)

    def fingerprint(self, job: Job) -> str:
        """The job's fingerprint, its model as the workers run it.

        Raises:
            WorkerError: No worker comes.
        """
        return job_fingerprint(job, self._resolved(job))

    def run(self, jobs: Sequence[Job], costs: Mapping[tuple[str, str], int]) -> Iterator[tuple[Job, JobOutcome]]:
        """Each job with its outcome, as they end."""
        if not jobs:
            return
        self._next_show = 0.0
        order = {label: place for place, label in enumerate(dict.fromkeys(job.model.label for job in jobs))}
        tokens = {_key(job): costs.get(_key(job), 0) for job in jobs}
        self._models()
        fair = sum(tokens.values()) / (_FAIR_PARTS * self._pool.n_workers)
        longest_first = sorted(jobs, key=lambda job: (order[job.model.label], -tokens[_key(job)]))
        whole: dict[Future[JobOutcome], Job] = {}
        spread = [job for job in longest_first if tokens[_key(job)] > fair]
        for job in longest_first:
            if job not in spread:
                urgency = (order[job.model.label], 1, -tokens[_key(job)])
                whole[self._pool.submit(Work(_running(job), job.name, urgency))] = job
        for job in spread:
            self._spread_jobs.append(job.name)
            self._reporter.job_started(job)
            yield job, self._run_spread(job, (order[job.model.label], 0, -tokens[_key(job)]))
            yield from self._ended(whole, timeout=0)
        while whole:
            yield from self._ended(whole, timeout=0.5)
            self._show()

    def facts(self) -> dict[str, Any]:
        """For run.json: the workers, what was spread and what was done again."""
        return {"kind": "ray", "spread": self._spread_jobs, **self._pool.facts()}

    def close(self) -> None:
        """Let the workers go, and a Ray that was started for them."""
        self._pool.close()
        ray.shutdown()

    def _run_spread(self, job: Job, urgency: tuple[float, ...]) -> JobOutcome:
        def load() -> LoadedModel:
            resolved = self._resolved(job)
            if isinstance(resolved, EvaluationError):
                raise resolved
            _, hardware = self._models()
            encoder = SpreadEncoder(
                self._pool, job.model.label, resolved, name=job.name, urgency=urgency, on_wait=self._show
            )
            return LoadedModel(resolved, encoder, hardware)

        return run_job(job, self.fingerprint(job), load, store_texts=self._config.runtime.store_texts)

    def _ended(self, whole: dict[Future[JobOutcome], Job], timeout: float) -> Iterator[tuple[Job, JobOutcome]]:
        """Whole jobs that have ended."""
        for future in wait(whole, timeout=timeout, return_when=FIRST_COMPLETED).done if whole else ():
            job = whole.pop(future)
            error = future.exception()
            if isinstance(error, Exception):
                yield job, failed_job(job, self.fingerprint(job), error, getattr(error, "log", None))
            else:
                yield job, future.result()

    def _resolved(self, job: Job) -> ResolvedModel | EvaluationError:
        models, _ = self._models()
        found = models[job.model.label]
        return found if isinstance(found, ResolvedModel) else ModelError(found)

    def _models(self) -> ClusterModels:
        """Waits for the first worker."""
        while True:
            try:
                return self._pool.models.result(timeout=0.5)
            except TimeoutError:
                self._show()

    def _show(self) -> None:
        """Tell how far the workers are, now and then."""
        while self._pool.notices:
            self._reporter.notice(self._pool.notices.popleft())
        if time.monotonic() >= self._next_show:
            self._next_show = time.monotonic() + _SHOW_EVERY_S
            self._reporter.workers_advanced(self._pool.progress())


def _running(job: Job) -> Callable[[Any], Any]:
    return lambda worker: worker.run_job.options(concurrency_group="work").remote(job)


def _connect(address: str | None) -> None:
    """Join a cluster, or start Ray on this machine.

    Raises:
        ConnectionError: There is none at the address.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    dashboard = False if address is None else None
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=dashboard,
        )
    finally:
        for number, handler in before.items():  # Ray puts its own in their place
            signal.signal(number, handler)


def _key(job: Job) -> tuple[str, str]:
    return job.model.label, job.task.name
