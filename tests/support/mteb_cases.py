"""A task of every type twice: as our config and files, and as a task object of mteb with its dataset set by hand.

Nothing of ours takes part in the second. Labels are derived from positions and lengths: they mean nothing, and are the
same on both sides.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mteb
from datasets import Dataset, DatasetDict
from mteb import abstasks
from mteb.abstasks.task_metadata import TaskMetadata

from evaluation.records.job_record import SubsetScores

TOLERANCE = 1e-4


class Case(NamedTuple):
    """One comparison: our config's task, the files it reads, and a fresh task object of mteb on the same data."""

    task: dict[str, Any]
    files: dict[str, list[Any]]
    reference: Any


# ------------------------------------------------------------------------------------------- data, from positions alone


def _number(text: str, below: int) -> int:
    return zlib.crc32(text.encode()) % below


def _half(text: str, *, second: bool = False) -> str:
    words = text.split()
    middle = (len(words) + 1) // 2
    return " ".join(words[middle:] or words) if second else " ".join(words[:middle])


def _spread(pool: Sequence[str], n: int, start: int = 0) -> list[str]:
    """n texts at equal distances over the whole pool."""
    step = len(pool) // n
    return list(pool[start::step])[:n]


def _short(pool: Sequence[str]) -> list[str]:
    """Texts that are not truncated: a text and its half cut to one length would be alike but for rounding."""
    return [text for text in pool if len(text) < 200]


def _block(pool: Sequence[str], text: str, n: int) -> int:
    """Which n-th of the pool a text is in: a label that has to do with the text."""
    return pool.index(text) * n // len(pool)


def _columns(rows: Sequence[Mapping[str, Any]], **renamed: str) -> Dataset:
    return Dataset.from_dict({renamed.get(name, name): [row[name] for row in rows] for name in rows[0]})


def _own_task(base: str, task_type: str, main_score: str, dataset: Any, **attributes: Any) -> Any:
    metadata = TaskMetadata(
        name=f"Reference{task_type}",
        description="Data set by hand.",
        dataset={"path": "reference/data", "revision": "1"},
        type=task_type,
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main_score,
    )
    task = type("Reference", (getattr(abstasks, base),), {"metadata": metadata, **attributes})()
    task.dataset, task.data_loaded = dataset, True
    return task


def _registered(name: str, dataset: Any, **chosen: Any) -> Any:
    task = mteb.get_task(name, **chosen)
    task.dataset, task.data_loaded = dataset, True
    return task


def local_task(task_type: str, **more: Any) -> dict[str, Any]:
    return {"local": f"Own{task_type}", "type": task_type, **more}


# --------------------------------------------------------------------------------------------------------------- cases


def _retrieval(pool: list[str], task_type: str, main_score: str, *, rerank: bool, instruct: bool) -> Case:
    """Queries are half of a document; a third of the documents has no title."""
    texts = _spread(pool, 150)
    corpus = [
        {"id": f"d{row}", "title": _half(text) if row % 3 else "", "text": text if row % 5 else f" {text}\n"}
        for row, text in enumerate(texts)
    ]
    queries = [{"id": f"q{number}", "text": _half(text, second=True)} for number, text in enumerate(texts[:110])]
    instructions = {query["id"]: f"Prefer {_half(texts[-1 - row])}" for row, query in enumerate(queries)}
    qrels = {
        query["id"]: {f"d{row}": 2, f"d{(row * 7 + 3) % 150}": 1, f"d{(row * 11 + 1) % 150}": 0}
        for row, query in enumerate(queries)
    }
    candidates = {
        query["id"]: [*qrels[query["id"]], *(f"d{(row * 13 + step * 17 + 5) % 150}" for step in range(12))]
        for row, query in enumerate(queries)
    }
    candidates = {query: list(dict.fromkeys(documents)) for query, documents in candidates.items()}
    files: dict[str, list[Any]] = {
        "corpus.jsonl": [{"_id": row["id"], "title": row["title"], "text": row["text"]} for row in corpus],
        "queries.jsonl": [{"_id": row["id"], "text": row["text"]} for row in queries],
        "qrels/test.tsv": [(query, document, grade) for query in qrels for document, grade in qrels[query].items()],
    }
    if rerank:
        files["top_ranked/test.jsonl"] = [{"query-id": query, "corpus-ids": ids} for query, ids in candidates.items()]
    if instruct:
        files["instructions.jsonl"] = [{"query-id": query, "instruction": text} for query, text in instructions.items()]
        queries = [{**row, "instruction": instructions[row["id"]]} for row in queries]
    split = {
        "corpus": _columns(corpus),
        "queries": _columns(queries),
        "relevant_docs": qrels,
        "top_ranked": candidates if rerank else None,
    }
    reference = _own_task("AbsTaskRetrieval", task_type, main_score, {"default": {"test": split}})
    return Case(local_task(task_type), files, reference)


