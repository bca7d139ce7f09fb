"""Runs jobs on a Ray cluster: small ones whole, each in a worker; of large ones every shard, on all workers.

Jobs go by their expected tokens, the longest first, model by model. A job that is more than a worker's fair share would
leave the others idle at the end: its texts are read and its scores computed here, in the driver, and the workers encode
and search its shards.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Any

import ray

from evaluation.config.models import RunConfig
from evaluation.errors import EvaluationError, ModelError
from evaluation.execution.job_running import JobOutcome, LoadedModel, failed_job, run_job
from evaluation.execution.local_executor import job_fingerprint
from evaluation.execution.ray.address import no_cluster
from evaluation.execution.ray.pool import Work, WorkerPool, call_of
from evaluation.execution.ray.spread_encoder import SpreadEncoder
from evaluation.execution.ray.staff import ClusterModels
from evaluation.execution.reporting import Reporter
from evaluation.execution.resolving import ResolvedModel
from evaluation.jobs import Job

_SHOW_EVERY_S, _LOOK_S, _JOIN_S = 1.0, 0.5, 10.0
_FAIR_PARTS = 2
"""A job with more than 1 / (2 x workers) of all tokens is spread."""


class RayExecutor:
    """The workers of a cluster, each with one model.

    Args:
        config: The run's config.
        reporter: Where progress is shown.

    Raises:
        UsageError: There is no cluster at `runtime.ray.address`.
    """

    def __init__(self, config: RunConfig, reporter: Reporter) -> None:
        self._config, self._reporter = config, reporter
        self._next_show = math.inf  # until the run has begun
        self._spread_jobs: list[str] = []
        self._is_closing = threading.Event()
        self._spreading: threading.Thread | None = None
        _connect(config.runtime.ray.address)
        try:
            self._pool = WorkerPool(config)
        except BaseException:
            ray.shutdown()
            raise

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
        self._models()
        order = {label: number for number, label in enumerate(dict.fromkeys(job.model.label for job in jobs))}
        tokens = {_key(job): costs.get(_key(job), 0) for job in jobs}
        fair = sum(tokens.values()) / (_FAIR_PARTS * self._pool.n_workers)
        ending: dict[Future[JobOutcome], Job] = {}
        spread: list[tuple[Job, tuple[float, ...], Future[JobOutcome]]] = []
        for job in sorted(jobs, key=lambda job: (order[job.model.label], -tokens[_key(job)])):
            is_spread = tokens[_key(job)] > fair and job.model.endpoint is None
            urgency = (order[job.model.label], 0 if is_spread else 1, -tokens[_key(job)])
            if is_spread:
                self._spread_jobs.append(job.name)
                spread.append((job, urgency, Future()))
                ending[spread[-1][2]] = job
            else:
                ending[self._pool.submit(Work(call_of("run_job", job), job.name, job.model.label, urgency))] = job
        self._spreading = threading.Thread(target=self._run_spread, args=(spread,), name="spread-jobs", daemon=True)
        self._spreading.start()
        while ending:
            for future in wait(ending, timeout=_LOOK_S, return_when=FIRST_COMPLETED).done:
                yield self._outcome(ending.pop(future), future)
            self._show()

    def facts(self) -> dict[str, Any]:
        """For run.json: the workers, what was spread and what was done again."""
        return {"kind": "ray", "spread": self._spread_jobs, **self._pool.facts()}

    def close(self) -> None:
        """Let the workers go, and a Ray that was started for them."""
        self._is_closing.set()
        try:
            self._pool.close()  # which ends a spread job: its work fails
            if self._spreading is not None:
                self._spreading.join(timeout=_JOIN_S)
        finally:
            ray.shutdown()

    def _run_spread(self, jobs: Sequence[tuple[Job, tuple[float, ...], Future[JobOutcome]]]) -> None:
        """One after the other: mteb's tasks share random state. Whole jobs are stored meanwhile."""
        for job, urgency, future in jobs:
            if self._is_closing.is_set():
                return
            load = partial(self._load, job, urgency)
            try:
                future.set_result(
                    run_job(job, self.fingerprint(job), load, store_texts=self._config.runtime.store_texts)
                )
            except BaseException as error:  # a library that ends the process, say: who waits must be told
                future.set_exception(error)

    def _load(self, job: Job, urgency: tuple[float, ...]) -> LoadedModel:
        resolved = self._resolved(job)
        if isinstance(resolved, EvaluationError):
            raise resolved
        _, hardware = self._models()
        encoder = SpreadEncoder(self._pool, job.model.label, resolved, name=job.name, urgency=urgency)
        return LoadedModel(resolved, encoder, hardware)

    def _outcome(self, job: Job, future: Future[JobOutcome]) -> tuple[Job, JobOutcome]:
        error = future.exception()
        if error is None:
            return job, future.result()
        if not isinstance(error, Exception):
            raise error
        return job, failed_job(job, self.fingerprint(job), error, getattr(error, "log", None))

    def _resolved(self, job: Job) -> ResolvedModel | EvaluationError:
        models, _ = self._models()
        found = models[job.model.label]
        return found if isinstance(found, ResolvedModel) else ModelError(found)

    def _models(self) -> ClusterModels:
        """Waits for the first worker."""
        while not wait([self._pool.models], timeout=_LOOK_S).done:
            self._show()
        return self._pool.models.result()

    def _show(self) -> None:
        """Tell how far the workers are, now and then."""
        while self._pool.notices:
            self._reporter.notice(self._pool.notices.popleft())
        if time.monotonic() >= self._next_show:
            self._next_show = time.monotonic() + _SHOW_EVERY_S
            self._reporter.workers_advanced(self._pool.progress())


def _connect(address: str | None) -> None:
    """Join a cluster, or start Ray on this machine.

    Raises:
        UsageError: There is none at the address.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if is_main else {}
    dashboard = False if address is None else None
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=dashboard,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise no_cluster(address, error) from error
    finally:
        for number, handler in before.items():  # Ray puts its own in their place
            signal.signal(number, handler)


def _key(job: Job) -> tuple[str, str]:
    return job.model.label, job.task.name
