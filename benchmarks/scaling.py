"""Executor ray: two workers against one, the driver's memory on a large corpus, and what a driver can feed.

    python benchmarks/scaling.py speedup --data FOLDER [--documents 3500]
    python benchmarks/scaling.py memory [--documents 1000000]
    python benchmarks/scaling.py parts
    python benchmarks/scaling.py model --tokens-per-s 150000 [--documents 8841823] [--tokens 80]

All nodes are on 127.0.0.1. `speedup` encodes SciFact's documents with all-MiniLM-L6-v2 on one and on two workers of one
thread each, models loaded before. `memory` runs the command on a made corpus over three nodes, watches the driver's
resident memory, and holds the ranking against that of one process. `parts` measures what the driver does a document
and a shard, and `model` computes from that, and from a worker's speed, what a search takes on 1 to 64 workers.
scaling.md has the figures.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import ray
from measuring import last_line
from ray.cluster_utils import Cluster

from evaluation.adapters.task_search import CORPUS_BLOCK, Documents
from evaluation.config.model_config import ModelConfig
from evaluation.config.run_config import RunConfig, Runtime
from evaluation.config.task_config import MtebTask
from evaluation.execution.ray.pool import WorkerPool
from evaluation.execution.ray.spread_encoder import SpreadEncoder
from evaluation.execution.ray.worker import pack_texts
from evaluation.search.exact import MergedSearch
from evaluation.search.top_k import Candidates

LOCAL = {"include_dashboard": False, "log_to_driver": False, "_node_ip_address": "127.0.0.1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    speedup = commands.add_parser("speedup")
    speedup.add_argument("--data", type=Path, required=True)
    speedup.add_argument("--documents", type=int, default=3_500)
    memory = commands.add_parser("memory")
    memory.add_argument("--documents", type=int, default=1_000_000)
    memory.add_argument("--queries", type=int, default=1_000)
    commands.add_parser("parts")
    model = commands.add_parser("model")
    model.add_argument("--tokens-per-s", type=float, required=True, help="of one worker")
    model.add_argument("--documents", type=int, default=8_841_823)
    model.add_argument("--tokens", type=float, default=80.0, help="of a document")
    model.add_argument("--shard", type=int, default=6_000, help="documents of a shard")
    model.add_argument("--feed", type=float, required=True, help="documents/s that the driver reads, cuts and packs")
    model.add_argument("--merge", type=float, nargs=2, required=True, help="seconds a shard: all pass, 1 % pass")
    options = parser.parse_args()
    {"speedup": _speedup, "memory": _memory, "parts": _parts, "model": _model}[options.command](options)


# ----------------------------------------------------------------------------------------------------------- speedup


def _speedup(options: argparse.Namespace) -> None:
    rows = (json.loads(line) for line in (options.data / "SciFact" / "corpus.jsonl").open(encoding="utf-8"))
    texts = [f"{row['title']} {row['text']}" for row in islice(rows, options.documents)]
    ray.init(address="local", num_cpus=2, **LOCAL)
    (one, alone), (two, together) = (_encoding(texts, n_workers) for n_workers in (1, 2))
    difference = float(np.abs(alone - together).max())
    print(f"{len(texts)} documents: one worker {one:.1f} s, two {two:.1f} s, {one / two:.2f} times; ", end="")
    print(f"largest difference of a vector's entry {difference:g}")
    last_line({"benchmark": "scaling speedup", "one_s": one, "two_s": two, "ratio": one / two, "differ": difference})


def _encoding(texts: list[str], n_workers: int) -> tuple[float, Any]:
    """Seconds that workers take, and the vectors."""
    model = "builtin:all-MiniLM-L6-v2"
    config = RunConfig(
        name="scaling",
        models=(ModelConfig.model_validate({"label": "model", "model": model, "dtype": "float32"}),),
        tasks=(MtebTask.model_validate({"mteb": "STSBenchmark"}),),
        runtime=Runtime.model_validate({"device": "cpu", "cache": False, "ray": {"workers": n_workers, "cpus": 1}}),
    )
    pool = WorkerPool(config)
    while len(pool.progress()) < n_workers:
        time.sleep(0.1)
    ray.get([worker.actor.encode.remote("model", pack_texts(["warm"])) for worker in pool._workers])
    models, _ = pool.models.result()
    encoder = SpreadEncoder(pool, "model", models["model"], name="all", urgency=(0,))
    started = time.perf_counter()
    vectors = encoder.encode(texts).vectors
    seconds = time.perf_counter() - started
    pool.close()
    return seconds, vectors


# ------------------------------------------------------------------------------------------------------------ memory


def _memory(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = _write_corpus(folder, options.documents, options.queries)
        os.environ["E5_EVALUATION_CACHE"] = str(folder / "cache")
        node: dict[str, Any] = {"node_ip_address": "127.0.0.1", "object_store_memory": 2**30}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **node})
        for _ in range(3):
            cluster.add_node(num_cpus=1, **node)
        settings = ["runtime.executor=ray", f"runtime.ray.address={cluster.address}"]
        spread_s, peak = _run(config, folder / "ray", settings)
        cluster.shutdown()
        alone_s, _ = _run(config, folder / "local", [])
        facts = json.loads((folder / "ray" / "scaling" / "run.json").read_text(encoding="utf-8"))["executor"]
        rankings = [_ranking(folder / side) for side in ("ray", "local")]
    same = rankings[0].equals(rankings[1])
    print(f"{options.documents:,} documents, {options.queries:,} queries, three nodes: {spread_s:.0f} s; ", end="")
    print(f"driver's resident memory at most {peak / 2**20:.0f} MiB; spread: {facts['spread']}; ", end="")
    print(f"ranking {'equals' if same else 'DIFFERS FROM'} one exact search ({alone_s:.0f} s out of the cache)")
    last_line({"benchmark": "scaling memory", "documents": options.documents, "peak_bytes": peak, "same": same})


def _write_corpus(folder: Path, n_documents: int, n_queries: int) -> Path:
    """Documents of random words for a random model of two layers and 64 dimensions."""
    rng = np.random.default_rng(1)
    words = np.array([f"{a}{b}" for a in ("re", "un", "in", "over", "sub") for b in _STEMS.split()])
    data = folder / "data"
    (data / "qrels").mkdir(parents=True)
    with (data / "corpus.jsonl").open("w", encoding="utf-8") as corpus:
        for number in range(n_documents):
            text = " ".join(words[rng.integers(0, len(words), 8 + number % 9)])
            corpus.write(json.dumps({"_id": f"d{number}", "text": text}) + "\n")
    queries = [{"_id": f"q{n}", "text": " ".join(words[rng.integers(0, len(words), 5)])} for n in range(n_queries)]
    (data / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries), encoding="utf-8")
    judged = "".join(f"q{n}\td{n * 7 % n_documents}\t1\n" for n in range(n_queries))
    (data / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged, encoding="utf-8")
    document = {
        "name": "scaling",
        "models": [{"label": "random", "model": str(_random_model(folder / "model")), "protocol": "none"}],
        "tasks": [{"local": "Made", "type": "Retrieval", "data": str(data)}],
        "runtime": {"device": "cpu", "store_texts": False},
    }
    file = folder / "scaling.yaml"
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


_STEMS = "act ance bar cast dict ence flect form gress ject late mit pel plex pose press rupt scribe sist spect"


def _random_model(folder: Path) -> Path:
    import shutil

    import torch
    from transformers import BertConfig, BertModel

    from evaluation.models.builtin import materialize

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    BertModel(BertConfig(vocab_size=30_522, **sizes)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if (materialize("all-MiniLM-L6-v2") / name).is_file():
            shutil.copy(materialize("all-MiniLM-L6-v2") / name, folder / name)
    return folder


def _run(config: Path, output: Path, settings: list[str]) -> tuple[float, int]:
    """Seconds and the largest resident memory of the command's process, bytes; its children are not counted."""
    command = [sys.executable, "-c", "from evaluation.commands.entry import run_benchmark; run_benchmark()"]
    arguments = [str(config), "--output", str(output), *(part for setting in settings for part in ("--set", setting))]
    started = time.perf_counter()
    process = subprocess.Popen([*command, *arguments])
    peak = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        peak = max([peak, *(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))])
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"the run ended with {process.returncode}")
    return time.perf_counter() - started, peak