def _sts(pool: list[str]) -> Case:
    texts = _spread(_short(pool), 140)
    rows = [
        {"sentence1": text, "sentence2": _half(texts[(row + row % 3) % 140]), "score": _number(text, 51) / 10}
        for row, text in enumerate(texts)
    ]
    reference = _own_task("AbsTaskSTS", "STS", "cosine_spearman", DatasetDict(test=_columns(rows)))
    return Case(local_task("STS"), {"test.jsonl": rows}, reference)


def _pair_classification(pool: list[str]) -> Case:
    texts = _spread(_short(pool), 140)
    rows = [
        {"sentence1": text, "sentence2": _half(texts[(row + row % 3) % 140]), "label": int(row % 3 == 0)}
        for row, text in enumerate(texts)
    ]
    dataset = DatasetDict(test=_columns(rows, label="labels"))
    reference = _own_task("AbsTaskPairClassification", "PairClassification", "max_ap", dataset)
    return Case(local_task("PairClassification"), {"test.jsonl": rows}, reference)


def _classification(pool: list[str]) -> Case:
    files = {
        f"{split}.jsonl": [
            {"text": text, "label": f"part {_block(pool, text, 6)}"} for text in _spread(pool, 120, start)
        ]
        for split, start in (("train", 0), ("test", 7))
    }
    dataset = DatasetDict({name.removesuffix(".jsonl"): _columns(rows) for name, rows in files.items()})
    options = {"n_experiments": 2}
    reference = _own_task("AbsTaskClassification", "Classification", "accuracy", dataset, **options)
    return Case(local_task("Classification", options=options), files, reference)


def _cross_validation(pool: list[str]) -> Case:
    """Learnt and scored on five folds of the one split there is."""
    rows = [{"text": text, "label": _block(pool, text, 4)} for text in _spread(pool, 120)]
    options = {"is_cross_validation": True, "train_split": "test", "n_experiments": 5}
    dataset = DatasetDict(test=_columns(rows))
    reference = _own_task("AbsTaskClassification", "Classification", "accuracy", dataset, **options)
    return Case(local_task("Classification", options=options), {"test.jsonl": rows}, reference)


def _multilabel(pool: list[str]) -> Case:
    def labels(text: str) -> list[str]:
        return [name for name, holds in (("long", len(text) > 90), ("early", _block(pool, text, 2) == 0)) if holds]

    files = {
        f"{split}.jsonl": [{"text": text, "label": labels(text)} for text in _spread(pool, 120, start)]
        for split, start in (("train", 0), ("test", 7))
    }
    dataset = DatasetDict({name.removesuffix(".jsonl"): _columns(rows) for name, rows in files.items()})
    reference = _own_task("AbsTaskMultilabelClassification", "MultilabelClassification", "accuracy", dataset)
    return Case(local_task("MultilabelClassification"), files, reference)


def _regression(pool: list[str]) -> Case:
    """Fewer samples than rows, so that mteb's sampling takes part."""
    files = {
        f"{split}.jsonl": [{"text": text, "value": len(text) / 100} for text in _spread(pool, 160, start)]
        for split, start in (("train", 0), ("test", 5))
    }
    dataset = DatasetDict({name.removesuffix(".jsonl"): _columns(rows) for name, rows in files.items()})
    options = {"n_samples": 100, "n_experiments": 2}
    reference = _own_task("AbsTaskRegression", "Regression", "kendalltau", dataset, **options)
    return Case(local_task("Regression", options=options), files, reference)


