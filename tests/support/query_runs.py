"""Records of retrieval jobs whose scores are known, without any model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from evaluation.records.store import JobError, JobRecord

VERSIONS = {
    "mteb": "2.26.24",
    "scikit-learn": "1.9.1",
    "scipy": "1.17.1",
    "beir": "2.2.0",
    "pytrec-eval-terrier": "0.5.11",
}


def query_record(label: str, task: str, values: Sequence[float] | None, **changes: Any) -> JobRecord:
    """A retrieval job whose queries scored these nDCG@10; None: it failed."""
    side = {
        "prefix": changes.pop("prefix", "query: "),
        "normalize": changes.pop("normalize", True),
        "max_length": 512,
        "truncated": 0,
        "token_lengths": {"edges": [0, 8], "counts": [0, 10]},
    }
    model = {
        "name": changes.pop("model", f"org/{label.replace(' ', '-')}"),
        "revision": "r1",
        "weights_sha256": "w",
        "settings": {"dtype": "float32", "max_length": 512},
    }
    dataset = {"name": f"mteb/{task}", "revision": changes.pop("dataset_revision", "d1")}
    versions = {**VERSIONS, **changes.pop("versions", {})}
    fields: dict[str, Any] = {
        "state": "done" if values is not None else "failed",
        "protocol": "e5",
        "type": "Retrieval",
        "via": "mteb",
        "splits": ("test",),
        "subsets": ("default",),
        "metric": "ndcg_at_10",
        "timing": {"total_s": 1800.0, "encoding_s": 10.0, "tokens": 20_000},
        "audit": {"rules": {}, "sides": {"query": side}},
        "provenance": {"model": model, "dataset": dataset, "options": {}, "versions": versions, "hardware": {}},
        **changes,
    }
    if values is not None:
        score = sum(values) / len(values)
        entry = {"hf_subset": fields["subsets"][0], "main_score": score, "ndcg_at_10": score, "map_at_10": score / 2}
        fields |= {"main_score": score, "scores": {fields["splits"][0]: [entry]}}
    else:
        fields["error"] = JobError(kind="ModelError", message="the model broke")
    identity = hashlib.sha256(f"{label} {task} {sorted(changes.items())}".encode()).hexdigest()
    return JobRecord(label=label, task=task, fingerprint=identity, **fields)
