"""Executor ray: the parts by themselves, then a run on two workers against the same run in one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support.ray_runs import Watcher, assert_same_runs, config_of, environment, records_of, watched_run, write_run

from evaluation import run
from evaluation.config.run_config import RayConfig
from evaluation.errors import MissingExtraError, UsageError
from evaluation.execution import runner
from evaluation.execution.provenance import metric_versions
from evaluation.execution.resolving import ResolvedModel

pytest.importorskip("ray")

from evaluation.execution.ray import places as ray_places  # noqa: E402
from evaluation.execution.ray.places import places_in_cluster, places_on  # noqa: E402
from evaluation.execution.ray.worker import CorpusPart, CorpusQuery, Worker, pack_texts, unpack_texts  # noqa: E402
from evaluation.models.facts import TextRole  # noqa: E402
from evaluation.records.store import RunStore  # noqa: E402
from evaluation.search.exact import ExactSearch  # noqa: E402


@pytest.fixture(scope="module")
def spread_run(tmp_path_factory: pytest.TempPathFactory, save_bert: Callable[..., Path]) -> Path:
    return write_run(tmp_path_factory.mktemp("ray"), save_bert, workers=2, cpus=1)


# ---------------------------------------------------------------------------------------------------------- the parts


@pytest.mark.parametrize(
    ("resources", "options", "gpus", "expected"),
    [
        ({"CPU": 8}, {}, 0, [(8, 0)]),
        ({"CPU": 8}, {"cpus": 3}, 0, [(3, 0), (3, 0)]),
        ({"CPU": 16, "GPU": 4}, {}, 1, [(4, 1)] * 4),
        ({"CPU": 16, "GPU": 4}, {}, 0, [(16, 0)]),
        ({"CPU": 16, "GPU": 4}, {"cpus": 3}, 2, [(3, 2), (3, 2)]),
        ({"CPU": 2, "GPU": 4}, {}, 1, [(1, 1), (1, 1)]),
        ({"CPU": 8}, {}, 1, []),
        ({"CPU": 8}, {"cpus": 1, "resources": {"fast": 2}}, 0, []),
        ({"CPU": 8, "fast": 5}, {"cpus": 1, "resources": {"fast": 2}}, 0, [(1, 0), (1, 0)]),
        ({}, {}, 0, []),
    ],
)
def test_room_for_workers_on_a_node(
    resources: dict[str, float], options: dict[str, object], gpus: int, expected: list[tuple[int, int]]
) -> None:
    found = places_on("node", resources, RayConfig.model_validate(options), gpus)
    assert [(place.cpus, place.gpus) for place in found] == expected


@pytest.mark.parametrize(
    ("device", "runtime", "expected"),
    [
        ("auto", {}, [("b", 4, 1), ("b", 4, 1)]),  # not on the node without GPUs
        ("cpu", {}, [("a", 8, 0), ("b", 8, 0)]),
        ("auto", {"gpus": 0, "cpus": 4}, [("a", 4, 0), ("b", 4, 0), ("a", 4, 0), ("b", 4, 0)]),
    ],
)
def test_room_for_workers_in_a_cluster(
    spread_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    runtime: dict[str, int],
    expected: list[tuple[str, int, int]],
) -> None:
    nodes = [
        {"NodeID": "b", "Alive": True, "Resources": {"CPU": 8, "GPU": 2}},
        {"NodeID": "a", "Alive": True, "Resources": {"CPU": 8}},
        {"NodeID": "c", "Alive": False, "Resources": {"CPU": 8}},
    ]
    monkeypatch.setattr(ray_places.ray, "nodes", lambda: nodes)
    document = {"runtime.device": device, "runtime.ray": {"workers": None, **runtime}}
    found = places_in_cluster(config_of(spread_run, "ray", **document).runtime)
    assert [tuple(place) for place in found] == expected


def test_texts_travel_unchanged() -> None:
    texts = ["", "plain", "naïve 東京", "half of a pair \ud800", "line\nand \0"]
    assert unpack_texts(pack_texts(texts)) == texts


def test_worker_searches_a_shard_as_one_process_does(
    spread_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path))
    config = config_of(spread_run, "local")
    worker = Worker(config, 1)
    models, hardware = worker.resolve()
    assert hardware.cores
    resolved = models["e5"]
    assert isinstance(resolved, ResolvedModel)
    on_cuda = replace(resolved, settings=replace(resolved.settings, device="cuda"))
    assert "cuda" in worker.adopt({"e5": on_cuda}, metric_versions())
    other = replace(resolved, checkpoint=replace(resolved.checkpoint, weights_hash="0" * 64))
    assert worker.adopt({"e5": other}, metric_versions()) == "e5 is another model on its node"
    assert "other versions of the libraries" in worker.adopt(models, {**metric_versions(), "mteb": "0.1"})
    assert worker.adopt(models, metric_versions()) == ""
    texts = ["passage: a red lamp", "passage: a river", "passage: winter"]
    rows, ids = np.array([0, 1, 1, 2], np.int32), ["a", "b", "c", "d"]
    part = CorpusPart(pack_texts(texts), rows, pack_texts(ids), np.array([10, 20, 30, 40]), TextRole())
    encoded, vectors = worker.encode("e5", pack_texts(texts), TextRole())
    assert encoded.examples == tuple(texts[:2])
    assert encoded.n_tokens == encoded.token_lengths.sum() > 0
    queries = vectors[:2]
    again, found = worker.search("e5", part, CorpusQuery(queries, 3, False), np.full(2, -1e30, np.float32))
    assert again.n_tokens == 0, "out of the cache"
    search = ExactSearch(queries, 3)
    search.add(vectors[rows], ids)
    assert sorted(found.positions[:3].tolist()) == sorted((search.result().positions[0] * 10 + 10).tolist())
    assert worker.state().tokens == encoded.n_tokens


def test_ray_that_is_not_installed_is_one_sentence(spread_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "find_spec", lambda name: None if name == "ray" else find_spec(name))
    with pytest.raises(MissingExtraError, match=r"pip install 'e5-evaluation\[ray\]'"):
        run(config_of(spread_run, "ray"))


def test_no_cluster_at_the_address_is_one_sentence(spread_run: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no Ray cluster at '127.0.0.1:9' \(runtime.ray.address\)"):
        run(config_of(spread_run, "ray", **{"runtime.ray.address": "127.0.0.1:9"}))


# ------------------------------------------------------------------------------------------------------------- a run


def test_two_workers_give_the_scores_of_one_process(
    spread_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, single_thread: None
) -> None:
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "one"))
    local = run(config_of(spread_run, "local"))
    monkeypatch.setenv("E5_EVALUATION_CACHE", str(tmp_path / "two"))
    watcher = Watcher(lambda workers: False, lambda: None)
    with environment():
        outcome, facts = watched_run(config_of(spread_run, "ray"), watcher)
    assert_same_runs(outcome.folder, local.folder)
    assert watcher.notices[0].startswith("starting Ray on this machine")
    assert facts["kind"] == "ray"
    assert facts["spread"] == ["e5 on Search", "none on Search"]
    assert facts["redone"] == []
    assert len(facts["workers"]) == 2
    assert RunStore(outcome.folder).read_run().versions["ray"]
    found, expected = records_of(outcome.folder), records_of(local.folder)
    for key in (("e5", "Search"), ("none", "Search")):
        assert found[key].timing.tokens == expected[key].timing.tokens > 0
    assert outcome.n_executed == 8

    def no_cluster(address: str | None) -> None:
        raise AssertionError("Ray is started")

    monkeypatch.setattr(runner, "prepare", no_cluster)
    again, kept = watched_run(config_of(spread_run, "ray"), watcher)
    assert again.n_executed == 0
    assert kept == facts
    assert [record.fingerprint for record in again.records] == [record.fingerprint for record in outcome.records]
    for change in ({"models.0.dtype": "bfloat16"}, {"models.0.max_length": 16}):  # other scores: Ray is needed
        with pytest.raises(AssertionError, match="Ray is started"):
            run(config_of(spread_run, "ray", **change))
    next(outcome.folder.glob("jobs/e5/Pairs/*/samples.parquet")).write_bytes(b"")
    with pytest.raises(AssertionError, match="Ray is started"):
        run(config_of(spread_run, "ray"))