def _clustering(pool: list[str], *, levels: bool) -> Case:
    """One label a row, or an outer and an inner one."""
    rows: list[dict[str, Any]] = []
    for text in _spread(pool, 150):
        inner = _block(pool, text, 8)
        rows.append({"text": text, "label": [f"outer {inner // 3}", f"inner {inner}"] if levels else f"inner {inner}"})
    dataset = DatasetDict(test=_columns(rows, text="sentences", label="labels"))
    options = {"max_documents_per_cluster": 200, "n_clusters": 4}
    reference = _own_task(
        "AbsTaskClustering", "Clustering", "v_measure", dataset, max_fraction_of_documents_to_embed=None, **options
    )
    return Case(local_task("Clustering", options=options), {"test.jsonl": rows}, reference)


def _legacy_clustering(pool: list[str]) -> Case:
    """A registered task of the old generation: each row is a set of texts that is clustered on its own."""
    texts = _spread(pool, 180)
    sets = [texts[start::3] for start in range(3)]
    rows = [{"sentences": part, "labels": [f"block {_block(pool, text, 5)}" for text in part]} for part in sets]
    reference = _registered("TwentyNewsgroupsClustering", DatasetDict(test=_columns(rows)))
    assert type(reference).__mro__[1].__name__ == "AbsTaskClusteringLegacy"
    return Case({"mteb": "TwentyNewsgroupsClustering"}, {"test.jsonl": rows}, reference)


def _summarization(pool: list[str]) -> Case:
    texts = _spread(pool, 100)
    rows = [
        {
            "text": text,
            "human_summaries": [_half(text), _half(text, second=True)],
            "machine_summaries": [_half(texts[row - 1]), text, _half(texts[row - 2]), _half(_half(text))],
            "relevance": [float(1 + _number(f"{text}{number}", 9) / 2) for number in range(4)],
        }
        for row, text in enumerate(texts)
    ]
    dataset = DatasetDict(test=_columns(rows))
    reference = _own_task("AbsTaskSummarization", "Summarization", "cosine_spearman", dataset, min_score=1, max_score=5)
    return Case(local_task("Summarization"), {"test.jsonl": rows}, reference)


def _bitext(pool: list[str]) -> Case:
    rows = [{"sentence1": _half(text), "sentence2": _half(text, second=True)} for text in _spread(pool, 130)]
    reference = _own_task("AbsTaskBitextMining", "BitextMining", "f1", DatasetDict(test=_columns(rows)))
    return Case(local_task("BitextMining"), {"test.jsonl": rows}, reference)


def _parallel_bitext(pool: list[str]) -> Case:
    """Subsets that are language pairs of one table in mteb; on local data each pair has its own folder."""
    texts = _spread(pool, 110)
    table = {"asm_Beng": [_half(text) for text in texts], "ben_Beng": [_half(text, second=True) for text in texts]}
    pairs = [("asm_Beng", "ben_Beng"), ("ben_Beng", "asm_Beng")]
    files = {
        f"{first}-{second}/test.jsonl": [
            {"sentence1": one, "sentence2": other} for one, other in zip(table[first], table[second], strict=True)
        ]
        for first, second in pairs
    }
    subsets = [f"{first}-{second}" for first, second in pairs]
    reference = _registered("IN22GenBitextMining", DatasetDict(test=Dataset.from_dict(table)), hf_subsets=subsets)
    assert reference.parallel_subsets
    return Case({"mteb": "IN22GenBitextMining", "subsets": subsets}, files, reference)


def _multilingual_classification(pool: list[str]) -> Case:
    """One subset of a registered task with two splits, between which the task's sampler goes on."""
    files = {
        f"en/{split}.jsonl": [{"text": text, "label": _block(pool, text, 2)} for text in _spread(pool, 120, start)]
        for split, start in (("train", 0), ("validation", 4), ("test", 9))
    }
    dataset = {"en": DatasetDict({Path(name).stem: _columns(rows) for name, rows in files.items()})}
    reference = _registered("AmazonCounterfactualClassification", dataset, hf_subsets=["en"])
    reference.n_experiments = 2
    task = {"mteb": "AmazonCounterfactualClassification", "subsets": ["en"], "options": {"n_experiments": 2}}
    return Case(task, files, reference)


