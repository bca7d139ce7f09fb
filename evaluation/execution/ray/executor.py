"""Runs jobs on a Ray cluster: small jobs whole, one per worker; large jobs split into shards, on all workers.

Jobs run model by model, those with the most expected tokens first. A job that is more than a worker's fair share would
leave other workers idle at the end, so it is spread: the driver reads its texts and computes its scores, and the
workers encode and search its shards.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Any

import ray

from evaluation.config.run_config import RunConfig
from evaluation.errors import EvaluationError, ModelError
from evaluation.execution.job_running import EarlierJobs, JobOutcome, LoadedModel, failed_job, run_job
from evaluation.execution.local_executor import job_fingerprint
from evaluation.execution.ray.address import no_cluster
from evaluation.execution.ray.pool import Work, WorkerPool
from evaluation.execution.ray.spread_encoder import SpreadEncoder
from evaluation.execution.ray.worker import ClusterModels
from evaluation.execution.reporting import Reporter
from evaluation.execution.resolving import ResolvedModel
from evaluation.execution.stored_run import facts_of_models
from evaluation.jobs import Job
from evaluation.tasks.last_task import LastTask

_SHOW_EVERY_S, _WAIT_S, _JOIN_S = 1.0, 0.5, 10.0
_Urgency = tuple[int, int, int]
_SPREAD, _WHOLE = 0, 1
_FAIR_PARTS = 2
"""A job with more than 1 / (2 x workers) of all tokens is spread."""


class RayExecutor:
    """The workers of a cluster, each of which holds one model.

    Raises:
        UsageError: There is no cluster at `runtime.ray.address`.
    """

    def __init__(self, config: RunConfig, reporter: Reporter) -> None:
        self._config, self._reporter = config, reporter
        self._next_show = 0.0
        self._spread_jobs: list[str] = []
        self._spreading: threading.Thread | None = None
        self._is_closed = threading.Event()
        address = config.runtime.ray.address
        where = "starting Ray on this machine" if address is None else f"connecting to the Ray cluster at {address}"
        reporter.notice(f"{where}; it takes some seconds until workers are ready.")
        _connect(address)
        self._pool = WorkerPool(config)

    def fingerprint(self, job: Job) -> str:
        """Returns the job's fingerprint, its model as the workers run it.

        Raises:
            WorkerError: No worker starts.
        """
        return job_fingerprint(job, self._resolved(job))

    def run(self, jobs: Sequence[Job], costs: Mapping[tuple[str, str], int]) -> Iterator[tuple[Job, JobOutcome]]:
        """Yields each job with its outcome, as they end."""
        if not jobs:
            return
        self._models()
        waiting: dict[Future[JobOutcome], Job] = {}
        spread: list[tuple[Job, _Urgency, Future[JobOutcome]]] = []
        for urgency, job in self._by_urgency(jobs, costs):
            if urgency[1] == _SPREAD:
                future: Future[JobOutcome] = Future()
                spread.append((job, urgency, future))
            else:
                future = self._pool.submit(Work(partial(_start_job, job=job), job.name, job.model.label, urgency))
            waiting[future] = job
        self._spread_jobs = [job.name for job, _, _ in spread]
        self._spreading = threading.Thread(target=self._run_spread, args=(spread,), name="spread-jobs", daemon=True)
        self._spreading.start()
        while waiting:
            for ended in wait(waiting, timeout=_WAIT_S, return_when=FIRST_COMPLETED).done:
                yield self._outcome(waiting.pop(ended), ended)
            self._show()

    def facts(self) -> dict[str, Any]:
        """Returns what run.json says: the workers, how they run the models, what was spread and what was redone."""
        found, _ = self._models()
        ran = {label: model.scoring_identity for label, model in found.items() if isinstance(model, ResolvedModel)}
        return {**facts_of_models(self._config, ran), "spread": self._spread_jobs, **self._pool.facts()}

    def close(self) -> None:
        """Stops the workers, and a Ray that was started for them."""
        self._is_closed.set()
        try:
            self._pool.close()  # which ends a spread job, whose work fails
            if self._spreading is not None:
                self._spreading.join(timeout=_JOIN_S)
        finally:
            ray.shutdown()

    def _by_urgency(self, jobs: Sequence[Job], costs: Mapping[tuple[str, str], int]) -> list[tuple[_Urgency, Job]]:
        """Returns the jobs model by model, of each model first those to spread, then by their tokens."""
        order = {label: number for number, label in enumerate(dict.fromkeys(job.model.label for job in jobs))}
        fair = sum(costs.get(job.key, 0) for job in jobs) / (_FAIR_PARTS * self._pool.n_workers)
        found: list[tuple[_Urgency, Job]] = []
        for job in jobs:
            tokens = costs.get(job.key, 0)
            is_spread = tokens > fair and job.model.endpoint is None
            found.append(((order[job.model.label], _SPREAD if is_spread else _WHOLE, -tokens), job))
        return sorted(found, key=lambda item: item[0])

    def _run_spread(self, jobs: Sequence[tuple[Job, _Urgency, Future[JobOutcome]]]) -> None:
        """Runs one spread job after the other, because mteb's tasks share random state."""
        for job, urgency, future in jobs:
            if self._is_closed.is_set():
                return
            load = partial(self._load, job, urgency)
            try:
                store_texts = self._config.runtime.store_texts
                earlier = EarlierJobs({}, LastTask())
                future.set_result(run_job(job, self.fingerprint(job), load, store_texts=store_texts, earlier=earlier))
            except BaseException as error:  # such as a library that ends the process: `run` must be told
                future.set_exception(error)

    def _load(self, job: Job, urgency: _Urgency) -> LoadedModel:
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
        """Returns the models as the workers run them; waits for the first worker."""
        while not wait([self._pool.models], timeout=_WAIT_S).done:
            self._show()
        return self._pool.models.result()

    def _show(self) -> None:
        """Reports notices at once, and the progress of the workers once per second."""
        while self._pool.notices:
            self._reporter.notice(self._pool.notices.popleft())
        if self._pool.models.done() and time.monotonic() >= self._next_show:
            self._next_show = time.monotonic() + _SHOW_EVERY_S
            self._reporter.workers_advanced(self._pool.progress())


def _start_job(actor: Any, job: Job) -> Any:
    return actor.run_job.options(concurrency_group="work").remote(job)


def _connect(address: str | None) -> None:
    """Joins a cluster, or starts Ray on this machine.

    Raises:
        UsageError: There is no cluster at the address.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if is_main else {}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if address is None else None,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise no_cluster(address, error) from error
    finally:
        for number, handler in before.items():  # Ray installs its own
            signal.signal(number, handler)
