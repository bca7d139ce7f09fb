"""Hands out work to the workers of a Ray cluster, and hands it out again when a worker dies.

Each place for a worker has a thread, which starts the worker, takes the most urgent work from a common queue whenever
the worker has room, and starts another worker when it dies. Whoever submits work gets a future.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayTaskError

from evaluation.config.run_config import RunConfig
from evaluation.errors import EvaluationError, WorkerError
from evaluation.execution.job_running import JobOutcome
from evaluation.execution.provenance import metric_versions
from evaluation.execution.ray.places import Place, places_in_cluster
from evaluation.execution.ray.worker import ClusterModels, Worker, WorkerState
from evaluation.execution.reporting import WorkerProgress

_MAX_DEATHS = 3
"""Workers that may die of one piece of work before it fails."""
_PARALLEL_SHARDS = 2
"""Shards that a worker has at a time: one in the model, one in the tokenizer."""
_TICK_S, _LOOK_S, _ANSWER_S, _NOTICE_S = 0.1, 1.0, 120.0, 60.0
_NO_WORKER_S = 180.0
"""How long work waits while there is no worker at all."""
_NO_LOCAL_WORKER_S = 5.0
"""The same for a Ray that was started for this run, which no node will join."""


@dataclass(eq=False, slots=True)
class Work:
    """A piece of work.

    Attributes:
        call: Starts the work on an actor and returns the reference of its result.
        name: What the work belongs to, for display.
        label: Label of the model.
        urgency: The smallest goes first.
        is_shard: A worker takes two shards of one model at a time, but whole jobs one by one.
        future: Receives the result.
        n_deaths: Workers that died of it.
    """

    call: Callable[[Any], Any]
    name: str
    label: str
    urgency: tuple[float, ...]
    is_shard: bool = False
    future: Future[Any] = field(default_factory=Future)
    n_deaths: int = 0


@dataclass(eq=False, slots=True)
class _PoolWorker:
    """A worker; `in_hand` maps references to the work that it has not finished, oldest first."""

    name: str
    actor: Any
    facts: dict[str, Any]
    is_ready: bool = False
    in_hand: dict[Any, Work] = field(default_factory=dict)
    state: WorkerState = WorkerState(0, 0, (), ())
    state_at: float = 0.0


class _WorkQueue:
    """Work that no worker has, the most urgent first. Threads share it."""

    def __init__(self) -> None:
        self._works: list[Work] = []
        self._changed = threading.Condition()
        self._failure: str | None = None

    def put(self, work: Work) -> None:
        """Adds work; after `fail` it fails at once."""
        with self._changed:
            if self._failure is not None:
                _resolve(work.future, error=WorkerError(self._failure))
            else:
                self._works.append(work)
                self._works.sort(key=lambda item: item.urgency)
                self._changed.notify_all()

    def take_for(self, worker: _PoolWorker) -> Work | None:
        """Removes and returns the most urgent work that a worker has room for; waits a moment if it has none at all."""
        with self._changed:
            self._works = [work for work in self._works if not work.future.done()]
            for number, work in enumerate(self._works):
                if _has_room(worker, work):
                    return self._works.pop(number)
            if not worker.in_hand:
                self._changed.wait(_TICK_S)
        return None

    def fail(self, message: str) -> None:
        """Fails all work, and all that is added later."""
        with self._changed:
            self._failure, works, self._works = message, self._works, []
        for work in works:
            _resolve(work.future, error=WorkerError(message))


class WorkerPool:
    """The workers of a run and their work. Ray must be initialised.

    Attributes:
        models: The models as all workers run them; the first worker that starts decides.
        notices: Sentences for the user, oldest first.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config, self._config_ref = config, ray.put(config)
        as_actor: Any = ray.remote  # its annotations do not know concurrency_groups
        self._actor_class = as_actor(concurrency_groups={"work": _PARALLEL_SHARDS})(Worker)
        self._queue = _WorkQueue()
        self._workers: list[_PoolWorker] = []  # all that there were
        self._naming = threading.Lock()
        self._keepers: list[tuple[Place, threading.Thread]] = []
        self._redone: list[str] = []
        self._is_closed = threading.Event()
        self.models: Future[ClusterModels] = Future()
        self.notices: deque[str] = deque()
        self._watcher = threading.Thread(target=self._watch, name="ray-pool", daemon=True)
        self._watcher.start()

    @property
    def n_workers(self) -> int:
        """Number of workers, including those that are starting; at least 1."""
        return max(1, sum(thread.is_alive() for _, thread in self._keepers))

    def submit(self, work: Work) -> Future[Any]:
        """Queues work."""
        self._queue.put(work)
        return work.future

    def progress(self) -> list[WorkerProgress]:
        """Returns the progress of every ready worker."""
        return [
            WorkerProgress(
                worker.name,
                ", ".join(dict.fromkeys(work.name for work in list(worker.in_hand.values()))),
                worker.state.texts,
                worker.state.tokens,
            )
            for worker in list(self._workers)
            if worker.is_ready
        ]

    def facts(self) -> dict[str, Any]:
        """Returns what run.json says: all workers that there were, and the work that was done again after a death."""
        return {"workers": [worker.facts for worker in self._workers], "redone": list(self._redone)}

    def close(self) -> None:
        """Stops all workers; unfinished work fails."""
        self._is_closed.set()
        self._fail("the run was stopped.")
        self._watcher.join(timeout=30)
        for worker in self._workers:
            ray.kill(worker.actor)
        for _, thread in self._keepers:
            thread.join(timeout=30)

    # ----------------------------------------------------------------------------------------- the thread of the pool

    def _watch(self) -> None:
        try:
            self._keep_places()
        except Exception as error:  # whoever waits for results must be told
            self._fail(f"the Ray cluster can't be watched any more: {error}")

    def _keep_places(self) -> None:
        """Keeps a worker in every place, and fails all work when no worker is left."""
        patience_s = _NO_LOCAL_WORKER_S if self._config.runtime.ray.address is None else _NO_WORKER_S
        began = last_alive = time.monotonic()
        while not self._is_closed.wait(_LOOK_S):
            self._fill_places()
            now = time.monotonic()
            if any(thread.is_alive() for _, thread in self._keepers):
                last_alive = now
            elif now - last_alive > patience_s:
                reasons = [worker.facts["lost"] for worker in self._workers if "lost" in worker.facts]
                last = f" The last one was lost: {reasons[-1]}." if reasons else ""
                self._fail(
                    f"no node of the Ray cluster has room for a worker (runtime.ray), or all workers died.{last}"
                )
            if now - began > _NOTICE_S and not self.models.done():
                began = float("inf")
                self.notices.append("no worker has started yet; waiting for room on the cluster (see `ray status`).")

    def _fill_places(self) -> None:
        """Starts a thread for each place without one. A place whose worker could not start is not used again."""
        most = self._config.runtime.ray.workers
        taken = Counter(place for place, _ in self._keepers)
        for place in places_in_cluster(self._config.runtime):
            if taken[place]:
                taken[place] -= 1
            elif most is None or sum(thread.is_alive() for _, thread in self._keepers) < most:
                thread = threading.Thread(target=self._keep_worker, args=(place,), name="ray-worker", daemon=True)
                thread.start()
                self._keepers.append((place, thread))

    # -------------------------------------------------------------------------------------- the thread of each place

    def _keep_worker(self, place: Place) -> None:
        """Runs a worker in a place, and another one after it as long as they can start."""
        can_start = True
        while can_start and not self._is_closed.is_set():
            worker = self._start_worker(place)
            try:
                self._prepare(worker)
                while not self._is_closed.is_set():
                    self._hand_out(worker)
                    self._collect(worker)
            except Exception as error:  # whatever went wrong in a worker, its process may be in a bad state
                can_start = worker.is_ready
                self._lose(worker, error)
            ray.kill(worker.actor)

    def _start_worker(self, place: Place) -> _PoolWorker:
        actor = self._actor_class.options(
            num_cpus=place.cpus,
            num_gpus=place.gpus,
            resources=dict(self._config.runtime.ray.resources),
            scheduling_strategy=ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(place.node, soft=False),
        ).remote(self._config_ref, place.cpus)
        with self._naming:
            name = f"worker {len(self._workers) + 1}"
            facts = {"name": name, "node": place.node, "threads": place.cpus, "gpus": place.gpus}
            self._workers.append(_PoolWorker(name, actor, facts))
            return self._workers[-1]

    def _prepare(self, worker: _PoolWorker) -> None:
        """Lets a new worker adopt the common models.

        Raises:
            WorkerError: Its node can't give the same scores.
            RayError: It could not start.
        """
        if not self.models.done():
            _resolve(self.models, ray.get(worker.actor.resolve.remote()))
        models, _ = self.models.result()
        fault = ray.get(worker.actor.adopt.remote(models, metric_versions()))
        if fault:
            raise WorkerError(fault)
        worker.is_ready = True

    def _hand_out(self, worker: _PoolWorker) -> None:
        while (work := self._queue.take_for(worker)) is not None:
            try:
                worker.in_hand[work.call(worker.actor)] = work
            except Exception as error:  # such as an argument that Ray can't serialize
                _resolve(work.future, error=WorkerError(f"Ray can't start it: {error}"))

    def _collect(self, worker: _PoolWorker) -> None:
        """Waits for results for a moment, and updates the worker's state about once per second."""
        done = ray.wait(list(worker.in_hand), timeout=_TICK_S)[0] if worker.in_hand else []
        for reference in done:
            work = worker.in_hand[reference]
            try:
                result = ray.get(reference, timeout=_ANSWER_S)
            except RayTaskError as error:
                if not isinstance(error.cause, EvaluationError):
                    raise
                _resolve(work.future, error=error.cause)
            else:
                _resolve(work.future, result)
                if isinstance(result, JobOutcome) and result.record.error and result.record.error.traceback:
                    raise WorkerError(f"{work.name} failed with an unexpected error")
            del worker.in_hand[reference]
        if done or time.monotonic() - worker.state_at > _LOOK_S:
            state = ray.get(worker.actor.state.remote(), timeout=_ANSWER_S)
            self.notices.extend(f"{worker.name}: {new}" for new in state.warnings[len(worker.state.warnings) :])
            worker.state, worker.state_at = state, time.monotonic()
            worker.facts |= {"texts": state.texts, "tokens": state.tokens}

    def _lose(self, worker: _PoolWorker, error: Exception) -> None:
        """Queues the work of a lost worker again, unless it has killed too many."""
        worker.is_ready = False
        cause = error.cause if isinstance(error, RayTaskError) else error
        why = f"{type(cause).__name__}: {_reason(cause)}"
        if not self._is_closed.is_set():
            worker.facts["lost"] = why
            self.notices.append(f"{worker.name} is lost ({why}); its unfinished work goes to other workers.")
        for number, work in enumerate(worker.in_hand.values()):
            work.n_deaths += number == 0  # the younger one was not in the model yet
            if work.n_deaths >= _MAX_DEATHS:
                message = f"it killed {work.n_deaths} workers, the last one with {why}."
                _resolve(work.future, error=WorkerError(message, "\n".join(worker.state.log)))
            elif not work.future.done():
                self._redone.append(work.name)
                self.submit(work)
        worker.in_hand.clear()

    def _fail(self, message: str) -> None:
        """Fails all queued work, and all that is submitted later."""
        self._queue.fail(message)
        _resolve(self.models, error=WorkerError(message))


def _has_room(worker: _PoolWorker, work: Work) -> bool:
    others = list(worker.in_hand.values())
    alike = work.is_shard and all(other.is_shard and other.label == work.label for other in others)
    return not others or (alike and len(others) < _PARALLEL_SHARDS)


def _resolve(future: Future[Any], result: Any = None, error: Exception | None = None) -> None:
    """Sets the result or error of a future, unless it has one or was cancelled."""
    with contextlib.suppress(InvalidStateError):
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


def _reason(error: Exception) -> str:
    """Returns the line of a Ray error that says why: the last one where a worker could not even start."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return lines[-1 if getattr(error, "actor_init_failed", False) else 0][:200]
