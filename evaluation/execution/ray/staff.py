"""The workers of a Ray cluster: where there is room for them, hiring, what each has to be asked first, and losing one.

Used by the pool's watching thread only, but for `models`, `notices` and what is read for displays.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, NamedTuple

import ray

from evaluation.config.models import RayConfig, RunConfig
from evaluation.execution.provenance import metric_versions
from evaluation.execution.ray.worker import ShardName, Worker, WorkerFacts, WorkerState
from evaluation.execution.resolving import ResolvedModel
from evaluation.records.origin import Hardware

AT_ONCE = 2
"""Shards that a worker has in hand: one in the model, one in the tokenizer."""
_MAX_FALSE_STARTS = 3
"""Workers of one node that may die before they are ready, until it is left alone."""
_DECIDE_S = 60.0
"""How long other workers are waited for when the first lacks a model."""

ClusterModels = tuple[Mapping[str, ResolvedModel | str], Hardware]
"""Each label's model as the workers run it, or why it can't be had; and the hardware of one of them."""


class Place(NamedTuple):
    """Room for a worker on a node."""

    node: str
    cpus: int
    gpus: int


@dataclass(eq=False, slots=True)
class Hired:
    """A worker. `asked` and `in_hand` are keyed by the references of the answers that it owes."""

    name: str
    place: Place
    actor: Any
    is_ready: bool = False
    models: ClusterModels | None = None
    asked: dict[Any, str] = field(default_factory=dict)
    in_hand: dict[Any, Any] = field(default_factory=dict)
    shards: set[ShardName] = field(default_factory=set)
    state: WorkerState = WorkerState(0, 0, 0.0, (), ())
    n_warnings: int = 0


class Staff:
    """All workers of a run.

    Args:
        config: The run's config.

    Attributes:
        workers: Those that live, ready or not.
        models: Comes when a worker has said how it runs them.
        notices: Sentences for the user, oldest first.
        last_loss: Why the last worker was lost.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config, self._config_ref = config, ray.put(config)
        as_actor: Any = ray.remote  # its annotations do not know concurrency_groups
        self._worker_class = as_actor(concurrency_groups={"work": AT_ONCE}, max_restarts=0)(Worker)
        self._false_starts: Counter[str] = Counter()
        self._first_answer = 0.0
        self.workers: list[Hired] = []
        self.facts: dict[str, dict[str, Any]] = {}
        self.models: Future[ClusterModels] = Future()
        self.notices: deque[str] = deque()
        self.last_loss = ""

    def hire(self) -> None:
        """Start workers where there is room: at first, on new nodes, and where one was lost."""
        options = self._config.runtime.ray
        taken = Counter(worker.place for worker in self.workers)
        for place in self._places():
            if options.workers is not None and len(self.workers) >= options.workers:
                return
            if taken[place]:
                taken[place] -= 1
            else:
                self.workers.append(self._hired(place))

    def ask(self) -> None:
        """Ask each worker what is to be known of it next."""
        for worker in self.workers:
            if worker.asked:
                continue
            if worker.is_ready:
                worker.asked[worker.actor.state.remote()] = "state"
            elif self.models.done():
                worker.asked[worker.actor.settle.remote(self._proven())] = "facts"
            elif worker.models is None:
                worker.asked[worker.actor.resolve.remote()] = "models"
        self._decide()

    def take(self, worker: Hired, question: str, answer: Any) -> None:
        """An answer to `ask`."""
        if question == "state":
            self._take_state(worker, answer)
        elif question == "facts":
            self._take_facts(worker, answer)
        else:
            worker.models = answer
            self._first_answer = self._first_answer or time.monotonic()
            self._decide()

    def lose(self, worker: Hired, why: str) -> None:
        """A worker died or can't be used."""
        self.workers.remove(worker)
        if not worker.is_ready:
            self._false_starts[worker.place.node] += 1
        self.facts[worker.name]["lost"] = self.last_loss = why
        self.notices.append(f"{worker.name} is lost ({why}); what it had in hand goes to others.")
        ray.kill(worker.actor)

    def _places(self) -> list[Place]:
        """Room on all nodes, one of each in turn; nodes on which workers do not even start are left out."""
        runtime = self._config.runtime
        alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        on_gpus = runtime.device != "cpu" and any(node["Resources"].get("GPU", 0) for node in alive)
        gpus = runtime.ray.gpus if runtime.ray.gpus is not None else int(on_gpus)
        nodes = [
            places_on(node["NodeID"], node["Resources"], runtime.ray, gpus)
            for node in sorted(alive, key=lambda node: str(node["NodeID"]))
            if self._false_starts[node["NodeID"]] < _MAX_FALSE_STARTS
        ]
        return [place for row in zip_longest(*nodes) for place in row if place is not None]

    def _hired(self, place: Place) -> Hired:
        name = f"worker {len(self.facts) + 1}"
        self.facts[name] = {"name": name, "node": place.node, "threads": place.cpus, "gpus": place.gpus}
        actor = self._worker_class.options(
            num_cpus=place.cpus,
            num_gpus=place.gpus,
            resources=dict(self._config.runtime.ray.resources),
            scheduling_strategy=ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(place.node, soft=False),
        ).remote(self._config_ref, place.cpus)
        return Hired(name, place, actor)

    def _decide(self) -> None:
        """How models run is the same for all: as the first worker says that has them all, else who has most."""
        answers = [worker.models for worker in self.workers if worker.models is not None]
        if self.models.done() or not answers:
            return
        best = min(answers, key=_n_missing)
        all_answered = len(answers) == len(self.workers)
        if _n_missing(best) == 0 or all_answered or time.monotonic() - self._first_answer > _DECIDE_S:
            self.models.set_result(best)

    def _proven(self) -> dict[str, ResolvedModel]:
        models, _ = self.models.result()
        return {label: model for label, model in models.items() if isinstance(model, ResolvedModel)}

    def _take_facts(self, worker: Hired, found: WorkerFacts) -> None:
        models, _ = self.models.result()
        fault = found.fault
        if found.versions != metric_versions():
            fault = f"its node has other versions of the libraries that compute metrics: {found.versions}"
        for label, model in models.items():
            if isinstance(model, ResolvedModel) and found.weights.get(label) != model.checkpoint.weights_hash:
                fault = fault or f"{label} is another model on its node, or missing there"
        if fault:
            self._false_starts[worker.place.node] = _MAX_FALSE_STARTS
            self.lose(worker, fault)
            return
        worker.shards, worker.is_ready = set(found.shards), True
        self._false_starts[worker.place.node] = 0

    def _take_state(self, worker: Hired, state: WorkerState) -> None:
        worker.state = state
        self.facts[worker.name] |= {"texts": state.texts, "tokens": state.tokens, "busy_s": round(state.busy_s, 1)}
        for warning in state.warnings[worker.n_warnings :]:
            self.notices.append(f"{worker.name}: {warning}")
        worker.n_warnings = len(state.warnings)


def places_on(node: str, resources: Mapping[str, float], options: RayConfig, gpus: int) -> list[Place]:
    """Room for workers on one node.

    Args:
        node: Its id.
        resources: What Ray says that it has.
        options: What a worker takes.
        gpus: GPUs a worker.
    """
    n_cpus, n_gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    by_gpus = n_gpus // gpus if gpus else None
    cpus = options.cpus or max(1, n_cpus // max(1, by_gpus or 1))
    fits = [n_cpus // cpus, *([by_gpus] if by_gpus is not None else [])]
    fits += [int(resources.get(name, 0) // amount) for name, amount in options.resources.items() if amount]
    return [Place(node, cpus, gpus)] * min(fits)


def _n_missing(answer: ClusterModels) -> int:
    models, _ = answer
    return sum(not isinstance(model, ResolvedModel) for model in models.values())
