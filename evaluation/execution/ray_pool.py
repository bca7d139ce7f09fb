"""Workers of a Ray cluster and the work they share out: hires, hands out, and hands out again when one dies.

A thread of its own watches the cluster; whoever submits work gets a future. Work waits in one queue, the most urgent
first, and a worker takes the next when it has room, so that slow workers get less. At the end idle workers do over
again what slow ones still have in hand; the first result counts.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from evaluation.config import RayConfig, RunConfig
from evaluation.encoding.settings import EncoderSettings
from evaluation.errors import WorkerError
from evaluation.execution.ray_worker import ShardName, Worker, WorkerState
from evaluation.execution.reporting import WorkerProgress
from evaluation.execution.resolving import ResolvedModel

_LOG = logging.getLogger(__name__)

_MAX_DEATHS = 3
"""Workers that may die of one piece of work, or in a row on one node."""
_AT_ONCE = 2
"""Shards that a worker has in hand: one in the model, one in the tokenizer."""
_SLOW = 2.0
"""What takes more than this many times the median is done over by an idle worker."""
_TICK_S, _LOOK_S, _FETCH_S = 0.05, 1.0, 120.0
_PATIENCE_S = 180.0
"""How long work waits while there is no worker at all."""

ClusterModels = tuple[Mapping[str, ResolvedModel | str], Mapping[str, Any]]
"""Each label's model as the first worker resolves it, or why it can't be had; and that worker's hardware."""


@dataclass(eq=False, slots=True)
class Work:
    """A piece of work.

    Attributes:
        call: Starts it on a worker and gives the reference of its result.
        name: For people.
        urgency: The smallest goes first.
        is_shard: Of these a worker takes two at once; a whole job wants a worker for itself.
        shard: Its name in the embedding cache: who has it there should take it.
        future: Where the result comes.
    """

    call: Callable[[Any], Any]
    name: str
    urgency: tuple[float, ...]
    is_shard: bool = False
    shard: ShardName | None = None
    future: Future[Any] = field(default_factory=Future)
    n_deaths: int = 0


class _Place(NamedTuple):
    """Room for a worker on a node."""

    node: str
    cpus: int
    gpus: int


class _InHand(NamedTuple):
    work: Work
    since: float


@dataclass(eq=False, slots=True)
class _Hired:
    """A worker. `asked` and `in_hand` are keyed by the references of the answers that it owes."""

    name: str
    place: _Place
    actor: Any
    is_ready: bool = False
    asked: dict[Any, str] = field(default_factory=dict)
    in_hand: dict[Any, _InHand] = field(default_factory=dict)
    shards: set[ShardName] = field(default_factory=set)
    state: WorkerState = WorkerState(0, 0, 0.0, ())

    def has_room_for(self, work: Work) -> bool:
        others = [item.work for item in self.in_hand.values()]
        fits = not others or (work.is_shard and len(others) < _AT_ONCE and all(other.is_shard for other in others))
        return self.is_ready and fits