def _multilingual_clustering(pool: list[str]) -> Case:
    """Two subsets of a registered task, between which the task's sampler goes on."""
    files = {
        f"{subset}/test.jsonl": [
            {"text": text, "label": f"block {_block(pool, text, 5)}"} for text in _spread(pool, 120, start)
        ]
        for subset, start in (("deu_Latn", 0), ("eng_Latn", 6))
    }
    dataset = {
        Path(name).parts[0]: DatasetDict(test=_columns(rows, text="sentences", label="labels"))
        for name, rows in files.items()
    }
    reference = _registered("SIB200ClusteringS2S", dataset, hf_subsets=list(dataset))
    options = {"max_documents_per_cluster": 200, "max_document_to_embed": 100, "n_clusters": 4}
    for name, value in options.items():
        setattr(reference, name, value)
    return Case({"mteb": "SIB200ClusteringS2S", "subsets": list(dataset), "options": options}, files, reference)


CASES: dict[str, Callable[[list[str]], Case]] = {
    "Retrieval": lambda pool: _retrieval(pool, "Retrieval", "ndcg_at_10", rerank=False, instruct=False),
    "Reranking": lambda pool: _retrieval(pool, "Reranking", "map_at_1000", rerank=True, instruct=False),
    "InstructionRetrieval": lambda pool: _retrieval(
        pool, "InstructionRetrieval", "ndcg_at_20", rerank=False, instruct=True
    ),
    "InstructionReranking": lambda pool: _retrieval(
        pool, "InstructionReranking", "map_at_1000", rerank=True, instruct=True
    ),
    "STS": _sts,
    "PairClassification": _pair_classification,
    "Classification": _classification,
    "Classification, cross-validated": _cross_validation,
    "MultilabelClassification": _multilabel,
    "Regression": _regression,
    "Clustering": lambda pool: _clustering(pool, levels=False),
    "Clustering, two levels": lambda pool: _clustering(pool, levels=True),
    "Clustering, legacy": _legacy_clustering,
    "Summarization": _summarization,
    "BitextMining": _bitext,
    "BitextMining, parallel subsets": _parallel_bitext,
    "Classification, one subset of four": _multilingual_classification,
    "Clustering, two subsets": _multilingual_clustering,
}


# ---------------------------------------------------------------------------------------------------------- comparison


def same(ours: Any, expected: Any) -> bool:
    if isinstance(ours, float) and isinstance(expected, float):
        return math.isclose(ours, expected, abs_tol=TOLERANCE)
    return bool(ours == expected)


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Every number of nested scores by its path; what is undefined (NaN) as None."""
    if isinstance(value, Mapping):
        return {key: leaf for name, item in value.items() for key, leaf in flat(item, f"{path}/{name}").items()}
    if isinstance(value, list | tuple):
        return {key: leaf for row, item in enumerate(value) for key, leaf in flat(item, f"{path}/{row}").items()}
    if isinstance(value, str) or value is None:
        return {path: value}
    return {path: None if math.isnan(value) else float(value)}


def stored_scores(scores: Mapping[str, Sequence[SubsetScores]]) -> dict[str, Any]:
    """The stored scores by split and subset."""

    def row(entry: SubsetScores) -> dict[str, Any]:
        return {**entry.metrics, **entry.details, "main_score": entry.main_score, "hf_subset": entry.subset}

    return flat({split: {entry.subset: row(entry) for entry in entries} for split, entries in scores.items()})


def mteb_scores(scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """mteb's scores by split and subset. Languages are left out: local data declares none."""
    return flat(
        {
            split: {entry["hf_subset"]: {key: entry[key] for key in entry if key != "languages"} for entry in entries}
            for split, entries in scores.items()
        }
    )
