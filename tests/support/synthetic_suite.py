"""Runs of any size on disk, made without model or dataset; each score can be recomputed from its samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from support.fake_runs import job_record, write_manifest
from support.record_parts import EDGES, hardware, job_audit, side_audit, subset_scores, timing

from evaluation.analysis.statistics.sample_reading import SampleReader
from evaluation.analysis.statistics.units import UnitPart, Units, score
from evaluation.protocols import TaskRules
from evaluation.records.job_audit import JobAudit, TokenLengths
from evaluation.records.job_record import JobRecord
from evaluation.records.origin import Checkout
from evaluation.records.store import RunStore
from evaluation.tasks.index import load_index
from evaluation.tasks.types import TASK_CLASS_BY_TYPE

WORDS = [
    "harbour",
    "lantern",
    "copper",
    "meadow",
    "archive",
    "pocket",
    "violin",
    "granite",
    "window",
    "letter",
    "orchard",
]
HOSTILE_QUERY = (
    "<script>window.planted = 'script'</script><img src=x onerror=\"window.planted = 'image'\"> </style> & \x07"
)
HOSTILE_DOCUMENT = "]]></script --><svg onload=\"window.planted = 'svg'\"> ‮right to left‬ {{ 7 * 7 }}"
SOURCE = Checkout(commit="0123456789abcdef0123456789abcdef01234567", dirty=False)


def write_suite(
    folder: Path,
    tasks: Iterable[str],
    *,
    n_models: int = 12,
    n_units: int = 200,
    store_texts: bool = True,
    protocols: Sequence[str] = ("e5",),
) -> Path:
    """Write a run of mteb's tasks by name.

    Args:
        folder: The run's folder; its name is the run's.
        tasks: Names; an aggregate such as CQADupstackRetrieval stands for its parts.
        n_models: Models, each a little better than the one before.
        n_units: Queries or examples a task.
        store_texts: Also write texts.parquet.
        protocols: Of the models, in turn.
    """
    index, store = load_index(), RunStore(folder)
    listed: list[tuple[str, str | None]] = []
    for name in tasks:
        parts = index.task(name).parts
        listed += [(part, name) for part in parts] if parts else [(name, None)]
    labels = [f"model-{number:02}" for number in range(1, n_models + 1)]
    skills = np.linspace(0.45, 0.7, max(n_models, 12))
    records = []
    for position, label in enumerate(labels):
        protocol = protocols[position % len(protocols)]
        for task, aggregate in listed:
            made = _job(label, protocol, task, aggregate, skills[position], n_units, store_texts=store_texts)
            records.append(_with_true_score(store, *made))
    models = [{"label": label, "model": f"example/{label}", "protocol": "e5"} for label in labels]
    return write_manifest(
        folder,
        records,
        config={"name": folder.name, "models": models, "tasks": [{"mteb": name} for name in tasks]},
        config_file=f"configs/{folder.name}.yaml",
        versions={"python": "3.11", "mteb": "2.26.24"},
        source=SOURCE,
        hardware=hardware(),
        started="2026-01-01T00:00:00+00:00",
        ended="2026-01-01T01:00:00+00:00",
    )


def _job(
    label: str,
    protocol: str,
    task: str,
    aggregate: str | None,
    skill: float,
    n: int,
    *,
    store_texts: bool,
) -> tuple[JobRecord, dict[str, pa.Table]]:
    entry = load_index().task(task)
    shared = np.random.default_rng(_seed(task))
    own = np.random.default_rng(_seed(task, label))
    split, metric = entry.splits[0], entry.main_score
    tables: dict[str, pa.Table] = {}
    kind = TASK_CLASS_BY_TYPE[entry.type]
    place = {"split": [split] * n, "subset": ["default"] * n}
    difficulty, noise = shared.random(n), own.normal(0, 0.15, n)
    good = np.clip(skill + 0.6 * (0.5 - difficulty) + noise, 0, 1)
    examples = list(range(n))
    match kind:
        case "AbsTaskRetrieval":
            column = {"ndcg_at_10": "ndcg_cut_10"}.get(metric, metric)
            queries = [f"q{number:04}" for number in examples]
            tables["samples"] = pa.table({**place, "query_id": queries, column: np.round(good, 2)})
            tables |= _rankings(split, queries, own, store_texts=store_texts)
        case "AbsTaskClassification":
            gold = shared.integers(0, 5, 3 * n)
            right = own.random(3 * n) < np.tile(good, 3)
            tables["samples"] = pa.table(
                {
                    **{name: value * 3 for name, value in place.items()},
                    "experiment": np.repeat([0, 1, 2], n),
                    "example": examples * 3,
                    "gold": gold,
                    "prediction": np.where(right, gold, (gold + 1) % 5),
                }
            )
        case "AbsTaskClustering":
            tables["samples"] = pa.table({**place, "level": ["Level 0"] * n, "example": examples, "v_measure": good})
        case "AbsTaskSummarization":
            human = shared.random(20 * n)
            similar = human + own.normal(0, 1.0 - skill, 20 * n)
            columns = {name: similar for name in ("cosine_scores", "dot_scores", "similarity_scores")}
            tables["samples"] = pa.table(
                {
                    **{name: value * 20 for name, value in place.items()},
                    "example": np.repeat(examples, 20),
                    **columns,
                    "human_scores": human,
                }
            )
        case _:
            gold = shared.random(n) if kind == "AbsTaskSTS" else (shared.random(n) < 0.3).astype(int)
            similar = gold + own.normal(0, 1.0 - skill, n)
            names = ("cosine_scores", "dot_scores", "similarity_scores")
            distances = {f"{name}_distances": -similar for name in ("manhattan", "euclidean")}
            columns = {**{name: similar for name in names}, **distances}
            tables["samples"] = pa.table({**place, "example": examples, "gold": gold, **columns})
    record = job_record(
        label,
        task,
        protocol=protocol,
        type=entry.type,
        aggregate=aggregate,
        splits=(split,),
        metric=metric,
        audit=_audit(entry.type, protocol, own),
        timing=timing(encoding_s=50.0 / skill),
        **_provenance(label, task),
    )
    return record, tables


def _with_true_score(store: RunStore, record: JobRecord, tables: Mapping[str, pa.Table]) -> JobRecord:
    """Store a record whose score is what its samples say."""
    saved = store.save(record, tables)
    found = SampleReader().read(store.job_folder(record.label, record.task, record.fingerprint), saved)
    assert found is not None, record.task
    parts = tuple(UnitPart(*part) for part in found.parts)
    units = Units(record.task, record.type, record.metric, found.statistic, found.kind, parts)
    value = score(units)
    scores = {split: (subset_scores(value, **{record.metric: value}),) for split in record.scores}
    return store.save(saved.model_copy(update={"main_score": value, "scores": scores}), tables)


def _rankings(
    split: str, queries: Sequence[str], own: np.random.Generator, *, store_texts: bool
) -> dict[str, pa.Table]:
    """A ranking to depth 10 of 60 documents, one judged document a query, and texts with traps in them."""
    documents = [f"d{number:03}" for number in range(60)]
    rows = [(query, documents[d], rank + 1) for query in queries for rank, d in enumerate(own.permutation(60)[:10])]
    n, words = len(rows), np.random.default_rng(7)
    run = {
        "split": [split] * n,
        "subset": ["default"] * n,
        "query_id": [row[0] for row in rows],
        "corpus_id": [row[1] for row in rows],
        "rank": pa.array([row[2] for row in rows], pa.int32()),
        "score": pa.array(np.linspace(1, 0, n), pa.float32()),
    }
    judged = {
        "split": [split] * len(queries),
        "subset": ["default"] * len(queries),
        "query_id": list(queries),
        "corpus_id": [documents[number % 60] for number in range(len(queries))],
        "relevance": pa.array([1] * len(queries), pa.int32()),
    }
    texts = [f"{HOSTILE_QUERY} {number}" for number in range(len(queries))]
    texts += [f"{HOSTILE_DOCUMENT} {' '.join(words.choice(WORDS, 50))}" for _ in documents]
    stored = {
        "split": [split] * len(texts),
        "subset": ["default"] * len(texts),
        "kind": ["query"] * len(queries) + ["document"] * len(documents),
        "id": [*queries, *documents],
        "text": texts,
    }
    tables = {"run": pa.table(run), "qrels": pa.table(judged)}
    return {**tables, "texts": pa.table(stored)} if store_texts else tables


def _audit(task_type: str, protocol: str, own: np.random.Generator) -> JobAudit:
    sided = TASK_CLASS_BY_TYPE[task_type] == "AbsTaskRetrieval"
    prefixes = {"query": "query: ", "passage": "passage: "} if sided else {"text": "query: "}
    counts = own.multinomial(1000, [0, 0.05, 0.25, 0.35, 0.2, 0.1, 0.04, 0.01, 0, 0, 0, 0]).tolist()
    sides = {
        side: side_audit(
            prefix=prefix if protocol == "e5" else "",
            examples=((prefix if protocol == "e5" else "") + HOSTILE_DOCUMENT,),
            texts=1100,
            unique_texts=1000,
            truncated=counts[7],
            truncated_share=counts[7] / 1000,
            longest=700,
            token_lengths=TokenLengths(edges=EDGES, counts=tuple(counts)),
        )
        for side, prefix in prefixes.items()
    }
    return job_audit(TaskRules(protocol), **sides)


def _provenance(label: str, task: str) -> dict[str, Any]:
    digest = hashlib.sha256(label.encode()).hexdigest()
    name = f"example/{label}"
    model = {"declared": name, "name": name, "revision": digest[:40]}
    hashes = {"weights_sha256": digest, "tokenizer_sha256": digest}
    dataset = {"name": f"mteb/{task}", "revision": hashlib.sha256(task.encode()).hexdigest()[:40]}
    return {"model": {**model, **hashes}, "dataset": dataset, "versions": {"mteb": "2.26.24"}, "source": SOURCE}


def _seed(*names: str) -> int:
    return int.from_bytes(hashlib.sha256(" ".join(names).encode()).digest()[:4])