def _ranking(output: Path) -> Any:
    (file,) = output.glob("scaling/jobs/*/*/*/run.parquet")
    return pq.read_table(file)


# ------------------------------------------------------------------------------------------------------------- parts


def _parts(options: argparse.Namespace) -> None:
    """What the driver does with documents as long as MSMARCO's, and with the candidates of its 6,980 queries."""
    rng = np.random.default_rng(2)
    words = np.array([f"{a}{b}" for a in ("re", "un", "in", "over", "sub") for b in _STEMS.split()])
    n_blocks, n_queries, k, shard = 6, 6_980, 1_000, 6_000
    texts = [" ".join(words[rng.integers(0, len(words), 45)]) for _ in range(n_blocks * CORPUS_BLOCK)]
    ray.init(address="local", num_cpus=1, **LOCAL)
    encoder = _FeedOnly(texts)
    started = time.perf_counter()
    n_shards = sum(1 for _ in encoder.feed())
    feed_s = time.perf_counter() - started
    merge = {share: _merge_s(rng, n_queries, int(k * share), k, shard) for share in (1.0, 0.1, 0.01)}
    ray.shutdown()
    figures = {
        "benchmark": "scaling parts",
        "documents_per_s": round(len(texts) / feed_s),
        "characters_a_document": round(sum(map(len, texts)) / len(texts)),
        "shards": n_shards,
        "merge_s_a_shard": {str(share): round(seconds, 4) for share, seconds in merge.items()},
        "candidate_bytes_a_shard": {str(share): int(12 * n_queries * k * share) for share in merge},
    }
    print(f"the driver reads, cuts and packs {figures['documents_per_s']:,} documents/s")
    print(f"merging a shard, {n_queries:,} queries, by share of {k:,} that passes: {figures['merge_s_a_shard']} s")
    last_line(figures)


