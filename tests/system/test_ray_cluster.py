"""Executor ray on a cluster of three nodes: nodes that die, a driver that dies, work that kills workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.ray_runs import Watcher, assert_same_runs, config_of, environment, records_of, watched_run, write_run
from support.threads import one_thread

from evaluation import run
from evaluation.encoding.cache import hash_texts
from evaluation.encoding.cache_files import read_shard
from evaluation.errors import WorkerError
from evaluation.protocols import document_text
from evaluation.records.store import RunStore
from evaluation.search.exact import MergedSearch

ray = pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")  # comes with ray
from evaluation.execution.ray import pool as ray_pool  # noqa: E402
from evaluation.execution.ray.pool import Work, WorkerPool  # noqa: E402

pytestmark = pytest.mark.full

N_DOCUMENTS = 6_000


class Nodes(NamedTuple):
    """A cluster whose head has no room for workers, its three nodes, and the cache folder that they share."""

    cluster: Any
    nodes: list[Any]
    cache: Path

    def kill(self, place: int) -> None:
        """With its workers, at once: a worker that outlives its node for a second may finish what it has in hand."""
        node = self.nodes[place]
        for process in psutil.Process(node.all_processes["raylet"][0].process.pid).children(recursive=True):
            process.kill()
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def three_nodes(tmp_path: Path) -> Iterator[Nodes]:
    """The nodes share a cache, as machines on one file system do. All are on 127.0.0.1."""
    from ray.cluster_utils import Cluster

    address = {"node_ip_address": "127.0.0.1"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **address})
    cache = tmp_path / "shared cache"
    with environment(E5_EVALUATION_CACHE=str(cache)):
        nodes = [cluster.add_node(num_cpus=1, **address) for _ in range(3)]
    yield Nodes(cluster, nodes, cache)
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def spread_run(tmp_path: Path, save_bert: Callable[..., Path]) -> Path:
    """Seconds of work for each worker, so that it can be killed in the middle."""
    sizes = {"max_length": 128, "num_hidden_layers": 8, "intermediate_size": 256}
    return write_run(tmp_path, save_bert, n_documents=N_DOCUMENTS, sizes=sizes)


@pytest.fixture
def local_run(spread_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same run in one process, on one thread as the workers are."""
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "cache of one process"))
    with one_thread():
        return run(config_of(spread_run, "local")).folder


def on(nodes: Nodes, file: Path, **overrides: Any) -> Any:
    return config_of(file, "ray", **{"runtime.ray.address": nodes.cluster.address, **overrides})


def nothing() -> None:
    """Is done."""


def test_nodes_killed_during_encoding_and_during_search(
    three_nodes: Nodes, spread_run: Path, local_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = Watcher(
        lambda workers: len(workers) == 3 and all("Search" in worker.doing for worker in workers),
        lambda: three_nodes.kill(0),
    )
    outcome, facts = watched_run(on(three_nodes, spread_run), killer)
    assert killer.has_acted
    assert_same_runs(outcome.folder, local_run)
    assert 1 <= len(facts["redone"]) <= 2, facts
    assert any("is lost" in notice for notice in killer.notices)
    assert sum("lost" in worker for worker in facts["workers"]) >= 1

    merged: list[int] = []
    original = MergedSearch.add

    def add(self: MergedSearch, *arguments: Any) -> None:
        original(self, *arguments)
        merged.append(len(merged))
        if len(merged) == 3:
            three_nodes.kill(1)

    monkeypatch.setattr(MergedSearch, "add", add)
    # The cache holds the vectors, so that what is under way now is search alone.
    again, facts = watched_run(
        on(three_nodes, spread_run, output=str(spread_run.parent / "again")), Watcher(lambda workers: False, nothing)
    )
    assert_same_runs(again.folder, local_run)
    assert facts["redone"], "what the dead node had in hand"


def test_driver_killed_and_started_again_encodes_no_finished_shard_again(
    three_nodes: Nodes, spread_run: Path, local_run: Path
) -> None:
    overrides = {"runtime.executor": "ray", "runtime.ray.address": three_nodes.cluster.address}
    overrides["output"] = str(spread_run.parent / "ray")
    arguments = [part for key, value in overrides.items() for part in ("--set", f"{key}={value}")]
    start = "from evaluation.commands.entry import run_benchmark; run_benchmark()"
    command = [sys.executable, "-c", start, str(spread_run), *arguments]
    with environment():
        driver = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240

    def segments() -> list[Path]:
        return list(three_nodes.cache.rglob("*.safetensors"))

    def has_six_shards() -> bool:
        return sum(file.stat().st_size > 40_000 for file in segments()) >= 6  # those of other jobs are smaller

    while not has_six_shards():
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    time.sleep(5)  # its workers end by themselves
    kept = [stored for file in segments() if (stored := read_shard(file)) is not None]
    finished = {
        tuple(row): int(length)
        for hashes, shard in kept
        for row, length in zip(hashes.tolist(), shard.token_lengths, strict=True)
    }
    outcome, facts = watched_run(on(three_nodes, spread_run), Watcher(lambda workers: False, nothing))
    assert_same_runs(outcome.folder, local_run)
    key = ("e5", "Search")
    before = sum(finished.get(tuple(row), 0) for row in hash_texts(texts_of(spread_run)).tolist())
    now = records_of(outcome.folder)[key].timing.tokens
    assert before > 6 * 200 * 60, "six shards"
    assert now == records_of(local_run)[key].timing.tokens - before
    assert sum(worker["tokens"] for worker in facts["workers"]) >= now


def texts_of(spread_run: Path) -> list[str]:
    """The distinct strings that the tokenizer receives of Search under e5."""
    folder = spread_run.parent / "data" / "Search"
    documents, queries = (
        [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("corpus", "queries")
    )
    texts = [f"passage: {document_text(row['title'], row['text'], join_title=True)}" for row in documents]
    return list(dict.fromkeys([*texts, *(f"query: {row['text']}" for row in queries)]))


def test_work_that_kills_its_workers_fails_alone(three_nodes: Nodes, spread_run: Path) -> None:
    def kills(actor: Any) -> Any:
        answer = actor.run_job.options(concurrency_group="work").remote(None)
        ray.kill(actor)
        return answer

    def looks(actor: Any) -> Any:
        return actor.state.remote()

    ray.init(address=three_nodes.cluster.address)
    pool = WorkerPool(on(three_nodes, spread_run))
    deadly = pool.submit(Work(kills, "deadly", "e5", (0.0,)))
    harmless = pool.submit(Work(looks, "harmless", "e5", (1.0,)))
    with pytest.raises(WorkerError, match="it killed 3 workers"):
        deadly.result(timeout=240)
    assert harmless.result(timeout=240).texts == 0
    assert pool.facts()["redone"] == ["deadly", "deadly"]
    pool.close()


def test_cluster_that_is_gone_fails_jobs_in_a_sentence(
    three_nodes: Nodes, spread_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "_NO_WORKER_S", 10.0)

    def end() -> None:
        for place in range(3):
            three_nodes.kill(place)

    watcher = Watcher(lambda workers: any("Search" in worker.doing for worker in workers), end)
    outcome, _ = watched_run(on(three_nodes, spread_run), watcher)
    assert {record.label for record in outcome.failed} <= {"e5", "none"}
    errors = [record.error for record in outcome.failed]
    assert errors
    assert all("no node of the Ray cluster" in error.message for error in errors if error)
    assert RunStore(outcome.folder).read_run().executor["redone"]
