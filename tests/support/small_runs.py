"""Configs of real runs on small made-up data, a minute at most to run: a task of each kind of table, one corpus."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.data import text, write_files

TASKS = {"Pairs": "STS", "Search": "Retrieval", "Kinds": "Classification", "Groups": "Clustering", "Order": "Reranking"}
N_DOCUMENTS = 240


def write_small_run(
    folder: Path,
    tasks: Sequence[str],
    models: Mapping[str, str],
    *,
    model: Path | str,
    name: str,
    documents: Sequence[Mapping[str, Any]] | None = None,
    runtime: Mapping[str, Any] | None = None,
) -> Path:
    """Write data and config below a folder.

    Args:
        folder: Where data/, <name>.yaml and later results/ lie.
        tasks: Of `TASKS`.
        models: Label -> protocol, all of them of one checkpoint.
        model: The checkpoint.
        name: The run's.
        documents: Of the corpus, in place of short ones.
        runtime: Changes to the config's runtime.
    """
    corpus = documents or [{"_id": f"d{n}", "text": text(n, 20)} for n in range(N_DOCUMENTS)]
    for task in tasks:
        write_files(folder / "data" / task, _files(task, corpus))
    document = {
        "name": name,
        "models": [
            {"label": label, "model": str(model), "protocol": protocol, "dtype": "float32"}
            for label, protocol in models.items()
        ],
        "tasks": [{"local": task, "type": TASKS[task], "data": f"data/{task}"} for task in tasks],
        "runtime": {"device": "cpu", **(runtime or {})},
        "output": str(folder / "results"),
    }
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def _files(task: str, corpus: Sequence[Mapping[str, Any]]) -> dict[str, Sequence[Any]]:
    match task:
        case "Pairs":
            pairs = [{"sentence1": text(n), "sentence2": text(n + 3), "score": n % 6 / 1.0} for n in range(60)]
            return {"test.jsonl": pairs}
        case "Search":
            return {"corpus.jsonl": corpus, **_queries(50, min(len(corpus), N_DOCUMENTS))}
        case "Kinds":
            train = [{"text": text(n), "label": "abc"[n % 3]} for n in range(60)]
            return {
                "train.jsonl": train,
                "test.jsonl": [{"text": text(n + 500), "label": "abc"[n % 3]} for n in range(90)],
            }
        case "Groups":
            return {"test.jsonl": [{"text": text(n + 900), "label": "abcd"[n % 4]} for n in range(120)]}
        case _:
            ranked = [
                {"query-id": f"q{n}", "corpus-ids": [f"d{(n * 7 + k) % 60}" for k in range(9)]} for n in range(20)
            ]
            return {"corpus.jsonl": corpus[:60], **_queries(20, 60), "top_ranked/test.jsonl": ranked}


def _queries(n_queries: int, n_documents: int) -> dict[str, Sequence[Any]]:
    judged = [(f"q{n}", f"d{(n * 7 + k) % n_documents}", 1 + k) for n in range(n_queries) for k in range(2)]
    queries = [{"_id": f"q{n}", "text": text(n * 3, 4)} for n in range(n_queries)]
    return {"queries.jsonl": queries, "qrels/test.tsv": judged}