def _model(options: argparse.Namespace) -> None:
    """Workers encode side by side, the driver feeds and merges in turn, and the last shard is waited for.

    Of the i-th shard a share of 1 / i passes the bounds, if the corpus is in no special order.
    """
    n_shards = -(-options.documents // options.shard)
    all_pass, few_pass = options.merge
    a_share = (all_pass - few_pass) / 0.99
    merge_s = n_shards * (few_pass - 0.01 * a_share) + a_share * (math.log(n_shards) + 0.577)
    driver_s = options.documents / options.feed + merge_s
    shard_s = options.shard * options.tokens / options.tokens_per_s
    print(f"{n_shards:,} shards of {shard_s:.1f} s; the driver needs {driver_s:.0f} s, {merge_s:.0f} of them to merge")
    alone = None
    for n_workers in (1, 2, 4, 8, 16, 32, 64):
        seconds = max(options.documents * options.tokens / options.tokens_per_s / n_workers, driver_s) + shard_s
        alone = alone or seconds
        limit = "driver" if seconds - shard_s == driver_s else "workers"
        print(f"| {n_workers} | {seconds:,.0f} s | {alone / seconds:.1f} | {limit} |")


class _FeedOnly:
    """The driver's half of a search, its work handed to nobody."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    def feed(self) -> Iterator[Any]:
        config = ModelConfig.model_validate({"label": "model", "model": "builtin:all-MiniLM-L6-v2"})
        from evaluation.execution.resolving import resolve_model

        run = RunConfig(name="x", models=(config,), tasks=(MtebTask.model_validate({"mteb": "STSBenchmark"}),))
        pool: Any = None
        encoder = SpreadEncoder(pool, "model", resolve_model(run, config), name="feed", urgency=(0,))
        starts = range(0, len(self._texts), CORPUS_BLOCK)
        corpus = (
            Documents([f"d{start + n}" for n in range(CORPUS_BLOCK)], self._texts[start : start + CORPUS_BLOCK])
            for start in starts
        )
        return encoder._searches(corpus, "passage: ", None, MergedSearch(1, 1), deque())


def _merge_s(rng: np.random.Generator, n_queries: int, passing: int, k: int, shard: int) -> float:
    merged = MergedSearch(n_queries, k)
    merged.announce([str(number) for number in range(100 * shard)])

    def found(count: int, start: int) -> Candidates:
        counts = np.full(n_queries, count, np.int64)
        positions = (np.argsort(rng.random((n_queries, shard)), 1)[:, :count] + start).ravel()
        return Candidates(counts, rng.random(n_queries * count).astype(np.float32), positions)

    merged.add(found(k, 0), shard)
    rounds = [found(passing, (number + 1) * shard) for number in range(4)]
    started = time.perf_counter()
    for candidates in rounds:
        merged.add(candidates, shard)
    return (time.perf_counter() - started) / len(rounds)


if __name__ == "__main__":
    main()