class WorkerPool:
    """The workers of a run. Ray must be initialised.

    Args:
        config: The run's config.

    Attributes:
        models: Comes when the first worker is there.
        notices: Sentences for the user, oldest first.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config, self._config_ref = config, ray.put(config)
        as_actor: Any = ray.remote  # its annotations do not know concurrency_groups
        self._worker_class = as_actor(concurrency_groups={"work": _AT_ONCE}, max_restarts=0)(Worker)
        self._workers: list[_Hired] = []
        self._waiting: list[Work] = []
        self._lock = threading.Lock()
        self._deaths_on: Counter[str] = Counter()
        self._durations: deque[float] = deque(maxlen=50)
        self._redone: list[str] = []
        self._states: dict[str, dict[str, Any]] = {}
        self._next_look = 0.0
        self._began = self._staffed = time.monotonic()
        self._has_waited = False
        self._stopping = threading.Event()
        self.models: Future[ClusterModels] = Future()
        self.notices: deque[str] = deque()
        self._thread = threading.Thread(target=self._watch, name="ray-pool", daemon=True)
        self._thread.start()

    @property
    def n_workers(self) -> int:
        """Workers, those that still start included; at least 1."""
        return max(1, len(self._workers))

    def submit(self, work: Work) -> Future[Any]:
        """Put work into the queue."""
        with self._lock:
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
            for worker in list(self._workers)
            if worker.is_ready
        ]

    def facts(self) -> dict[str, Any]:
        """For run.json: all workers that there were, and the work that was handed out again after a death."""
        for worker in list(self._workers):
            with contextlib.suppress(RayError, GetTimeoutError):
                self._take_state(worker, ray.get(worker.actor.state.remote(), timeout=_LOOK_S))
        return {"workers": list(self._states.values()), "redone": list(self._redone)}

    def close(self) -> None:
        """Let all workers go."""
        self._stopping.set()
        self._thread.join(timeout=30)
        for worker in self._workers:
            ray.kill(worker.actor)

    # ------------------------------------------------------------------------------------------ the watching thread

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                self._step()
            except Exception as error:  # the cluster itself is gone; who waits must be told
                _LOG.exception("the cluster can't be watched any more")
                self._fail(f"the Ray cluster is gone: {error}")
                return

    def _step(self) -> None:
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_S
            self._hire()
            self._ask()
        self._hand_out()
        owed = [reference for worker in self._workers for reference in (*worker.asked, *worker.in_hand)]
        if not owed:
            self._stopping.wait(_TICK_S)
        for reference in ray.wait(owed, timeout=_TICK_S)[0] if owed else ():
            self._take(reference)

    def _take(self, reference: Any) -> None:
        """An answer has come."""
        worker = next(item for item in self._workers if reference in item.asked or reference in item.in_hand)
        result, fault = None, None
        try:
            result = ray.get(reference, timeout=_FETCH_S)
        except RayTaskError as error:
            fault = error.cause if isinstance(error.cause, Exception) else WorkerError(f"{worker.name}: {error}")
        except (RayError, GetTimeoutError) as error:
            self._lose(worker, f"{type(error).__name__}: {_first_line(error)}")
            return
        question = worker.asked.pop(reference, None)
        if question is None:
            self._end(worker, worker.in_hand.pop(reference), result, fault)
        elif fault is not None:
            self._lose(worker, str(fault))
        else:
            getattr(self, f"_take_{question}")(worker, result)

    def _end(self, worker: _Hired, item: _InHand, result: Any, fault: Exception | None) -> None:
        """A piece of work is done; of two copies the first counts."""
        work = item.work
        self._deaths_on[worker.place.node] = 0
        if work.is_shard:
            self._durations.append(time.monotonic() - item.since)
        if fault is None and work.shard is not None:
            worker.shards.add(work.shard)
        with contextlib.suppress(InvalidStateError):  # a copy was faster, or nobody waits any more
            if fault is not None:
                work.future.set_exception(fault)
            else:
                work.future.set_result(result)

    # ------------------------------------------------------------------------------------------------- handing out

    def _hand_out(self) -> None:
        for n_in_hand in range(_AT_ONCE):
            for worker in self._workers:
                if len(worker.in_hand) == n_in_hand:
                    work = self._next_for(worker)
                    if work is not None:
                        worker.in_hand[work.call(worker.actor)] = _InHand(work, time.monotonic())

    def _next_for(self, worker: _Hired) -> Work | None:
        with self._lock:
            self._waiting = [work for work in self._waiting if not work.future.done()]
            for place, work in enumerate(self._waiting):
                if worker.has_room_for(work) and not self._is_kept_elsewhere(work, worker):
                    return self._waiting.pop(place)
        return self._slow_work() if worker.is_ready and not worker.in_hand else None

    def _is_kept_elsewhere(self, work: Work, worker: _Hired) -> bool:
        """Whether another worker, not this one, has the vectors already."""
        if work.shard is None or work.shard in worker.shards:
            return False
        return any(work.shard in other.shards for other in self._workers if other.is_ready)

    def _slow_work(self) -> Work | None:
        """The shard that has been in hand for longest, if that is unusually long and nobody has a copy yet."""
        in_hand = [item for worker in self._workers for item in worker.in_hand.values() if item.work.is_shard]
        copies = Counter(item.work for item in in_hand)
        single = [item for item in in_hand if copies[item.work] == 1 and not item.work.future.done()]
        oldest = min(single, key=lambda item: item.since, default=None)
        if oldest is None or not self._durations:
            return None
        is_slow = time.monotonic() - oldest.since > _SLOW * statistics.median(self._durations)
        return oldest.work if is_slow else None

    # ------------------------------------------------------------------------------------------ hiring and losing

    def _hire(self) -> None:
        """Start workers where there is room: at first, on new nodes, and where one died."""
        runtime = self._config.runtime
        alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        nodes = [places_on(node["NodeID"], node["Resources"], runtime.ray, runtime.device) for node in alive]
        in_turn = [place for row in zip_longest(*nodes) for place in row if place is not None]
        missing = Counter(in_turn[: runtime.ray.workers]) - Counter(worker.place for worker in self._workers)
        for place in missing.elements():
            if self._deaths_on[place.node] < _MAX_DEATHS:
                self._workers.append(self._hired(place))
        self._say_if_none_comes()
        if self._workers:
            self._staffed = time.monotonic()
        elif time.monotonic() - self._staffed > _PATIENCE_S:
            self._fail("no node of the Ray cluster has room for a worker, or all workers died; see runtime.ray.")

    def _say_if_none_comes(self) -> None:
        if not self._has_waited and time.monotonic() - self._began > _PATIENCE_S / 3:
            self._has_waited = True
            if not any(worker.is_ready for worker in self._workers):
                self.notices.append("no worker has begun yet: waiting for room on the Ray cluster (see `ray status`).")

    def _hired(self, place: _Place) -> _Hired:
        name = f"worker {len(self._states) + 1}"
        self._states[name] = {"name": name, "node": place.node, "threads": place.cpus, "gpus": place.gpus}
        actor = self._worker_class.options(
            num_cpus=place.cpus,
            num_gpus=place.gpus,
            resources=dict(self._config.runtime.ray.resources),
            scheduling_strategy=NodeAffinitySchedulingStrategy(place.node, soft=False),
        ).remote(self._config_ref, place.cpus)
        return _Hired(name, place, actor)

    def _ask(self) -> None:
        """Ask each worker what is to be known of it next. The first to answer decides for all how models run."""
        for worker in self._workers:
            if worker.asked:
                continue
            if worker.is_ready:
                worker.asked[worker.actor.state.remote()] = "state"
            elif self.models.done():
                worker.asked[worker.actor.settle.remote(self._settings())] = "settled"
            else:
                worker.asked[worker.actor.resolve.remote()] = "resolved"

    def _settings(self) -> dict[str, EncoderSettings]:
        models, _ = self.models.result()
        return {label: model.settings for label, model in models.items() if isinstance(model, ResolvedModel)}

    def _take_resolved(self, worker: _Hired, found: ClusterModels) -> None:
        if not self.models.done():
            self.models.set_result(found)

    def _take_settled(self, worker: _Hired, shards: Mapping[str, tuple[str, set[str]]]) -> None:
        models, _ = self.models.result()
        for label, model in models.items():
            if isinstance(model, ResolvedModel) and shards[label][0] != model.checkpoint.weights_hash:
                self._deaths_on[worker.place.node] = _MAX_DEATHS
                self._lose(worker, f"{label} is another model on its node, or missing there")
                return
        worker.shards = {(label, name) for label, (_, names) in shards.items() for name in names}
        worker.is_ready = True

    def _take_state(self, worker: _Hired, state: WorkerState) -> None:
        worker.state = state
        self._states[worker.name] |= {"texts": state.texts, "tokens": state.tokens, "busy_s": round(state.busy_s, 1)}

    def _lose(self, worker: _Hired, why: str) -> None:
        """A worker died or can't be used. What it had in hand goes to others, unless that is what kills workers."""
        self._workers.remove(worker)
        self._deaths_on[worker.place.node] += 1
        self._states[worker.name]["lost"] = why
        self.notices.append(f"{worker.name} is lost ({why}); its work goes to others.")
        ray.kill(worker.actor)
        elsewhere = {item.work for other in self._workers for item in other.in_hand.values()}
        for work, _ in worker.in_hand.values():
            work.n_deaths += 1
            if work.future.done():
                continue
            if work.n_deaths >= _MAX_DEATHS:
                message = f"{work.n_deaths} workers died of it, the last one with {why}."
                work.future.set_exception(WorkerError(message, "\n".join(worker.state.log)))
                continue
            self._redone.append(work.name)
            if work not in elsewhere:
                self.submit(work)

    def _fail(self, message: str) -> None:
        """Nothing can be done any more."""
        with self._lock:
            works, self._waiting = self._waiting, []
        works += [item.work for worker in self._workers for item in worker.in_hand.values()]
        for future in chain([self.models], (work.future for work in works)):
            if not future.done():
                future.set_exception(WorkerError(message))


def places_on(node: str, resources: Mapping[str, float], options: RayConfig, device: str) -> list[_Place]:
    """Room for workers on one node.

    Args:
        node: Its id.
        resources: What Ray says that it has.
        options: What a worker takes.
        device: Of the run.
    """
    n_cpus, n_gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    gpus = options.gpus if options.gpus is not None else int(n_gpus > 0 and device != "cpu")
    by_gpus = n_gpus // gpus if gpus else None
    cpus = options.cpus or max(1, n_cpus // max(1, by_gpus or 1))
    fits = [n_cpus // cpus, *([by_gpus] if by_gpus is not None else [])]
    fits += [int(resources.get(name, 0) // amount) for name, amount in options.resources.items() if amount]
    return [_Place(node, cpus, gpus)] * min(fits)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
