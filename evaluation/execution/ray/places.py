"""Finds the places in a Ray cluster where workers fit."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import NamedTuple

import ray

from evaluation.config.run_config import RayConfig, Runtime


class Place(NamedTuple):
    """Room for a worker on a node."""

    node: str
    cpus: int
    gpus: int


def places_in_cluster(runtime: Runtime) -> list[Place]:
    """Returns the room on all nodes, one place of each node in turn. Nodes without GPUs are left out if any has one."""
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    on_gpus = runtime.device != "cpu" and any(node["Resources"].get("GPU", 0) for node in alive)
    gpus = runtime.ray.gpus if runtime.ray.gpus is not None else int(on_gpus)
    nodes = [
        places_on(node["NodeID"], node["Resources"], runtime.ray, gpus)
        for node in sorted(alive, key=lambda node: str(node["NodeID"]))
    ]
    return [place for row in zip_longest(*nodes) for place in row if place is not None]


def places_on(node: str, resources: Mapping[str, float], options: RayConfig, gpus: int) -> list[Place]:
    """Returns the room on one node.

    Args:
        resources: The node's resources, as Ray reports them.
        options: What a worker needs.
        gpus: GPUs per worker.
    """
    n_cpus, n_gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    by_gpus = n_gpus // gpus if gpus else None
    cpus = options.cpus or max(1, n_cpus // max(1, by_gpus or 1))
    fits = [n_cpus // cpus, *([by_gpus] if by_gpus is not None else [])]
    fits += [int(resources.get(name, 0) // amount) for name, amount in options.resources.items() if amount]
    return [Place(node, cpus, gpus)] * min(fits)
