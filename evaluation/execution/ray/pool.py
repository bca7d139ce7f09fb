"""Work for the workers of a Ray cluster: one queue, handing out, and handing out again when a worker dies.

A thread of its own watches the cluster; whoever submits work gets a future. The most urgent work goes first, and a
worker takes the next when it has room, so that slow workers get less. At the end idle workers do over again what slow
ones still have in hand; the first result counts.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import ray
from ray.exceptions import RayError, RayTaskError

from evaluation.config.models import RunConfig
from evaluation.errors import EvaluationError, WorkerError
from evaluation.execution.job_running import JobOutcome
from evaluation.execution.ray.staff import AT_ONCE, Hired, Staff
from evaluation.execution.ray.worker import ShardName
from evaluation.execution.reporting import WorkerProgress

_LOG = logging.getLogger(__name__)

_MAX_DEATHS = 3
"""Workers that may die of one piece of work."""
_SLOW = 2.0
"""What takes more than this many times the median is done over by an idle worker."""
_TICK_S, _LOOK_S, _FETCH_S = 0.05, 1.0, 120.0
_PATIENCE_S = 180.0
"""How long work waits while there is no worker at all."""
_OWN_PATIENCE_S = 5.0
"""The same where Ray was started for this run: no node will join it."""


class Call(Protocol):
    """Starts a piece of work on a worker and gives the reference of its result."""

    def __call__(self, worker: Any, *, is_copy: bool) -> Any:
        """`is_copy`: another worker has it in hand already."""


@dataclass(eq=False, slots=True)
class Work:
    """A piece of work.

    Attributes:
        call: Starts it.
        name, label: For people, and of the model.
        urgency: The smallest goes first.
        is_shard: Of these a worker takes two at once; a whole job wants a worker for itself.
        shard: Its name in the embedding cache: who has it there should take it.
        future: Where the result comes.
    """

    call: Call
    name: str
    label: str
    urgency: tuple[float, ...]
    is_shard: bool = False
    shard: ShardName | None = None
    future: Future[Any] = field(default_factory=Future)
    n_deaths: int = 0


class _InHand(NamedTuple):
    work: Work
    since: float


class WorkerPool:
    """The workers of a run. Ray must be initialised.

    Args:
        config: The run's config.

    Attributes:
        models: How all workers run the models; comes when the first of them is there.
        notices: Sentences for the user, oldest first.
    """

    def __init__(self, config: RunConfig) -> None:
        self._staff = Staff(config)
        self._patience_s = _PATIENCE_S if config.runtime.ray.address is not None else _OWN_PATIENCE_S
        self._waiting: list[Work] = []
        self._lock = threading.Lock()
        self._durations: deque[float] = deque(maxlen=50)
        self._redone: list[str] = []
        self._broken: str | None = None
        self._next_look = 0.0
        self._began = self._staffed = time.monotonic()
        self._has_said = False
        self._stopping = threading.Event()
        self.models, self.notices = self._staff.models, self._staff.notices
        self._thread = threading.Thread(target=self._watch, name="ray-pool", daemon=True)
        self._thread.start()

    @property
    def n_workers(self) -> int:
        """Workers, those that still start included; at least 1."""
        return max(1, len(self._staff.workers))

    def submit(self, work: Work) -> Future[Any]:
        """Put work into the queue."""
        with self._lock:
            if self._broken is not None:
                work.future.set_exception(WorkerError(self._broken))
                return work.future
            self._waiting.append(work)
            self._waiting.sort(key=lambda item: item.urgency)
        return work.future

    def progress(self) -> list[WorkerProgress]:
        """How far each worker is."""
        return [
            WorkerProgress(
                worker.name,
                ", ".join(dict.fromkeys(item.work.name for item in list(worker.in_hand.values()))),
                worker.state.texts,
                worker.state.tokens,
            )
            for worker in list(self._staff.workers)
            if worker.is_ready
        ]

    def facts(self) -> dict[str, Any]:
        """For run.json: all workers that there were, and the work that had to be done again after a death."""
        for worker in list(self._staff.workers):
            if worker.is_ready:
                with contextlib.suppress(RayError):
                    self._staff.take(worker, "state", ray.get(worker.actor.state.remote(), timeout=_LOOK_S))
        return {"workers": list(self._staff.facts.values()), "redone": list(self._redone)}

    def close(self) -> None:
        """Let all workers go. Work that is not done fails."""
        self._stopping.set()
        self._thread.join(timeout=30)
        self._fail("the run was stopped.")
        for worker in self._staff.workers:
            ray.kill(worker.actor)

    # ------------------------------------------------------------------------------------------ the watching thread

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                self._step()
            except Exception as error:  # who waits must be told
                _LOG.exception("the cluster can't be watched any more")
                self._fail(f"the Ray cluster can't be watched any more: {error}")
                return

    def _step(self) -> None:
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_S
            self._staff.hire()
            self._staff.ask()
            self._check_staff()
        self._hand_out()
        owed = [reference for worker in self._staff.workers for reference in (*worker.asked, *worker.in_hand)]
        if not owed:
            self._stopping.wait(_TICK_S)
        for reference in ray.wait(owed, timeout=_TICK_S)[0] if owed else ():
            self._take_answer(reference)

    def _check_staff(self) -> None:
        now = time.monotonic()
        if not self._has_said and now - self._began > _PATIENCE_S / 3:
            self._has_said = True
            if not any(worker.is_ready for worker in self._staff.workers):
                self.notices.append("no worker has begun yet: waiting for room on the Ray cluster (see `ray status`).")
        if self._staff.workers:
            self._staffed = now
        elif now - self._staffed > self._patience_s:
            last = f" The last one was lost: {self._staff.last_loss}." if self._staff.last_loss else ""
            self._fail(f"no node of the Ray cluster has room for a worker (runtime.ray), or all workers died.{last}")

    def _take_answer(self, reference: Any) -> None:
        worker = next(item for item in self._staff.workers if reference in item.asked or reference in item.in_hand)
        result, fault = None, None
        try:
            result = ray.get(reference, timeout=_FETCH_S)
        except RayTaskError as error:
            fault = error.cause if isinstance(error.cause, Exception) else WorkerError(f"{worker.name}: {error}")
        except RayError as error:
            self._lose(worker, f"{type(error).__name__}: {_reason(error)}")
            return
        question = worker.asked.pop(reference, None)
        if question is None:
            self._take_result(worker, reference, result, fault)
        elif fault is not None:
            self._lose(worker, f"{type(fault).__name__}: {_reason(fault)}")
        else:
            self._staff.take(worker, question, result)

    def _take_result(self, worker: Hired, reference: Any, result: Any, fault: Exception | None) -> None:
        """Of two copies the first result counts. A worker with a fault that is none of ours may be sick: it goes."""
        if fault is not None and not isinstance(fault, EvaluationError):
            self._lose(worker, f"{type(fault).__name__}: {_reason(fault)}")
            return
        work, since = worker.in_hand.pop(reference)
        if work.is_shard:
            self._durations.append(time.monotonic() - since)
        if fault is not None:
            _settle(work.future, fault=fault)
            return
        if work.shard is not None:
            worker.shards.add(work.shard)
        _settle(work.future, result)
        if isinstance(result, JobOutcome) and result.record.error is not None and result.record.error.traceback:
            self._lose(worker, f"{work.name} failed with an error that is none of ours")

    # ------------------------------------------------------------------------------------------------- handing out

    def _hand_out(self) -> None:
        for n_in_hand in range(AT_ONCE):
            for worker in self._staff.workers:
                if len(worker.in_hand) == n_in_hand and worker.is_ready:
                    work = self._next_for(worker)
                    if work is not None:
                        self._start(work, worker, is_copy=False)
                    elif not worker.in_hand and (slow := self._slow_work()) is not None:
                        self._start(slow, worker, is_copy=True)

    def _start(self, work: Work, worker: Hired, *, is_copy: bool) -> None:
        try:
            worker.in_hand[work.call(worker.actor, is_copy=is_copy)] = _InHand(work, time.monotonic())
        except Exception as error:  # an argument that Ray can't take, say
            _settle(work.future, fault=WorkerError(f"Ray refuses it: {error}"))

    def _next_for(self, worker: Hired) -> Work | None:
        with self._lock:
            self._waiting = [work for work in self._waiting if not work.future.done()]
            for number, work in enumerate(self._waiting):
                if _has_room(worker, work) and not self._is_kept_elsewhere(work, worker):
                    return self._waiting.pop(number)
        return None

    def _is_kept_elsewhere(self, work: Work, worker: Hired) -> bool:
        """Whether another worker, not this one, has the vectors already.

        That one may be busy with a whole job, but no job that is not spread is long, and this one can take others.
        """
        if work.shard is None or work.shard in worker.shards:
            return False
        return any(work.shard in other.shards for other in self._staff.workers if other.is_ready)

    def _slow_work(self) -> Work | None:
        """The shard that has been in hand for longest, if that is unusually long and nobody has a copy yet."""
        in_hand = [item for worker in self._staff.workers for item in worker.in_hand.values() if item.work.is_shard]
        copies = Counter(item.work for item in in_hand)
        single = [item for item in in_hand if copies[item.work] == 1 and not item.work.future.done()]
        oldest = min(single, key=lambda item: item.since, default=None)
        if oldest is None or not self._durations:
            return None
        is_slow = time.monotonic() - oldest.since > _SLOW * statistics.median(self._durations)
        return oldest.work if is_slow else None

    # ------------------------------------------------------------------------------------------------------- losing

    def _lose(self, worker: Hired, why: str) -> None:
        """What a lost worker had in hand goes to others, unless that is what kills workers."""
        self._staff.lose(worker, why)
        elsewhere = {item.work for other in self._staff.workers for item in other.in_hand.values()}
        in_hand = sorted(worker.in_hand.values(), key=lambda item: item.since)
        for number, (work, _) in enumerate(in_hand):
            work.n_deaths += number == 0  # the younger one was not in the model yet
            if work.future.done():
                continue
            if work.n_deaths >= _MAX_DEATHS:
                message = f"{work.n_deaths} workers died of it, the last one with {why}."
                _settle(work.future, fault=WorkerError(message, "\n".join(worker.state.log)))
                continue
            self._redone.append(work.name)
            if work not in elsewhere:
                self.submit(work)

    def _fail(self, message: str) -> None:
        """Nothing can be done any more."""
        with self._lock:
            self._broken = message
            works, self._waiting = self._waiting, []
        works += [item.work for worker in self._staff.workers for item in worker.in_hand.values()]
        for future in (self.models, *(work.future for work in works)):
            _settle(future, fault=WorkerError(message))


def call_of(method: str, *arguments: Any) -> Callable[..., Any]:
    """A call of a worker's method that does not care whether it is a copy."""

    def call(worker: Any, *, is_copy: bool) -> Any:
        return getattr(worker, method).options(concurrency_group="work").remote(*arguments)

    return call


def _has_room(worker: Hired, work: Work) -> bool:
    others = [item.work for item in worker.in_hand.values()]
    if not others:
        return True
    alike = all(other.is_shard and other.label == work.label for other in others)
    return work.is_shard and alike and len(others) < AT_ONCE


def _settle(future: Future[Any], result: Any = None, *, fault: Exception | None = None) -> None:
    """Give a result; nothing happens where there is one already, or nobody waits any more."""
    with contextlib.suppress(InvalidStateError):
        if fault is not None:
            future.set_exception(fault)
        else:
            future.set_result(result)


def _reason(error: Exception) -> str:
    """The line of a Ray error that tells why: the last one where a worker could not even start."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return lines[-1 if getattr(error, "actor_init_failed", False) else 0][:200]
